// SPDX-License-Identifier: PostgreSQL
//
// Dialling, the greeting from the dialler's side, and what a loss means; see link.hpp.
#include "link.hpp"

#include "network.hpp"

#include <algorithm>

namespace pg_ha {

namespace asio = boost::asio;
using asio::ip::tcp;
using std::chrono::milliseconds;
using std::chrono::seconds;

namespace {

constexpr Duration connect_patience = seconds(1); // then a fresh SYN is likelier to arrive than a retransmitted one
constexpr Duration pace_max = seconds(1);
constexpr Duration pace_min = milliseconds(50);
constexpr Duration pace_refused_max = seconds(10);
constexpr auto short_life = seconds(1);
constexpr unsigned short_lives_max = 3; // then even a loss is followed by a pause
constexpr unsigned hasty_dials_max = 8; // while a dying peer's kernel still accepts, 1 ms to 128 ms apart

SteadyClock::duration steady(Duration duration) { return std::chrono::duration_cast<SteadyClock::duration>(duration); }

Duration link_timeout(Duration heartbeat_interval) {
    return std::clamp<Duration>(15 * heartbeat_interval, seconds(2), seconds(15));
}

} // namespace

Link::Link(Network &network, Endpoint endpoint)
    : network_(network), endpoint_(std::move(endpoint)), resolver_(endpoint_), socket_(network.io()),
      timer_(network.io()) {}

void Link::close() {
    state_ = State::closed;
    if (channel_)
        channel_->close();
    channel_.reset();
    boost::system::error_code ignored;
    socket_.close(ignored);
    timer_.cancel();
}

void Link::dial(bool last_address_failed) {
    state_ = State::connecting;
    const tcp::endpoint *target = resolver_.next(last_address_failed);
    if (target == nullptr) {
        if (!resolver_.error().empty())
            network_.log(NetLogLevel::warning, "name/" + address(),
                         "could not resolve host name of peer " + address() + ": " + resolver_.error() +
                             ". Check pg_ha.peers, or use a numeric address.");
        wait_and_dial(pace(), true);
        return;
    }
    target_ = lost_ && !last_address_failed ? home_ : *target;
    boost::system::error_code error;
    socket_ = tcp::socket(network_.io());
    socket_.open(target_.protocol(), error);
    if (error) {
        connect_failed(error);
        return;
    }
    set_link_options(socket_, link_timeout(network_.heartbeat_interval()));
    socket_.async_connect(target_,
                          [self = shared_from_this()](const boost::system::error_code &result) { self->connected(result); });
    timer_.expires_after(steady(connect_patience));
    timer_.async_wait([self = shared_from_this()](const boost::system::error_code &cancelled) {
        if (!cancelled && self->state_ == State::connecting) {
            boost::system::error_code ignored;
            self->socket_.close(ignored); // connected() hears of it
        }
    });
}

void Link::connected(const boost::system::error_code &error) {
    if (state_ != State::connecting)
        return;
    timer_.cancel();
    if (error) {
        connect_failed(error);
        return;
    }
    state_ = State::greeting;
    channel_ = std::make_shared<Channel>(network_.shared(), *this, std::move(socket_), Channel::Side::dialled);
    const std::shared_ptr<Channel> channel = channel_;
    channel->start();
}

void Link::connect_failed(const boost::system::error_code &error) {
    const bool refused_by_kernel = error == asio::error::connection_refused;
    network_.log(NetLogLevel::debug, {}, "could not connect to peer " + describe() + ": " + error.message());
    ++failures_;
    wait_and_dial(pace(), true);
    if (refused_by_kernel && lost_ && target_ == home_)
        gone();
}

void Link::on_secured() { channel_->queue(encode(network_.greeting())); }

void Link::on_frame(std::string_view payload) {
    if (state_ == State::greeting)
        greeted(payload);
    else if (!network_.receive(peer_, payload)) // may have closed this link
        if (state_ == State::established)
            refused("it broke the protocol");
}

void Link::greeted(std::string_view payload) {
    const std::optional<Answer> answer = decode_answer(payload);
    if (!answer) {
        refused("its handshake was not understood. Install the same version of pg_ha on both servers.");
        return;
    }
    const Greeting &mine = network_.greeting();
    HandshakeRefusal refusal = answer->refusal;
    const bool theirs = refusal != HandshakeRefusal::none;
    if (!theirs)
        refusal = judge(mine, answer->from);
    if (refusal == HandshakeRefusal::itself && answer->from.nonce == mine.nonce) {
        channel_->close();
        channel_.reset();
        state_ = State::itself;
        return;
    }
    if (refusal != HandshakeRefusal::none) {
        refused((theirs ? "it refused this node: " : "refused by this node: ") + explain(refusal, mine, answer->from));
        return;
    }
    if (network_.established_link(answer->from.id) != nullptr) {
        peer_ = answer->from;
        channel_->close();
        channel_.reset();
        state_ = State::parked;
        return;
    }
    peer_ = answer->from;
    channel_->set_established();
    state_ = State::established;
    established_at_ = SteadyClock::now();
    home_ = target_;
    lost_ = gone_told_ = false;
    failures_ = refusals_ = 0;
    network_.forget_log("refused/" + address());
    network_.log(NetLogLevel::info, "up/" + address(), "connected to peer " + describe());
    if (network_.callbacks().link_up)
        network_.callbacks().link_up(peer_.id, peer_.name);
}

// The peer is there, but no peer of ours.
void Link::refused(const std::string &what) {
    network_.log(NetLogLevel::warning, "refused/" + address(), "no link to peer " + describe() + ": " + what);
    if (channel_)
        channel_->close();
    channel_.reset();
    lost_ = false;
    ++refusals_;
    wait_and_dial(pace_refused(), false);
}

void Link::on_closed(const Closure &closure) {
    const bool by_peer = closure.cause == Closure::Cause::peer;
    channel_.reset();
    if (state_ == State::established) {
        established_lost(closure);
        return;
    }
    if (closure.cause == Closure::Cause::secret || closure.cause == Closure::Cause::protocol) {
        refused(closure.what + (closure.hint.empty() ? "" : ". " + closure.hint));
        return;
    }
    ++failures_;
    // A dying process's kernel may still accept for a moment: ask again until it refuses.
    const bool hasty = lost_ && by_peer && !gone_told_ && failures_ <= hasty_dials_max;
    wait_and_dial(hasty ? Duration(milliseconds(1 << (failures_ - 1))) : pace(), false);
}

void Link::established_lost(const Closure &closure) {
    if (SteadyClock::now() - established_at_ < short_life) {
        ++short_lives_;
    } else {
        short_lives_ = 0;
        for (const char *cause : {"up/", "lost/"})
            network_.forget_log(cause + address());
        network_.forget_log("gone/" + peer_.name);
    }
    network_.log(NetLogLevel::info, "lost/" + address(), "lost link to peer " + describe() + ": " + closure.what);
    failures_ = 0;
    lost_ = closure.cause == Closure::Cause::peer;
    if (lost_ && short_lives_ <= short_lives_max)
        dial(false);
    else
        wait_and_dial(pace(), false);
}

void Link::wait_and_dial(Duration delay, bool last_address_failed) {
    state_ = State::waiting;
    timer_.expires_after(steady(delay));
    timer_.async_wait([self = shared_from_this(), last_address_failed](const boost::system::error_code &cancelled) {
        if (!cancelled && self->state_ == State::waiting)
            self->dial(last_address_failed);
    });
}

void Link::check_deadlines(SteadyClock::time_point now) {
    if (state_ == State::parked && network_.established_link(peer_.id) == nullptr)
        dial(false);
    else if (const std::shared_ptr<Channel> channel = channel_)
        channel->check_deadlines(now);
}

void Link::peer_is_back() {
    if (state_ == State::established)
        return;
    lost_ = gone_told_ = false;
    failures_ = 0;
    if (state_ == State::waiting)
        dial(false);
}

void Link::suspect() {
    switch (state_) {
    case State::established:
        probe();
        break;
    case State::waiting:
        lost_ = true;
        dial(false);
        break;
    case State::connecting:
    case State::greeting:
        lost_ = true;
        break;
    case State::parked:
    case State::itself:
    case State::closed:
        break;
    }
}

// Our link still stands, but the peer's own ended: does anybody accept there?
void Link::probe() {
    auto socket = std::make_shared<tcp::socket>(network_.io());
    socket->async_connect(home_, [self = shared_from_this(), socket](const boost::system::error_code &error) {
        if (self->state_ != State::closed && error == asio::error::connection_refused)
            self->gone();
    });
}

void Link::gone() {
    if (std::exchange(gone_told_, true))
        return;
    network_.peer_gone(peer_.id, peer_.name);
}

// 50 % to 100 % of the heartbeat interval at first, growing to at most one second.
Duration Link::pace() {
    const Duration base = std::clamp<Duration>(network_.heartbeat_interval(), pace_min, pace_max);
    const Duration grown = std::min<Duration>(base * (1 + std::min(failures_, 20U) / 2), pace_max);
    return grown / 2 + grown / 2 * (network_.random() % 1000) / 1000;
}

Duration Link::pace_refused() {
    const Duration grown = std::min<Duration>(seconds(1U << std::min(refusals_, 5U)) / 2, pace_refused_max);
    return grown / 2 + grown / 2 * (network_.random() % 1000) / 1000;
}

std::string Link::address() const {
    const bool colons = endpoint_.host.find(':') != std::string::npos;
    return (colons ? "[" + endpoint_.host + "]" : endpoint_.host) + ":" + std::to_string(endpoint_.port);
}

std::string Link::describe() const {
    return peer_.id == NodeId::none ? address() : "\"" + peer_.name + "\" at " + address();
}

} // namespace pg_ha
