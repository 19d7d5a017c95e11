// SPDX-License-Identifier: PostgreSQL
//
// Values in libpq connection strings.
#pragma once

#include <string>

namespace pg_ha {

// A libpq connection string's value, quoted where it has to be.
std::string quote_conninfo(const std::string &value);

} // namespace pg_ha
