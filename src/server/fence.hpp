// SPDX-License-Identifier: PostgreSQL
//
// The commit fence: no session may acknowledge a commit without the lease.  See fence.cpp for the
// ends of transactions and statements.cpp for what is refused before it begins.
#pragma once

extern "C" {
#include "postgres.h"
#include "access/xact.h"
#include "access/xlogdefs.h"
}

namespace pg_ha {

void fence_install(); // from _PG_init

bool fence_applies();                // this server is a member of a cluster, and this process no autovacuum worker
void fence_check(const char *what);  // ERROR 25006 unless the lease holds or comes back within pg_ha.fence_wait
void fence_this_transaction();       // looked at when it ends, although it may never take an xid
// Before and after COMMIT PREPARED and ROLLBACK PREPARED, which finish a transaction other than their own.
void fence_finishing_prepared(bool commits);
void fence_prepared_finished(bool committed);

// What RegisterXactCallback() gets; here for the benchmark.
void fence_transaction_event(XactEvent event, void *);
// The end of the WAL record that starts at `start` and is flushed; UINT64_MAX if it can't be read.
XLogRecPtr fence_record_end(XLogRecPtr start);

} // namespace pg_ha
