// SPDX-License-Identifier: PostgreSQL
//
// Values in libpq connection strings, for all who put one together: server, pg_ha_rejoin and pg_hactl.
#pragma once

#include <string>

namespace pg_ha {

// 'value', with its quotes and backslashes escaped.
std::string quote_conninfo(const std::string &value);

} // namespace pg_ha
