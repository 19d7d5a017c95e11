// SPDX-License-Identifier: PostgreSQL
//
// Addresses as people write them.  Whatever is not clearly an address is refused, never guessed.
#include "addresses.hpp"

#include <algorithm>

namespace pg_ha {

namespace {

std::optional<std::uint16_t> parse_port(const std::string &text) {
    const bool digits = std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
    if (text.empty() || text.size() > 5 || !digits)
        return std::nullopt;
    const unsigned long port = std::stoul(text);
    if (port == 0 || port > 65535)
        return std::nullopt;
    return static_cast<std::uint16_t>(port);
}

bool plain_host(const std::string &host) {
    return !host.empty() && host.size() <= 127 && host.find_first_of(" \t'\"[]/,=") == std::string::npos;
}

std::optional<Endpoint> parse_endpoint(const std::string &text, std::uint16_t default_port) {
    std::string host = text;
    std::string port;
    bool has_port = false;
    if (text[0] == '[') {
        const std::size_t close = text.find(']');
        if (close == std::string::npos)
            return std::nullopt;
        host = text.substr(1, close - 1);
        const std::string rest = text.substr(close + 1);
        if (!rest.empty() && rest[0] != ':')
            return std::nullopt;
        has_port = !rest.empty();
        port = has_port ? rest.substr(1) : "";
    } else if (const std::size_t colon = text.find(':'); colon != std::string::npos) {
        host = text.substr(0, colon);
        port = text.substr(colon + 1);
        has_port = true;
    }
    if (!plain_host(host))
        return std::nullopt;
    if (!has_port)
        return Endpoint{host, default_port};
    const auto number = parse_port(port);
    return number ? std::optional(Endpoint{host, *number}) : std::nullopt;
}

} // namespace

std::vector<std::string> split_list(const std::string &text) {
    std::vector<std::string> parts;
    std::size_t from = 0;
    while (from <= text.size()) {
        const std::size_t comma = std::min(text.find(',', from), text.size());
        const std::size_t first = text.find_first_not_of(" \t\n", from);
        if (first < comma) {
            const std::size_t last = text.find_last_not_of(" \t\n", comma - 1);
            parts.push_back(text.substr(first, last - first + 1));
        }
        from = comma + 1;
    }
    return parts;
}

std::optional<std::vector<Endpoint>> parse_peers(const std::string &text, std::uint16_t default_port) {
    std::vector<Endpoint> peers;
    for (const std::string &part : split_list(text)) {
        const auto endpoint = parse_endpoint(part, default_port);
        if (!endpoint)
            return std::nullopt;
        peers.push_back(*endpoint);
    }
    return peers;
}

} // namespace pg_ha
