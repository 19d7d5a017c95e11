// SPDX-License-Identifier: PostgreSQL
//
// Waiting for what may come back, and the words for those for whom it did not.  The wait looks at
// shared memory every few milliseconds; nobody has to wake it, so it ends in time even when the
// node worker is dead.  It is used before anything is durable, where an ERROR is harmless.
#include "refusal.hpp"

extern "C" {
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "utils/wait_event.h"
}

namespace pg_ha {

namespace {

// A failover is over within milliseconds, a lost majority may stay away; and there may be hundreds who wait.
constexpr long slice_ms = 1;
constexpr long slice_ms_max = 20;
constexpr int slices_per_doubling = 4;

bool other_primary_known(const Snapshot *seen) {
    return seen->valid && seen->primary_name[0] != '\0' && strcmp(seen->primary_name, seen->node_name) != 0;
}

} // namespace

bool wait_until(bool (*open)(), int limit_ms, Snapshot *seen) {
    uint64 end = boot_now_ns() + static_cast<uint64>(limit_ms) * UINT64CONST(1000000);
    for (int slices = 0; !open(); slices++) {
        long slice = Min(slice_ms << Min(slices / slices_per_doubling, 10), slice_ms_max);
        if (!read_snapshot_head(seen))
            seen->valid = false;
        if (other_primary_known(seen) || boot_now_ns() >= end)
            return false;
        (void)WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, slice, PG_WAIT_EXTENSION);
        ResetLatch(MyLatch);
        CHECK_FOR_INTERRUPTS();
    }
    return true;
}

const char *why_fenced(const Snapshot *seen) {
    if (!seen->valid || strcmp(seen->role, "primary") == 0)
        return "the lease of this primary has ended";
    return "this server is not the primary of its cluster";
}

int detail_role(const Snapshot *seen) {
    if (!seen->valid)
        return errdetail("The node worker has not reported yet.");
    return errdetail("Node \"%s\" has the role %s in term %u.", seen->node_name, seen->role, seen->term);
}

int hint_primary(const Snapshot *seen) {
    if (other_primary_known(seen))
        return errhint("Connect to %s at %s:%d.", seen->primary_name, seen->primary_host, seen->primary_port);
    if (seen->valid && seen->failover_reason[0] != '\0')
        return errhint("No other primary is known: %s.", seen->failover_reason);
    return errhint("No other primary is known. Try again later; SELECT * FROM ha_cluster says what is missing.");
}

} // namespace pg_ha
