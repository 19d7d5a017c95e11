// SPDX-License-Identifier: PostgreSQL
//
// The WAL gate: wraps the walreceiver's functions, see gate.cpp.
#pragma once

namespace pg_ha {

void gate_install(); // from _PG_init

} // namespace pg_ha
