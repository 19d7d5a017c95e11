// SPDX-License-Identifier: PostgreSQL
//
// Connection strings for those who wait without end, and for command lines, which every user of the host can see.
#pragma once

#include <string>

namespace pg_ha::rejoin {

// A host that vanishes without a word is noticed within a minute or two, not after the two hours of the kernel.
std::string with_keepalives(const std::string &conninfo);

// The same without its password, which the programs that are run find in the environment (PGPASSWORD).
std::string for_command_line(const std::string &conninfo);

} // namespace pg_ha::rejoin
