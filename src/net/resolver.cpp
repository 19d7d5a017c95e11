// SPDX-License-Identifier: PostgreSQL
//
// Names to addresses without ever blocking the caller; see resolver.hpp.
#include "resolver.hpp"

#include <netdb.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <mutex>
#include <system_error>
#include <thread>

namespace pg_ha {

namespace asio = boost::asio;
using boost::asio::ip::tcp;

namespace {

constexpr auto lookup_interval = std::chrono::seconds(5);
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

Lookup ask_system(const std::string &host) {
    addrinfo hints{};
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = AI_ADDRCONFIG;
    addrinfo *found = nullptr;
    Lookup out;
    if (const int result = ::getaddrinfo(host.c_str(), nullptr, &hints, &found); result != 0) {
        out.error = ::gai_strerror(result);
        return out;
    }
    const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> guard(found, &::freeaddrinfo);
    for (const addrinfo *entry = found; entry != nullptr && out.addresses.size() < addresses_max; entry = entry->ai_next) {
        tcp::endpoint resolved;
        if (entry->ai_addrlen > resolved.capacity())
            continue;
        std::memcpy(resolved.data(), entry->ai_addr, entry->ai_addrlen);
        resolved.resize(entry->ai_addrlen);
        out.addresses.push_back(resolved.address());
    }
    if (out.addresses.empty())
        out.error = "no usable address";
    return out;
}

// Signals are PostgreSQL's business, and PostgreSQL lives in the thread that starts this one.
void start_without_signals(std::function<void()> body) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    try {
        std::thread(std::move(body)).detach();
    } catch (...) {
        pthread_sigmask(SIG_SETMASK, &before, nullptr);
        throw;
    }
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

} // namespace

struct Resolver::Background {
    std::mutex mutex;
    bool done = false;
    Lookup result;
};

Resolver::Resolver(Endpoint endpoint) : Resolver(std::move(endpoint), ask_system) {}

const tcp::endpoint *Resolver::next(bool failed) {
    take_result();
    if (failed && !addresses_.empty())
        index_ = (index_ + 1) % addresses_.size();
    if (addresses_.empty() || (failed && !numeric_ && index_ == 0))
        start_lookup();
    return addresses_.empty() ? nullptr : &addresses_[index_];
}

void Resolver::start_lookup() {
    asio::ip::address address;
    if (numeric_address(endpoint_.host, address)) {
        numeric_ = true;
        addresses_ = {tcp::endpoint(address, endpoint_.port)};
        return;
    }
    const auto now = std::chrono::steady_clock::now();
    if (background_ || now < next_lookup_)
        return;
    next_lookup_ = now + lookup_interval;
    auto shared = std::make_shared<Background>();
    start_without_signals([shared, lookup = lookup_, host = endpoint_.host] {
        Lookup result;
        try {
            result = lookup(host);
        } catch (...) {
            result.error = "out of memory";
        }
        const std::lock_guard lock(shared->mutex);
        shared->result = std::move(result);
        shared->done = true;
    });
    background_ = std::move(shared);
}

void Resolver::take_result() {
    if (!background_)
        return;
    Lookup result;
    {
        const std::lock_guard lock(background_->mutex); // held by the thread for a few moves only
        if (!background_->done)
            return;
        result = std::move(background_->result);
    }
    background_.reset();
    error_ = result.error;
    if (!error_.empty())
        return; // addresses known from before stay: better an old address than none
    addresses_.clear();
    for (const asio::ip::address &address : result.addresses)
        addresses_.emplace_back(address, endpoint_.port);
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
