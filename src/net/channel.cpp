// SPDX-License-Identifier: PostgreSQL
//
// The life of one TLS connection.  Deadlines are looked at by the network's coarse timer, not by
// timers of their own.
#include "channel.hpp"

#include "handshake.hpp"

#include "agent/codec.hpp"

#include <boost/asio/buffer.hpp>

#include <openssl/err.h>

#include <cerrno>
#include <system_error>

namespace pg_ha {

namespace {

constexpr std::size_t scratch_bytes = 16384; // one TLS record
constexpr std::size_t out_bytes_kept = 65536;

bool closed_by_peer(int error) { return error == ECONNRESET || error == EPIPE || error == ECONNABORTED; }

} // namespace

Channel::Channel(ChannelShared &shared, ChannelUser &user, boost::asio::ip::tcp::socket socket, Side side)
    : shared_(shared), user_(&user), socket_(std::move(socket)), side_(side), started_(SteadyClock::now()) {
    tls_socket_.fd = socket_.native_handle();
    ssl_ = side == Side::dialled ? shared_.tls.dial(tls_socket_) : shared_.tls.accept(tls_socket_);
    reader_.set_limit(handshake_bytes_max);
}

void Channel::start() { pump(); }

void Channel::set_established() {
    established_ = true;
    reader_.set_limit(frame_bytes_max);
}

bool Channel::queue(std::string_view payload) {
    if (closed_)
        return false;
    if (queued_frames_ >= queued_frames_max || out_.size() - sent_ + payload.size() > queued_bytes_max) {
        ++shared_.frames_dropped;
        return false;
    }
    append_frame(out_, payload);
    ++queued_frames_;
    if (!dirty_) {
        dirty_ = true;
        shared_.dirty.push_back(shared_from_this());
    }
    return true;
}

void Channel::flush() {
    dirty_ = false;
    while (!closed_ && secured_ && sent_ < out_.size() && !waiting_writable_) {
        std::size_t written = 0;
        ERR_clear_error();
        const int result = SSL_write_ex(ssl_.get(), out_.data() + sent_, out_.size() - sent_, &written);
        if (result == 1) {
            sent_ += written;
            account_sent();
        } else if (SSL_get_error(ssl_.get(), result) == SSL_ERROR_WANT_WRITE) {
            wait_writable();
        } else {
            tls_failed(result);
        }
    }
}

void Channel::account_sent() {
    if (sent_ == out_.size()) {
        queued_frames_ = sent_ = next_frame_ = 0;
        if (out_.capacity() > out_bytes_kept)
            out_ = {};
        else
            out_.clear();
        return;
    }
    while (next_frame_ < sent_) {
        const std::size_t end = next_frame_ + frame_header_bytes + frame_length(out_.data() + next_frame_);
        if (end > sent_)
            break;
        next_frame_ = end;
        --queued_frames_;
    }
    // The queue must not grow with what is gone, should the peer never quite catch up.
    if (next_frame_ > queued_bytes_max) {
        out_.erase(0, next_frame_);
        sent_ -= next_frame_;
        next_frame_ = 0;
    }
}

void Channel::pump() {
    if (closed_ || (!secured_ && !advance_handshake()))
        return;
    // Taken away while it is used: a callback may run the loop (Runtime::flush), hence other channels.
    std::vector<char> buffer = std::move(shared_.scratch);
    buffer.resize(scratch_bytes);
    for (;;) {
        std::size_t size = 0;
        ERR_clear_error();
        const int result = SSL_read_ex(ssl_.get(), buffer.data(), buffer.size(), &size);
        if (result != 1) {
            if (SSL_get_error(ssl_.get(), result) == SSL_ERROR_WANT_READ)
                read_more();
            else
                tls_failed(result);
            break;
        }
        if (!take({buffer.data(), size}))
            return; // the owner may be gone, and shared_ with it
        if (tls_socket_.input.empty() && !tls_socket_.end && SSL_has_pending(ssl_.get()) == 0) {
            read_more();
            break;
        }
    }
    if (!closed_)
        shared_.scratch = std::move(buffer);
}

// True: secured, go on reading.
bool Channel::advance_handshake() {
    ERR_clear_error();
    const int result = SSL_do_handshake(ssl_.get());
    if (result != 1) {
        switch (SSL_get_error(ssl_.get(), result)) {
        case SSL_ERROR_WANT_READ:
            read_more();
            break;
        case SSL_ERROR_WANT_WRITE:
            wait_writable();
            break;
        default:
            tls_failed(result);
        }
        return false;
    }
    if (!TlsPsk::secured(ssl_.get())) {
        fail({Closure::Cause::secret, "it did not prove that it knows the cluster secret",
              "Check that this address and port belong to a pg_ha node."});
        return false;
    }
    secured_ = true;
    user_->on_secured();
    if (!closed_)
        flush();
    return !closed_;
}

// False: closed.
bool Channel::take(std::string_view plaintext) {
    bool partial_is_new = !reader_.has_partial();
    const std::shared_ptr<Channel> self = shared_from_this(); // a callback may drop the last owner
    const FrameReader::Result result = reader_.feed(plaintext, [this, &partial_is_new](std::string_view payload) {
        partial_is_new = true; // what is cut now began in these bytes
        user_->on_frame(payload);
        return !closed_;
    });
    if (closed_)
        return false;
    if (result == FrameReader::Result::bad_length) {
        fail({Closure::Cause::protocol, "it sent a frame of a length that is not allowed",
              "Check that both servers run the same version of pg_ha."});
        return false;
    }
    if (reader_.has_partial() && partial_is_new)
        partial_since_ = SteadyClock::now();
    return true;
}

// Only when OpenSSL has read everything that was received.
void Channel::read_more() {
    socket_.async_read_some(
        boost::asio::buffer(received_),
        [self = shared_from_this()](const boost::system::error_code &error, std::size_t size) {
            self->tls_socket_.input = {self->received_.data(), size};
            if (error == boost::asio::error::eof)
                self->tls_socket_.end = true;
            else if (error)
                self->tls_socket_.error = error.value();
            self->pump();
        });
}

void Channel::wait_writable() {
    waiting_writable_ = true;
    socket_.async_wait(boost::asio::ip::tcp::socket::wait_write,
                       [self = shared_from_this()](const boost::system::error_code &) {
                           self->waiting_writable_ = false;
                           if (self->secured_)
                               self->flush();
                           else
                               self->pump();
                       });
}

void Channel::check_deadlines(SteadyClock::time_point now) {
    if (closed_)
        return;
    if (!established_ && now - started_ > handshake_deadline)
        fail({Closure::Cause::silence, "the handshake was not finished in time", ""});
    else if (reader_.has_partial() && now - partial_since_ > frame_deadline)
        fail({Closure::Cause::silence, "a frame was not finished in time", ""});
}

void Channel::tls_failed(int result) {
    const int error = SSL_get_error(ssl_.get(), result);
    const bool by_peer = tls_socket_.end || error == SSL_ERROR_ZERO_RETURN || closed_by_peer(tls_socket_.error);
    const unsigned long code = ERR_peek_error();
    const bool alert = ERR_GET_LIB(code) == ERR_LIB_SSL && ERR_GET_REASON(code) > SSL_AD_REASON_OFFSET;
    if (tls_socket_.error != 0 && !by_peer) {
        fail({Closure::Cause::silence, std::generic_category().message(tls_socket_.error), ""});
    } else if (by_peer && !alert) {
        fail({Closure::Cause::peer, tls_socket_.error != 0 ? "connection reset" : "connection closed", ""});
    } else if (secured_) {
        fail({Closure::Cause::protocol, explain_tls_failure(tls_socket_, side_ == Side::dialled).what, ""});
    } else {
        TlsFailure failure = explain_tls_failure(tls_socket_, side_ == Side::dialled);
        fail({Closure::Cause::secret, std::move(failure.what), std::move(failure.hint)});
    }
}

void Channel::fail(const Closure &closure) {
    if (closed_)
        return;
    const std::shared_ptr<Channel> self = shared_from_this();
    ChannelUser *user = user_;
    close();
    user->on_closed(closure);
}

void Channel::close() {
    closed_ = true;
    user_ = nullptr;
    boost::system::error_code ignored; // closing a socket twice is all that can go wrong
    socket_.close(ignored);
}

} // namespace pg_ha
