// SPDX-License-Identifier: PostgreSQL
//
// SQLSTATEs of our own, class HA, so that programs can tell our refusals apart without reading
// texts.  Where PostgreSQL already has the right code (25006 for a fenced commit, 55000 for a
// missing library) that one is used.  A number is never given to another meaning.
#pragma once

extern "C" {
#include "postgres.h"
}

namespace pg_ha {

inline constexpr int errcode_already_bootstrapped = MAKE_SQLSTATE('H', 'A', '0', '0', '1');
inline constexpr int errcode_not_configured = MAKE_SQLSTATE('H', 'A', '0', '0', '2');
inline constexpr int errcode_bootstrap_refused = MAKE_SQLSTATE('H', 'A', '0', '0', '3');
inline constexpr int errcode_node_worker_silent = MAKE_SQLSTATE('H', 'A', '0', '0', '4');
inline constexpr int errcode_commit_not_synchronous = MAKE_SQLSTATE('H', 'A', '0', '0', '5');
inline constexpr int errcode_not_settled = MAKE_SQLSTATE('H', 'A', '0', '0', '6');
inline constexpr int errcode_failover_refused = MAKE_SQLSTATE('H', 'A', '0', '0', '7');
inline constexpr int errcode_order_refused = MAKE_SQLSTATE('H', 'A', '0', '0', '8');
inline constexpr int errcode_order_unfinished = MAKE_SQLSTATE('H', 'A', '0', '0', '9');

} // namespace pg_ha
