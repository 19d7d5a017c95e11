// SPDX-License-Identifier: PostgreSQL
//
// The open port: accepts, counts strangers, greets, and receives what peers send on the links that
// they dialled.  Before a connection has proven the secret it costs one small object, a place among
// 64, and two seconds at most.
//
// Two processes with one identity are found here: a second connection from a node id with another
// nonce, while the first was heard a moment ago.
#pragma once

#include "channel.hpp"
#include "handshake.hpp"

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>

#include <list>

namespace pg_ha {

class Network;
class Listener;

class Inbound : public ChannelUser, public std::enable_shared_from_this<Inbound> {
public:
    Inbound(Listener &listener, boost::asio::ip::tcp::socket socket, const boost::asio::ip::address &address);

    void start();
    void close();
    void check_deadlines(SteadyClock::time_point now);

    const Greeting &peer() const { return peer_; }
    const boost::asio::ip::address &address() const { return address_; }
    bool established() const { return channel_->established(); }
    SteadyClock::time_point last_heard() const { return last_heard_; }
    const std::shared_ptr<Channel> &channel() const { return channel_; }

    void on_secured() override {}
    void on_frame(std::string_view payload) override;
    void on_closed(const Closure &closure) override;

private:
    void greeted(std::string_view payload);

    Listener &listener_;
    const boost::asio::ip::address address_;
    std::shared_ptr<Channel> channel_;
    Greeting peer_;
    SteadyClock::time_point last_heard_;
};

class Listener : public std::enable_shared_from_this<Listener> {
public:
    explicit Listener(Network &network) : network_(network) {}

    // Throws std::system_error, with the address in its text, if one can't be bound.
    void open(const std::vector<boost::asio::ip::tcp::endpoint> &endpoints);
    void close();
    void check_deadlines(SteadyClock::time_point now);
    bool has_unsent() const;
    // The newest link that this peer dialled; null: none.
    std::shared_ptr<Channel> channel_of(NodeId peer) const;

    // For Inbound:
    Network &network() { return network_; }
    bool has_duplicate(const Greeting &peer) const;
    void admitted(const Greeting &peer);
    void remove(const Inbound &inbound);

private:
    struct Door {
        boost::asio::ip::tcp::acceptor acceptor;
        boost::asio::steady_timer retry; // after running out of descriptors
    };

    void accept(const std::shared_ptr<Door> &door);
    void accepted(boost::asio::ip::tcp::socket socket);
    bool has_room(const boost::asio::ip::address &address) const;

    Network &network_;
    std::vector<std::shared_ptr<Door>> doors_;
    std::list<std::shared_ptr<Inbound>> inbound_; // oldest first
    bool closed_ = false;
};

} // namespace pg_ha
