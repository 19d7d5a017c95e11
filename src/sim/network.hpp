// SPDX-License-Identifier: PostgreSQL
//
// The wires.  Peer links behave as net/runtime.hpp promises: each host dials every peer, messages are
// in order per direction, a lost message breaks the connection and what is in flight with it, and
// PeerGone is said only when a kernel answered that nobody is there: never for silence.  A blackholed
// direction holds data back, as TCP does; after the cut it arrives late, or the connection breaks.
// Some seeds draw what TCP never does: messages that overtake others, or arrive twice.
#pragma once

#include "agent/ports.hpp"
#include "options.hpp"

#include <deque>
#include <vector>

namespace pg_ha::sim {

class World;

enum class Plane : std::uint8_t { peers = 0, replication = 1 };

class Network {
public:
    explicit Network(World &world) : world_(world) {}

    // -- paths, one per plane and direction
    bool open(Plane plane, int from, int to) const { return cuts_[index(plane)][from][to] == 0; }
    bool open_both(Plane plane, int a, int b) const { return open(plane, a, b) && open(plane, b, a); }
    void cut(Plane plane, int from, int to) { cuts_[index(plane)][from][to]++; }
    void uncut(Plane plane, int from, int to);
    void slow(int from, int to, Time extra) { extra_[from][to] = extra; }
    Time latency(int from, int to);

    // -- peer links
    void send(int from, const Message &message, Time held_back);
    void want(int from, unsigned hosts); // bit mask: hold links to these
    void worker_started(int host);
    void worker_died(int host); // its kernel says so to those connected
    void powered_off(int host); // nobody says anything
    void powered_on(int host);
    void break_link(int dialler, int acceptor);

private:
    struct Link {
        bool wanted = false;
        bool up = false;
        bool reset = false;           // was reset and not yet connected again: a refusal now means gone
        std::uint32_t generation = 0; // raised when the connection breaks: in-flight data is lost
        std::uint32_t attempt = 0;    // the newest attempt to dial; older ones are void
        NodeId dialler_id = NodeId::none;
        NodeId acceptor_id = NodeId::none;
        std::uint32_t dialler_epoch = 0;
        std::uint32_t acceptor_epoch = 0;
        Time fifo[2] = {0, 0};              // arrival of the newest message, forward and backward
        std::vector<std::uint32_t> held[2]; // arrived at a cut, in order
    };
    struct Flight { // one message under way
        std::uint32_t slot;
        std::int8_t dialler, acceptor;
        bool forward;
        std::uint32_t generation;
    };

    static std::size_t index(Plane plane) { return static_cast<std::size_t>(plane); }
    Link &link(int dialler, int acceptor) { return links_[dialler][acceptor]; }
    bool happens(double chance);
    void transmit(Flight flight, Time held_back);
    void arrive(Flight flight);
    void release_held(int from, int to);
    void flush_held(int dialler, int acceptor, bool forward);
    void reset_link(int dialler, int acceptor);
    void dial(int dialler, int acceptor, Time delay);
    void attempt(int dialler, int acceptor, std::uint32_t number);
    void established(int dialler, int acceptor, std::uint32_t number);
    std::uint32_t take(const Message &message);
    void release(std::uint32_t slot) { free_.push_back(slot); }

    World &world_;
    int cuts_[2][hosts_max][hosts_max] = {};
    Time extra_[hosts_max][hosts_max] = {};
    Link links_[hosts_max][hosts_max];
    std::deque<Event> messages_; // slots, each a Received; addresses stay
    std::vector<std::uint32_t> free_;
};

} // namespace pg_ha::sim
