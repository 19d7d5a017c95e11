// SPDX-License-Identifier: PostgreSQL
//
// Accepting, the greeting from the listener's side, caps and duplicates; see inbound.hpp.
#include "inbound.hpp"

#include "network.hpp"

#include <boost/asio/ip/v6_only.hpp>

#include <fcntl.h>

#include <algorithm>
#include <system_error>

namespace pg_ha {

namespace asio = boost::asio;
using asio::ip::tcp;

namespace {

constexpr std::size_t strangers_max = 64;
constexpr std::size_t strangers_per_address_max = 8; // not on loopback, where all come from one
constexpr std::size_t links_per_peer_max = 4;        // half-open ones may linger beside the new one
constexpr auto alive_time = std::chrono::seconds(1); // heard within: a live process holds the link
constexpr auto accept_retry_delay = std::chrono::milliseconds(100);

std::string printed(const asio::ip::address &address) { return address.to_string(); }

std::string described(const Greeting &peer, const asio::ip::address &address) {
    return peer.id == NodeId::none ? "a connection from " + printed(address)
                                   : "peer \"" + peer.name + "\" at " + printed(address);
}

} // namespace

// ---- one connection ------------------------------------------------------------------------------

Inbound::Inbound(Listener &listener, tcp::socket socket, const asio::ip::address &address)
    : listener_(listener), address_(address),
      channel_(std::make_shared<Channel>(listener.network().shared(), *this, std::move(socket), Channel::Side::accepted)) {}

void Inbound::start() {
    const std::shared_ptr<Channel> channel = channel_;
    channel->start();
}

void Inbound::close() { channel_->close(); }

void Inbound::check_deadlines(SteadyClock::time_point now) {
    const std::shared_ptr<Channel> channel = channel_;
    channel->check_deadlines(now);
}

void Inbound::on_frame(std::string_view payload) {
    if (!channel_->established()) {
        greeted(payload);
        return;
    }
    last_heard_ = SteadyClock::now();
    const std::shared_ptr<Inbound> self = shared_from_this();
    if (listener_.network().receive(peer_, payload) || channel_->closed())
        return;
    close();
    listener_.remove(*this);
}

void Inbound::greeted(std::string_view payload) {
    Network &network = listener_.network();
    const std::shared_ptr<Inbound> self = shared_from_this();
    const std::optional<Greeting> theirs = decode_greeting(payload);
    if (!theirs) {
        on_closed({Closure::Cause::protocol, "its handshake was not understood",
                   "Install the same version of pg_ha on both servers."});
        channel_->close();
        return;
    }
    HandshakeRefusal refusal = judge(network.greeting(), *theirs);
    if (refusal == HandshakeRefusal::none && listener_.has_duplicate(*theirs))
        refusal = HandshakeRefusal::duplicate;
    channel_->queue(encode(Answer{refusal, network.greeting()}));
    if (refusal == HandshakeRefusal::none) {
        peer_ = *theirs;
        last_heard_ = SteadyClock::now();
        channel_->set_established();
        listener_.admitted(peer_);
        network.inbound_up(peer_.id);
        return;
    }
    if (refusal != HandshakeRefusal::itself)
        network.log(NetLogLevel::warning, "refuse/" + printed(address_) + "/" + theirs->name,
                    "refused " + described(*theirs, address_) + ": " + explain(refusal, network.greeting(), *theirs));
    channel_->flush(); // so that the other side can say it too
    close();
    listener_.remove(*this);
}

void Inbound::on_closed(const Closure &closure) {
    const std::shared_ptr<Inbound> self = shared_from_this();
    Network &network = listener_.network();
    const NodeId peer = peer_.id;
    listener_.remove(*this);
    const std::string line =
        closure.what + (closure.hint.empty() ? std::string() : ". " + closure.hint);
    if (peer != NodeId::none) {
        network.log(NetLogLevel::debug, {}, "link from " + described(peer_, address_) + " ended: " + line);
        if (closure.cause == Closure::Cause::peer)
            network.inbound_lost(peer);
        return;
    }
    // A connection that comes and goes without a word is a port scan or a peer's probe.
    const NetLogLevel level = closure.cause == Closure::Cause::peer ? NetLogLevel::debug : NetLogLevel::warning;
    network.log(level, "refuse/" + printed(address_), "refused " + described(peer_, address_) + ": " + line);
}

// ---- the port ------------------------------------------------------------------------------------

void Listener::open(const std::vector<tcp::endpoint> &endpoints) {
    for (const tcp::endpoint &endpoint : endpoints) {
        auto door = std::make_shared<Door>(Door{tcp::acceptor(network_.io()), asio::steady_timer(network_.io())});
        boost::system::error_code error;
        door->acceptor.open(endpoint.protocol(), error);
        if (!error)
            door->acceptor.set_option(tcp::acceptor::reuse_address(true), error);
        if (!error && endpoint.protocol() == tcp::v6() && endpoint.address().is_unspecified())
            door->acceptor.set_option(asio::ip::v6_only(false), error);
        if (!error)
            door->acceptor.bind(endpoint, error);
        if (!error)
            door->acceptor.listen(asio::socket_base::max_listen_connections, error);
        if (error)
            throw std::system_error(error.value(), std::generic_category(),
                                    "could not listen on " + printed(endpoint.address()) + ", port " +
                                        std::to_string(endpoint.port()));
        ::fcntl(door->acceptor.native_handle(), F_SETFD, FD_CLOEXEC);
        doors_.push_back(door);
    }
    for (const std::shared_ptr<Door> &door : doors_)
        accept(door);
}

void Listener::close() {
    closed_ = true;
    boost::system::error_code ignored;
    for (const std::shared_ptr<Door> &door : doors_) {
        door->acceptor.close(ignored);
        door->retry.cancel();
    }
    for (const std::shared_ptr<Inbound> &inbound : inbound_)
        inbound->close();
    inbound_.clear();
}

void Listener::accept(const std::shared_ptr<Door> &door) {
    door->acceptor.async_accept([self = shared_from_this(), door](const boost::system::error_code &error,
                                                                  tcp::socket socket) {
        if (self->closed_)
            return;
        if (!error || error == asio::error::connection_aborted) {
            if (!error)
                self->accepted(std::move(socket));
            if (!self->closed_)
                self->accept(door);
            return;
        }
        self->network_.log(NetLogLevel::warning, "accept", "could not accept a connection: " + error.message());
        door->retry.expires_after(accept_retry_delay);
        door->retry.async_wait([self, door](const boost::system::error_code &cancelled) {
            if (!cancelled && !self->closed_)
                self->accept(door);
        });
    });
}

void Listener::accepted(tcp::socket socket) {
    boost::system::error_code error;
    asio::ip::address address = socket.remote_endpoint(error).address();
    if (error)
        return; // gone already
    if (address.is_v6() && address.to_v6().is_v4_mapped())
        address = asio::ip::make_address_v4(asio::ip::v4_mapped, address.to_v6());
    if (!has_room(address)) {
        network_.log(NetLogLevel::warning, "crowd/" + printed(address),
                     "refused a connection from " + printed(address) +
                         ": too many connections that have not proven the cluster secret. Look who connects to this port.");
        return;
    }
    const Duration timeout = std::clamp<Duration>(15 * network_.heartbeat_interval(), std::chrono::seconds(2),
                                                  std::chrono::seconds(15));
    set_link_options(socket, timeout);
    inbound_.push_back(std::make_shared<Inbound>(*this, std::move(socket), address));
    const std::shared_ptr<Inbound> inbound = inbound_.back();
    inbound->start();
}

bool Listener::has_room(const asio::ip::address &address) const {
    std::size_t strangers = 0;
    std::size_t from_there = 0;
    for (const std::shared_ptr<Inbound> &inbound : inbound_) {
        if (inbound->established())
            continue;
        ++strangers;
        from_there += inbound->address() == address ? 1 : 0;
    }
    return strangers < strangers_max && (address.is_loopback() || from_there < strangers_per_address_max);
}

void Listener::check_deadlines(SteadyClock::time_point now) {
    const std::vector<std::shared_ptr<Inbound>> all(inbound_.begin(), inbound_.end());
    for (const std::shared_ptr<Inbound> &inbound : all)
        inbound->check_deadlines(now);
}

bool Listener::has_unsent() const {
    return std::any_of(inbound_.begin(), inbound_.end(), [](const std::shared_ptr<Inbound> &inbound) {
        return inbound->established() && inbound->channel()->has_unsent();
    });
}

std::shared_ptr<Channel> Listener::channel_of(NodeId peer) const {
    for (auto it = inbound_.rbegin(); it != inbound_.rend(); ++it)
        if ((*it)->established() && (*it)->peer().id == peer)
            return (*it)->channel();
    return nullptr;
}

bool Listener::has_duplicate(const Greeting &peer) const {
    const auto now = SteadyClock::now();
    const auto alive = std::max<SteadyClock::duration>(
        alive_time, std::chrono::duration_cast<SteadyClock::duration>(2 * network_.heartbeat_interval()));
    return std::any_of(inbound_.begin(), inbound_.end(), [&](const std::shared_ptr<Inbound> &inbound) {
        return inbound->established() && inbound->peer().id == peer.id && inbound->peer().nonce != peer.nonce &&
               now - inbound->last_heard() < alive;
    });
}

// Links of an earlier run of this peer, and more than a few of this run, are leftovers.
void Listener::admitted(const Greeting &peer) {
    std::size_t kept = 0;
    for (auto it = inbound_.end(); it != inbound_.begin();) {
        --it;
        const std::shared_ptr<Inbound> inbound = *it;
        if (!inbound->established() || inbound->peer().id != peer.id)
            continue;
        if (inbound->peer().nonce == peer.nonce && ++kept <= links_per_peer_max)
            continue;
        inbound->close();
        it = inbound_.erase(it);
    }
}

void Listener::remove(const Inbound &inbound) {
    std::erase_if(inbound_, [&inbound](const std::shared_ptr<Inbound> &each) { return each.get() == &inbound; });
}

} // namespace pg_ha
