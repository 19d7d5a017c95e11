// SPDX-License-Identifier: PostgreSQL
//
// From pg_ha.peers and pg_ha.listen_addresses to addresses.  Numeric addresses and "localhost"
// (always 127.0.0.1) need no lookup.  Other names need getaddrinfo, which may block for many seconds:
// it runs in a thread of its own that calls nothing else, has every signal blocked and hands its
// result over under a lock.  So a name server that hangs delays a new link, never a heartbeat.
// A name is looked up when there is no address yet or all known ones failed, at most once in 5 s.
#pragma once

#include "core/configuration.hpp"

#include <boost/asio/ip/tcp.hpp>

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace pg_ha {

struct Lookup {
    std::vector<boost::asio::ip::address> addresses;
    std::string error; // empty: found
};

class Resolver {
public:
    using LookupFunction = std::function<Lookup(const std::string &host)>; // may block

    explicit Resolver(Endpoint endpoint);
    Resolver(Endpoint endpoint, LookupFunction lookup) : endpoint_(std::move(endpoint)), lookup_(std::move(lookup)) {}

    // Where to dial next; nothing: not known, or not known yet.  `failed`: the last address did not
    // answer.  Never blocks.
    const boost::asio::ip::tcp::endpoint *next(bool failed);
    const std::string &error() const { return error_; } // of the last lookup; empty: none has failed

private:
    struct Background; // what the thread and this object share

    void start_lookup();
    void take_result();

    Endpoint endpoint_;
    LookupFunction lookup_;
    std::shared_ptr<Background> background_; // while a lookup is under way
    std::vector<boost::asio::ip::tcp::endpoint> addresses_;
    std::size_t index_ = 0;
    bool numeric_ = false;
    std::chrono::steady_clock::time_point next_lookup_{};
    std::string error_;
};

// Numeric address, "localhost" or "*"; throws std::system_error for anything else.
std::vector<boost::asio::ip::tcp::endpoint> listen_endpoints(const std::vector<std::string> &addresses,
                                                             std::uint16_t port);

} // namespace pg_ha
