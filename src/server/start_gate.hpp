// SPDX-License-Identifier: PostgreSQL
//
// Decides at postmaster start whether this server may come up writable: never, for a member of a
// cluster of several.  Also the two things a demotion in place shares with it.
#pragma once

namespace pg_ha {

void start_gate();            // from _PG_init, in the postmaster, before shared memory exists
bool start_gate_is_member();  // the cluster's secret is there (or cannot be looked at)
// In the postmaster of a member, at every start and in every crash-restart cycle.
void start_gate_before_recovery();
// Creates standby.signal, durably.  Returns null, or what failed (errno is set).
const char *write_standby_signal();

} // namespace pg_ha
