// SPDX-License-Identifier: PostgreSQL
//
// Addresses in settings, and in libpq connection strings.
#pragma once

#include "net/addresses.hpp"

namespace pg_ha {

// A libpq connection string's value, quoted where it has to be.
std::string quote_conninfo(const std::string &value);

} // namespace pg_ha
