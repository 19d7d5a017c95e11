// SPDX-License-Identifier: PostgreSQL
//
// Names to addresses, as seldom as can be; see resolver.hpp.
#include "resolver.hpp"

#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <system_error>

namespace pg_ha {

namespace asio = boost::asio;
using boost::asio::ip::tcp;

namespace {

constexpr auto lookup_interval = std::chrono::seconds(5);
constexpr int lookup_cost_factor = 50; // a lookup that took t is not repeated before 50 t
constexpr std::size_t addresses_max = 8;

bool numeric_address(const std::string &host, asio::ip::address &out) {
    boost::system::error_code error;
    out = host == "localhost" ? asio::ip::address(asio::ip::address_v4::loopback()) : asio::ip::make_address(host, error);
    return !error;
}

bool ipv6_available() {
    const int fd = ::socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0)
        ::close(fd);
    return fd >= 0;
}

} // namespace

const tcp::endpoint *Resolver::next(bool failed) {
    if (failed && !addresses_.empty())
        index_ = (index_ + 1) % addresses_.size();
    if (addresses_.empty() || (failed && !numeric_ && index_ == 0))
        look_up();
    return addresses_.empty() ? nullptr : &addresses_[index_];
}

void Resolver::look_up() {
    asio::ip::address address;
    if (numeric_address(endpoint_.host, address)) {
        numeric_ = true;
        addresses_ = {tcp::endpoint(address, endpoint_.port)};
        return;
    }
    const auto started = std::chrono::steady_clock::now();
    if (started < next_lookup_)
        return;
    addrinfo hints{};
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = AI_ADDRCONFIG;
    addrinfo *found = nullptr;
    const int result = ::getaddrinfo(endpoint_.host.c_str(), nullptr, &hints, &found);
    const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> guard(found, &::freeaddrinfo);
    const auto now = std::chrono::steady_clock::now();
    next_lookup_ = now + std::max<std::chrono::steady_clock::duration>(lookup_interval,
                                                                       (now - started) * lookup_cost_factor);
    if (result != 0) { // addresses known from before stay: better an old address than none
        error_ = ::gai_strerror(result);
        return;
    }
    addresses_.clear();
    for (const addrinfo *entry = found; entry != nullptr && addresses_.size() < addresses_max; entry = entry->ai_next) {
        tcp::endpoint resolved;
        if (entry->ai_addrlen > resolved.capacity())
            continue;
        std::memcpy(resolved.data(), entry->ai_addr, entry->ai_addrlen);
        resolved.resize(entry->ai_addrlen);
        resolved.port(endpoint_.port);
        addresses_.push_back(resolved);
    }
    index_ = 0;
}

std::vector<tcp::endpoint> listen_endpoints(const std::vector<std::string> &addresses, std::uint16_t port) {
    std::vector<tcp::endpoint> out;
    for (const std::string &host : addresses) {
        asio::ip::address address;
        if (host == "*")
            out.emplace_back(ipv6_available() ? tcp::v6() : tcp::v4(), port);
        else if (numeric_address(host, address))
            out.emplace_back(address, port);
        else
            throw std::system_error(EINVAL, std::generic_category(),
                                    "listen address \"" + host + "\" is not numeric, \"localhost\" or \"*\"");
    }
    return out;
}

} // namespace pg_ha
