// SPDX-License-Identifier: PostgreSQL
//
// Does a server run in this data directory?  The one that has started us waits for us and touches nothing.
#pragma once

#include <string>

namespace pg_ha::rejoin {

void require_server_down(const std::string &data_directory); // throws std::runtime_error

} // namespace pg_ha::rejoin
