// SPDX-License-Identifier: PostgreSQL
//
// What somebody who is turned away is told, and how long he waits before that.  One text for
// commits, statements and new connections: the state of this node, and where the primary is.
#pragma once

#include "shmem.hpp"

namespace pg_ha {

// Waits until `open` says true.  False: it still does not after `limit_ms`, or another node is known to be
// the primary, so that waiting is pointless.  `seen` is what was known last.  May raise (interrupts).
bool wait_until(bool (*open)(), int limit_ms, Snapshot *seen);

const char *why_fenced(const Snapshot *seen); // "the lease of this primary has ended" or the like
// For ereport().
int detail_role(const Snapshot *seen);
int hint_primary(const Snapshot *seen);

} // namespace pg_ha
