// SPDX-License-Identifier: PostgreSQL
//
// Links, listener and what is common to both; see network.hpp.
#include "network.hpp"

#include "inbound.hpp"
#include "link.hpp"

#include "agent/codec.hpp"

#include <fcntl.h>
#include <netinet/tcp.h>

#include <algorithm>

namespace pg_ha {

namespace asio = boost::asio;

namespace {

constexpr auto tick_interval = std::chrono::milliseconds(500); // deadlines of 2 s end within 2.5 s

Greeting make_greeting(const NetOptions &options, std::uint64_t nonce) {
    Greeting greeting;
    greeting.cluster = options.secret.cluster;
    greeting.id = options.self;
    greeting.name = options.node_name;
    greeting.system_identifier = options.system_identifier;
    greeting.nonce = nonce;
    return greeting;
}

std::uint64_t random_nonce() { return make_secret().cluster.low; }

} // namespace

Network::Network(asio::io_context &io, const NetCallbacks &callbacks, const NetOptions &options)
    : callbacks_(callbacks), options_(options), tls_(options.secret), shared_{io, tls_, {}, {}, 0},
      greeting_(make_greeting(options, random_nonce())), log_(callbacks.log),
      random_(static_cast<std::uint32_t>(random_nonce())), tick_(io) {
    if (!options.listen_addresses.empty()) {
        listener_ = std::make_shared<Listener>(*this);
        try {
            listener_->open(listen_endpoints(options.listen_addresses, options.port));
        } catch (...) {
            listener_->close();
            throw;
        }
    }
}

void Network::start() {
    set_peers({});
    start_tick();
}

Network::~Network() {
    tick_.cancel();
    for (const std::shared_ptr<Link> &link : links_)
        link->close();
    if (listener_)
        listener_->close();
}

void Network::start_tick() {
    tick_.expires_after(tick_interval);
    tick_.async_wait([weak = weak_from_this()](const boost::system::error_code &cancelled) {
        const std::shared_ptr<Network> self = weak.lock();
        if (cancelled || !self)
            return;
        self->start_tick();
        const auto now = SteadyClock::now();
        const std::vector<std::shared_ptr<Link>> links = self->links_;
        for (const std::shared_ptr<Link> &link : links)
            link->check_deadlines(now);
        if (self->listener_)
            self->listener_->check_deadlines(now);
    });
}

// ---- peers ---------------------------------------------------------------------------------------

void Network::set_peers(const std::vector<Member> &members) {
    std::vector<Endpoint> wanted;
    const auto want = [&wanted](const Endpoint &endpoint) {
        if (!endpoint.host.empty() && endpoint.port != 0 &&
            std::find(wanted.begin(), wanted.end(), endpoint) == wanted.end())
            wanted.push_back(endpoint);
    };
    for (const Member &member : members)
        if (member.id != options_.self)
            want(member.peer);
    for (const Endpoint &seed : options_.seeds)
        want(seed);
    std::erase_if(links_, [&wanted](const std::shared_ptr<Link> &link) {
        if (std::find(wanted.begin(), wanted.end(), link->endpoint()) != wanted.end())
            return false;
        link->close();
        return true;
    });
    for (const Endpoint &endpoint : wanted) {
        const auto same = [&endpoint](const std::shared_ptr<Link> &link) { return link->endpoint() == endpoint; };
        if (std::any_of(links_.begin(), links_.end(), same))
            continue;
        links_.push_back(std::make_shared<Link>(*this, endpoint));
        const std::shared_ptr<Link> link = links_.back();
        link->start();
    }
}

const Link *Network::established_link(NodeId peer) const {
    for (const std::shared_ptr<Link> &link : links_)
        if (link->established() && link->peer() == peer)
            return link.get();
    return nullptr;
}

void Network::inbound_up(NodeId peer) {
    const std::vector<std::shared_ptr<Link>> links = links_;
    for (const std::shared_ptr<Link> &link : links)
        if (link->peer() == peer)
            link->peer_is_back();
}

void Network::inbound_lost(NodeId peer) {
    const std::vector<std::shared_ptr<Link>> links = links_;
    for (const std::shared_ptr<Link> &link : links)
        if (link->peer() == peer)
            link->suspect();
}

void Network::peer_gone(NodeId peer, const std::string &name) {
    log_.log(NetLogLevel::info, "gone/" + name, "peer \"" + name + "\" is gone: its host refuses connections");
    if (callbacks_.peer_gone)
        callbacks_.peer_gone(peer);
}

// ---- messages ------------------------------------------------------------------------------------

std::shared_ptr<Channel> Network::route(NodeId peer) {
    if (const Link *link = established_link(peer))
        return link->channel();
    return listener_ ? listener_->channel_of(peer) : nullptr;
}

void Network::send(const Message &message) {
    const std::shared_ptr<Channel> channel = route(message.to);
    if (!channel)
        return;
    // The receiver would close the link over these; that would hide whose mistake it is.
    if (message.from != greeting_.id || message.cluster != greeting_.cluster) {
        log_.log(NetLogLevel::warning, "send", "message of another node or cluster not sent. This is a bug in pg_ha.");
        return;
    }
    const std::string bytes = encode(message);
    if (bytes.size() > frame_bytes_max) {
        log_.log(NetLogLevel::warning, "large", "message of " + std::to_string(bytes.size()) +
                                                    " bytes not sent: it is too large. This is a bug in pg_ha.");
        return;
    }
    if (!channel->queue(bytes))
        log_.log(NetLogLevel::debug, {}, "message dropped: its receiver does not take what is queued (" +
                                             std::to_string(shared_.frames_dropped) + " so far)");
}

bool Network::receive(const Greeting &peer, std::string_view payload) {
    const std::optional<Message> message = decode_message(payload);
    if (!message) {
        log_.log(NetLogLevel::debug, {}, "message from peer \"" + peer.name + "\" not understood");
        return true; // perhaps of a later version
    }
    if (message->from != peer.id || message->to != greeting_.id || message->cluster != greeting_.cluster) {
        log_.log(NetLogLevel::warning, "forged/" + peer.name,
                 "closed the link with peer \"" + peer.name +
                     "\": it sent a message with another sender, receiver or cluster than its handshake named. "
                     "Check that server; nobody should speak for another.");
        return false;
    }
    if (callbacks_.received)
        callbacks_.received(*message);
    return true;
}

void Network::flush_dirty() {
    while (!shared_.dirty.empty()) {
        std::vector<std::shared_ptr<Channel>> batch = std::move(spare_);
        batch.swap(shared_.dirty);
        for (const std::shared_ptr<Channel> &channel : batch)
            channel->flush();
        batch.clear();
        spare_ = std::move(batch);
    }
}

bool Network::has_unsent() const {
    return (listener_ && listener_->has_unsent()) ||
           std::any_of(links_.begin(), links_.end(), [](const std::shared_ptr<Link> &link) {
               return link->established() && link->channel()->has_unsent();
           });
}

void set_link_options(asio::ip::tcp::socket &socket, Duration timeout) {
    boost::system::error_code ignored; // each is an improvement, none a condition
    socket.native_non_blocking(true, ignored);
    socket.set_option(asio::ip::tcp::no_delay(true), ignored);
    socket.set_option(asio::socket_base::keep_alive(true), ignored);
    const int fd = socket.native_handle();
    const auto set = [fd](int option, int value) { ::setsockopt(fd, IPPROTO_TCP, option, &value, sizeof(value)); };
    const auto timeout_ms = static_cast<int>(std::chrono::duration_cast<std::chrono::milliseconds>(timeout).count());
    set(TCP_USER_TIMEOUT, timeout_ms);
    set(TCP_KEEPIDLE, 2);
    set(TCP_KEEPINTVL, 1);
    set(TCP_KEEPCNT, 3);
    ::fcntl(fd, F_SETFD, FD_CLOEXEC);
}

} // namespace pg_ha
