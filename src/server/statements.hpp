// SPDX-License-Identifier: PostgreSQL
//
// What a statement has to pass before it begins.  See statements.cpp.
#pragma once

namespace pg_ha {

void statements_install(); // from _PG_init

} // namespace pg_ha
