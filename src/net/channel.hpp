// SPDX-License-Identifier: PostgreSQL
//
// One TLS connection that carries frames, whoever dialled it.  Does the TLS handshake, queues and
// coalesces what is to be sent, cuts what arrives into frames, and says once why it ended.
//
// OpenSSL works on the bytes that Asio received and sends by itself: per message that is one recv
// and one send, and no other system call (a wait for readiness would cost an epoll_ctl each time).
// Sending is deferred: queue() marks the channel as dirty, and Network::flush_dirty() writes
// everything queued for it at once before the loop sleeps.
//
// Every callback may close or destroy the channel's owner: nothing of this object is touched after
// a callback unless `closed_` was looked at.
#pragma once

#include "framing.hpp"
#include "tls_psk.hpp"

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>

#include <array>
#include <chrono>
#include <memory>
#include <vector>

namespace pg_ha {

class Channel;
using SteadyClock = std::chrono::steady_clock;

// What all channels of a Network share.
struct ChannelShared {
    boost::asio::io_context &io;
    const TlsPsk &tls;
    std::vector<char> scratch;                   // plaintext as it arrives
    std::vector<std::shared_ptr<Channel>> dirty; // have queued frames
    std::uint64_t frames_dropped = 0;            // queue was full
};

// Why a channel ended.
struct Closure {
    enum class Cause {
        peer,     // closed or reset by the peer's kernel
        silence,  // our own timeout, or the network's
        secret,   // the TLS handshake failed
        protocol, // the peer broke the rules of the protocol
    };
    Cause cause;
    std::string what;
    std::string hint; // a sentence, or empty
};

class ChannelUser {
public:
    virtual ~ChannelUser() = default;
    virtual void on_secured() = 0;
    virtual void on_frame(std::string_view payload) = 0;
    virtual void on_closed(const Closure &closure) = 0; // last call; not after close()
};

inline constexpr std::size_t queued_frames_max = 256;
inline constexpr std::size_t queued_bytes_max = 1 << 20;
inline constexpr auto handshake_deadline = std::chrono::seconds(2); // TLS and greeting together
inline constexpr auto frame_deadline = std::chrono::seconds(2);

class Channel : public std::enable_shared_from_this<Channel> {
public:
    enum class Side { dialled, accepted };

    // The socket is connected and non-blocking.  user must live until on_closed() or close().
    Channel(ChannelShared &shared, ChannelUser &user, boost::asio::ip::tcp::socket socket, Side side);

    void start();
    // Greeting done: large frames are welcome from now on.
    void set_established();
    // False: dropped, since the peer doesn't take what is already queued.
    bool queue(std::string_view payload);
    void flush();
    void check_deadlines(SteadyClock::time_point now);
    void close(); // at once, without on_closed()

    bool closed() const { return closed_; }
    bool has_unsent() const { return !closed_ && sent_ < out_.size(); }
    bool established() const { return established_ && !closed_; }

private:
    void pump();
    bool advance_handshake();
    bool take(std::string_view plaintext);
    void read_more();
    void wait_writable();
    void account_sent();
    void tls_failed(int result);
    void fail(const Closure &closure);

    ChannelShared &shared_;
    ChannelUser *user_;
    boost::asio::ip::tcp::socket socket_;
    const Side side_;
    std::array<char, 4096> received_; // ciphertext; one usual message, so that 64 idle links stay small
    TlsSocket tls_socket_;
    SslPtr ssl_;
    FrameReader reader_;
    SteadyClock::time_point started_;
    SteadyClock::time_point partial_since_; // of the frame that is cut now
    std::string out_;                       // whole frames
    std::size_t sent_ = 0;                  // of out_
    std::size_t next_frame_ = 0;            // offset in out_ of the first frame not wholly sent
    std::size_t queued_frames_ = 0;
    bool secured_ = false;
    bool established_ = false;
    bool closed_ = false;
    bool dirty_ = false;
    bool waiting_writable_ = false;
};

} // namespace pg_ha
