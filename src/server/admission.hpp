// SPDX-License-Identifier: PostgreSQL
//
// Which new sessions this server takes.  See admission.cpp.
#pragma once

namespace pg_ha {

void admission_install(); // from _PG_init

} // namespace pg_ha
