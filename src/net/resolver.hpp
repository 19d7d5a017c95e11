// SPDX-License-Identifier: PostgreSQL
//
// From pg_ha.peers and pg_ha.listen_addresses to addresses.  Numeric addresses and "localhost"
// (always 127.0.0.1) need no lookup.  Other names need getaddrinfo, which blocks the only thread
// there is, so it is asked rarely: only when dialling, never while the known address still works,
// at most once in 5 s for a name and never for more than 2 % of the time.  A name server that hangs
// stops heartbeats while it does; numeric addresses in the settings avoid that.
#pragma once

#include "core/configuration.hpp"

#include <boost/asio/ip/tcp.hpp>

#include <chrono>
#include <vector>

namespace pg_ha {

class Resolver {
public:
    explicit Resolver(Endpoint endpoint) : endpoint_(std::move(endpoint)) {}

    // Where to dial next; nothing: the name is unknown.  `failed`: the last address did not answer.
    const boost::asio::ip::tcp::endpoint *next(bool failed);
    const std::string &error() const { return error_; }

private:
    void look_up();

    Endpoint endpoint_;
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
