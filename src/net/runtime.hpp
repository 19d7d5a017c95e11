// SPDX-License-Identifier: PostgreSQL
//
// The network as its users see it; no Boost type shows.  One thread calls everything here.
//
// Each node dials every peer and sends on the link it dialled, so a pair of nodes has two TCP
// connections.  Only while there is no dialled link, send() answers on the link the peer dialled
// (how a node that is no member yet hears why it was refused).  TLS 1.3, both sides proven by the
// cluster secret (external PSK with ECDHE); there is no plaintext mode.  After TLS comes one
// handshake (Hello/Welcome: version range, cluster id, node id, name, system identifier), then
// frames: 4-byte length <= 64 KiB, checked before allocation, then one encoded Message.
#pragma once

#include "agent/ports.hpp"

#include <array>
#include <functional>
#include <memory>

namespace pg_ha {

// The cluster secret: proves membership, names the cluster.  File: 0600, lines "cluster <32 hex>"
// and "secret <64 hex>".  Lies inside PGDATA so that every clone has it.
struct ClusterSecret {
    ClusterId cluster;
    std::array<std::uint8_t, 32> key{};
};
ClusterSecret make_secret();                              // from the kernel's random numbers
void write_secret(const std::string &path, const ClusterSecret &secret); // O_EXCL, 0600, fsync; throws
ClusterSecret read_secret(const std::string &path);       // throws std::runtime_error with the reason (mode, owner, form)

struct NetOptions {
    ClusterSecret secret;
    std::vector<std::string> listen_addresses; // numeric, "*" or "localhost"; empty: no listener
    std::uint16_t port = 7432;
    std::vector<Endpoint> seeds;
    NodeId self = NodeId::none;
    std::string node_name;
    std::uint64_t system_identifier = 0;
    Duration heartbeat_interval = std::chrono::milliseconds(200); // pacing of reconnects
};

enum class NetLogLevel { debug, info, warning };

struct NetCallbacks {
    std::function<void(const Message &)> received;   // authenticated; from == the handshake's node id
    std::function<void(NodeId, const std::string &name)> link_up; // dialled link passed the handshake
    std::function<void(NodeId)> peer_gone;           // reset or closed, and reconnect refused
    std::function<void(NetLogLevel, const std::string &)> log; // one line, rate-limited per peer and cause
};

class Runtime final : public Clock, public Transport {
public:
    explicit Runtime(NetCallbacks callbacks);
    ~Runtime() override;

    // Opens the port and starts dialling.  Throws std::system_error if the port can't be bound.
    // Before this only watch(), arm() and run_one() work.
    void open(const NetOptions &options);
    void close(); // port and links; watches and the timer stay
    bool is_open() const;

    // Call `ready` whenever fd is readable.  The fd stays the caller's, but becomes non-blocking.
    void watch(int fd, std::function<void()> ready);
    // Call `expired` once at `when` (CLOCK_BOOTTIME); arming again replaces it.
    void arm(Instant when, std::function<void()> expired);
    // Wait for and run at least one handler.
    void run_one();
    // Run ready handlers for at most `limit`, until all queued frames are handed to the kernel.
    void flush(Duration limit);

    Instant now() override;
    void send(const Message &message) override;
    void set_peers(const std::vector<Member> &members) override;

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

} // namespace pg_ha
