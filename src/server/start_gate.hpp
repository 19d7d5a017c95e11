// SPDX-License-Identifier: PostgreSQL
//
// Decides before recovery whether this server may come up writable: never, for a member of a
// cluster of several.  Also what a demotion in place shares with it.
#pragma once

namespace pg_ha {

// In the postmaster of a member, at every start and in every crash-restart cycle.
void start_gate();
bool start_gate_is_member();  // the cluster's secret is there (or cannot be looked at)
// In the postmaster of a member, at every start: FATAL if another server works in the data directory.
void start_gate_lock_directory();
// Creates standby.signal, durably.  Returns null, or what failed (errno is set).
const char *write_standby_signal();

} // namespace pg_ha
