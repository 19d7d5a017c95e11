// SPDX-License-Identifier: PostgreSQL
//
// A library for tests of the fence: loaded by CREATE FUNCTION into a server that nobody needs, never
// installed.  It links the objects that pg_ha.so is made of, so what it measures and asks is the
// shipped code, only with a shared memory of its own.
//
//  - fence_bench(transactions, what): nanoseconds that the fence costs one transaction.
//  - fence_record_end(lsn): where the WAL record that begins there ends.
//  - fence_empty_standby_names(): what the checkpointer would do if the setting were empty: nobody waits
//    for standbys any more, and who waits is released.  It bypasses every guard but the last look.
#include "fence.hpp"
#include "shmem.hpp"

extern "C" {
#include "fmgr.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "miscadmin.h"
#include "replication/syncrep.h"
#include "replication/walsender_private.h"
#include "utils/builtins.h"
#include "utils/pg_lsn.h"

PG_MODULE_MAGIC;

PG_FUNCTION_INFO_V1(fence_bench);
PG_FUNCTION_INFO_V1(fence_record_end);
PG_FUNCTION_INFO_V1(fence_empty_standby_names);
PGDLLEXPORT Datum fence_bench(PG_FUNCTION_ARGS);
PGDLLEXPORT Datum fence_record_end(PG_FUNCTION_ARGS);
PGDLLEXPORT Datum fence_empty_standby_names(PG_FUNCTION_ARGS);
}

#include <ctime>

using namespace pg_ha;

namespace {

uint64 monotonic_ns() {
    timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return static_cast<uint64>(now.tv_sec) * UINT64CONST(1000000000) + static_cast<uint64>(now.tv_nsec);
}

// A member with a lease, whose standbys have confirmed everything.
void pretend_to_be_primary(Shared *memory, uint32 quorum) {
    memset(static_cast<void *>(memory), 0, sizeof(*memory));
    pg_atomic_write_u32(&memory->armed, 1);
    pg_atomic_write_u32(&memory->settled, 1);
    pg_atomic_write_u32(&memory->sync_quorum, quorum);
    pg_atomic_write_u64(&memory->lease_until_ns, boot_now_ns() + UINT64CONST(3600000000000));
    for (XLogRecPtr &confirmed : WalSndCtl->lsn)
        confirmed = PG_UINT64_MAX - 1;
    shared = memory;
}

} // namespace

// what: 'write', 'read', or 'clock', one reading of the lease.
Datum fence_bench(PG_FUNCTION_ARGS) {
    const int64 transactions = PG_GETARG_INT64(0);
    const char *what = text_to_cstring(PG_GETARG_TEXT_PP(1));
    pretend_to_be_primary(static_cast<Shared *>(palloc(sizeof(Shared))), 2);
    if (strcmp(what, "write") == 0)
        (void)GetTopTransactionId(); // the rest of this transaction counts as one that writes
    const bool clock_only = strcmp(what, "clock") == 0;
    XLogRecPtr before = XactLastRecEnd;
    XactLastRecEnd = GetXLogInsertRecPtr();
    const uint64 begin = monotonic_ns();
    for (int64 i = 0; i < transactions; i++) {
        if (clock_only) {
            if (!lease_holds())
                elog(ERROR, "the lease has ended");
            continue;
        }
        fence_transaction_event(XACT_EVENT_PRE_COMMIT, nullptr);
        fence_transaction_event(XACT_EVENT_COMMIT, nullptr);
    }
    const uint64 end = monotonic_ns();
    XactLastRecEnd = before;
    shared = nullptr;
    if (InterruptPending)
        elog(ERROR, "the fence refused an answer");
    PG_RETURN_FLOAT8(static_cast<double>(end - begin) / static_cast<double>(transactions));
}

Datum fence_record_end(PG_FUNCTION_ARGS) {
    PG_RETURN_LSN(pg_ha::fence_record_end(PG_GETARG_LSN(0)));
}

Datum fence_empty_standby_names(PG_FUNCTION_ARGS) {
    char *names = SyncRepStandbyNames;
    SyncRepStandbyNames = nullptr;
    SyncRepUpdateSyncStandbysDefined();
    SyncRepStandbyNames = names;
    PG_RETURN_VOID();
}
