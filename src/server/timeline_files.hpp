// SPDX-License-Identifier: PostgreSQL
//
// The history files in pg_wal, before recovery reads them.
#pragma once

#include "core/types.hpp"

namespace pg_ha {

// Before recovery starts: drops the placeholders behind the newest real history file.  They are left
// by a promotion that never finished; recovery would take the last one for the newest timeline and
// refuse to start.  Null, or what failed (errno is set).  Raises nothing, uses no C++ object.
const char *remove_stale_placeholders();

// Before recovery starts, in the postmaster: drops histories of newer timelines that do not contain this server's own
// WAL, which recovery would die of, and the placeholders behind what is left.  Null, or what failed (errno is set).  May
// raise.
const char *remove_foreign_histories();

// Before recovery starts: makes the files that are missing before the newest history.  How many.  Throws what
// std::runtime_error says if it can't; calls nothing of PostgreSQL that raises.
int complete_histories();

// The newest timeline that this data directory has a history of.
Timeline newest_timeline();

} // namespace pg_ha
