// SPDX-License-Identifier: PostgreSQL
//
// Addresses as people write them in settings, taken apart.  Pure: no look-up.
#pragma once

#include "core/configuration.hpp"

#include <optional>
#include <string>
#include <vector>

namespace pg_ha {

// "host:port, [ipv6]:port, host": a missing port is `default_port`.  Nothing if the text is malformed.
std::optional<std::vector<Endpoint>> parse_peers(const std::string &text, std::uint16_t default_port);

// "a, b": the parts without surrounding blanks; empty parts are left out.
std::vector<std::string> split_list(const std::string &text);

} // namespace pg_ha
