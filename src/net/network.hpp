// SPDX-License-Identifier: PostgreSQL
//
// Everything that exists while the port is open: the dialled links, the listener with its inbound
// links, and what they share.  Decides which link a message takes, which peers are dialled, and
// looks at all deadlines with one coarse timer.
#pragma once

#include "channel.hpp"
#include "handshake.hpp"
#include "log_limiter.hpp"
#include "tls_psk.hpp"

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>

#include <random>

namespace pg_ha {

class Link;
class Listener;

class Network : public std::enable_shared_from_this<Network> {
public:
    Network(boost::asio::io_context &io, const NetCallbacks &callbacks, const NetOptions &options);
    ~Network();
    Network(const Network &) = delete;
    Network &operator=(const Network &) = delete;

    void start(); // begin to dial
    void send(const Message &message);
    void set_peers(const std::vector<Member> &members);
    void flush_dirty();
    bool has_unsent() const;

    // For the links:
    boost::asio::io_context &io() { return shared_.io; }
    ChannelShared &shared() { return shared_; }
    const NetCallbacks &callbacks() const { return callbacks_; }
    const Greeting &greeting() const { return greeting_; }
    Duration heartbeat_interval() const { return options_.heartbeat_interval; }
    void log(NetLogLevel level, const std::string &key, const std::string &line) { log_.log(level, key, line); }
    void forget_log(const std::string &key) { log_.forget(key); }
    std::uint32_t random() { return random_(); }
    // A frame from an established channel whose handshake named `peer`.  False: it broke the rules; close it.
    bool receive(const Greeting &peer, std::string_view payload);
    const Link *established_link(NodeId peer) const;
    // This peer dialled us and passed the handshake: it is there, so dial it too.
    void inbound_up(NodeId peer);
    // An inbound link from this peer was closed by the peer's kernel.
    void inbound_lost(NodeId peer);
    void peer_gone(NodeId peer, const std::string &name);

private:
    void start_tick();
    std::shared_ptr<Channel> route(NodeId peer);

    const NetCallbacks &callbacks_;
    const NetOptions options_;
    const TlsPsk tls_;
    ChannelShared shared_;
    const Greeting greeting_;
    LogLimiter log_;
    std::mt19937 random_;
    std::vector<std::shared_ptr<Channel>> spare_; // memory for flush_dirty
    std::vector<std::shared_ptr<Link>> links_;
    std::shared_ptr<Listener> listener_;
    boost::asio::steady_timer tick_;
};

// On every connection: no delay, and half-open links end (`timeout`: unanswered data).
void set_link_options(boost::asio::ip::tcp::socket &socket, Duration timeout);

} // namespace pg_ha
