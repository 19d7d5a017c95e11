// SPDX-License-Identifier: PostgreSQL
//
// A link that we dial, and dial again for as long as the peer is wanted.  Also the witness of hard
// evidence: an established link that the peer's kernel closed or reset, and a reconnect that its
// kernel refuses, mean that nobody is there any more (peer_gone).  Silence, timeouts and our own
// deadlines never mean that, and neither does a peer that accepts again.  Only the address where the
// peer was counts: another address of the same name may refuse for reasons of its own.
//
// The first reconnect after such a loss starts at once, since it is the failover's first step;
// later ones are paced by the heartbeat interval with jitter, at most one a second.  So are links that
// come up and are closed again at once, whoever is to blame.
#pragma once

#include "channel.hpp"
#include "handshake.hpp"
#include "resolver.hpp"

#include <boost/asio/steady_timer.hpp>

namespace pg_ha {

class Network;

class Link : public ChannelUser, public std::enable_shared_from_this<Link> {
public:
    Link(Network &network, Endpoint endpoint);

    void start() { dial(false); }
    void close();
    void check_deadlines(SteadyClock::time_point now);
    // The peer dialled us: no need to wait any longer.
    void peer_is_back();
    // The peer's inbound link was closed by its kernel: find out what that means.
    void suspect();

    const Endpoint &endpoint() const { return endpoint_; }
    bool established() const { return state_ == State::established; }
    NodeId peer() const { return peer_.id; } // as of the last handshake
    const std::shared_ptr<Channel> &channel() const { return channel_; }

    void on_secured() override;
    void on_frame(std::string_view payload) override;
    void on_closed(const Closure &closure) override;

private:
    enum class State {
        waiting,     // for the timer, then dial
        connecting,  // TCP
        greeting,    // TLS and handshake
        established,
        parked,      // another link leads to the same peer; wait until that one is lost
        itself,      // our own address
        closed,
    };

    void dial(bool last_address_failed);
    void connected(const boost::system::error_code &error);
    void connect_failed(const boost::system::error_code &error);
    void greeted(std::string_view payload);
    void established_lost(const Closure &closure);
    void wait_and_dial(Duration delay, bool last_address_failed);
    void refused(const std::string &what);
    void probe();
    void gone();
    Duration pace();
    Duration pace_refused();
    std::string address() const;
    std::string describe() const;

    Network &network_;
    const Endpoint endpoint_;
    Resolver resolver_;
    State state_ = State::waiting;
    boost::asio::ip::tcp::socket socket_; // while connecting
    boost::asio::steady_timer timer_;     // the next dial, or the end of patience while connecting
    std::shared_ptr<Channel> channel_;
    Greeting peer_;
    boost::asio::ip::tcp::endpoint target_; // of the latest dial
    boost::asio::ip::tcp::endpoint home_;   // where the peer was when the link was last established
    bool lost_ = false;           // was established, then closed by the peer's kernel; not back since
    bool gone_told_ = false;      // of the present loss
    SteadyClock::time_point established_at_;
    unsigned short_lives_ = 0;    // in a row: established, but not for long
    unsigned failures_ = 0;       // in a row
    unsigned refusals_ = 0;       // in a row: connected, but the handshake failed
};

} // namespace pg_ha
