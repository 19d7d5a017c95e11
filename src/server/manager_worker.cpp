// SPDX-License-Identifier: PostgreSQL
//
// The manager worker does what may be slow, so that the node worker never waits: it keeps
// synchronous_standby_names at the value the node worker asked for, on primary and standby alike, and the
// slots that hold WAL for the other members (retention.cpp), and sees how far a rejoin is (rejoin_watch.cpp).
//
// The value of that setting goes through ALTER SYSTEM (postgresql.auto.conf), so it overrides what postgresql.conf
// says (statements.cpp refuses ALTER SYSTEM by others); an edited file is not taken by any process (sync_rule.cpp)
// and put back.  The order is: write the
// file, make the processes read it, wait until the value is in effect (sync_rule.cpp says what that means), then answer
// by copying the version and setting the node worker's latch.  Nothing is answered on hope: a walsender that hangs with
// the old value delays the answer for as long as it lives.
//
// It must not exit on an error: a failed write is tried again.  It is plain C in C++: no object with
// a destructor lives across a call that may raise.
#include "manager_worker.hpp"

#include "rejoin_watch.hpp"
#include "retention.hpp"
#include "shmem.hpp"
#include "sync_rule.hpp"

extern "C" {
#include "access/xact.h"
#include "access/xlog.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/parsenodes.h"
#include "nodes/pg_list.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/bgwriter.h"
#include "postmaster/interrupt.h"
#include "replication/syncrep.h"
#include "storage/ipc.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/wait_event.h"
}

#include <csignal>

namespace pg_ha {

namespace {

constexpr uint64 ms = UINT64CONST(1000000);
constexpr uint64 signal_again_after = 1000 * ms; // a signal may get lost in a process that just starts
constexpr uint64 write_again_after = 1000 * ms;  // after a failed or fruitless write; doubled each time
constexpr int write_again_doublings = 6;         // up to about a minute
constexpr uint64 complain_after = 10000 * ms;    // not in effect for so long
constexpr uint64 complain_every = 60000 * ms;
constexpr long poll_ms = 5;        // while waiting for the last step of a walsender
constexpr long poll_slow_ms = 100; // when that has lasted longer than a second
constexpr long idle_ms = 60000;    // nothing to do: the latch wakes us

struct Work {
    uint32 version; // of `value`; 0: nothing asked yet
    char value[sizeof(Shared::sync_wanted)];
    char written[sizeof(Shared::sync_wanted)]; // what this process last wrote, if has_written
    bool has_written;
    int writes;   // in a row that did not bring the value
    uint64 since; // file written, or first looked at; reports before it don't count
    uint64 write_tried_at;
    uint64 signalled_at;
    uint64 complained_at;
};

Work work;

// Copies what the node worker wants now; false: nothing, or it is writing at this moment.
bool read_wanted() {
    uint32 before = pg_atomic_read_u32(&shared->sync_wanted_version);
    if (before == 0 || before % 2 == 1)
        return false;
    if (before == work.version)
        return true;
    pg_read_barrier();
    char value[sizeof(work.value)];
    memcpy(value, shared->sync_wanted, sizeof(value));
    pg_read_barrier();
    if (pg_atomic_read_u32(&shared->sync_wanted_version) != before)
        return false;
    value[sizeof(value) - 1] = '\0';
    memcpy(work.value, value, sizeof(value));
    work.version = before;
    work.writes = 0;
    return true;
}

bool complain_now(uint64 now) {
    if (work.complained_at != 0 && now - work.complained_at < complain_every)
        return false;
    work.complained_at = now;
    return true;
}

void alter_system() {
    A_Const *constant = makeNode(A_Const);
    constant->val.sval.type = T_String;
    constant->val.sval.sval = work.value;
    constant->location = -1;
    AlterSystemStmt *statement = makeNode(AlterSystemStmt);
    statement->setstmt = makeNode(VariableSetStmt);
    statement->setstmt->kind = VAR_SET_VALUE;
    statement->setstmt->name = pstrdup("synchronous_standby_names");
    statement->setstmt->args = list_make1(constant);
    AlterSystemSetConfigFile(statement);
}

// False: the text of the error is in `text`.  One transaction; it takes no xid, so the fence lets it pass.
bool write_setting(char *text, size_t size) {
    MemoryContext caller = CurrentMemoryContext;
    volatile bool written = false;
    PG_TRY();
    {
        SetCurrentStatementStartTimestamp();
        StartTransactionCommand();
        alter_system();
        CommitTransactionCommand();
        written = true;
    }
    PG_CATCH();
    {
        MemoryContextSwitchTo(caller);
        ErrorData *error = CopyErrorData();
        FlushErrorState();
        AbortCurrentTransaction();
        strlcpy(text, error->message, size);
        FreeErrorData(error);
    }
    PG_END_TRY();
    MemoryContextSwitchTo(caller);
    return written;
}

void signal_readers(uint64 now) {
    kill(PostmasterPid, SIGHUP);
    sync_rule_signal_walsenders();
    work.signalled_at = now;
}

bool setting_is_right() {
    return strcmp(SyncRepStandbyNames ? SyncRepStandbyNames : "", work.value) == 0 && !sync_rule_refused() &&
           (!work.has_written || strcmp(work.written, work.value) == 0);
}

// Writes the setting.  Returns how long to wait before looking again.  Several writes in a row that
// bring nothing mean a file system that refuses, or a server command line that overrides the file.
long change_setting(uint64 now) {
    if (work.writes > 0) {
        uint64 waited = now - work.write_tried_at;
        if (waited < write_again_after << Min(work.writes - 1, write_again_doublings))
            return waited < write_again_after ? poll_ms : poll_slow_ms;
    }
    work.writes++;
    work.write_tried_at = now;
    char text[256];
    if (!write_setting(text, sizeof(text))) {
        if (complain_now(now))
            ereport(LOG, (errmsg("could not set synchronous_standby_names to \"%s\": %s", work.value, text),
                          errhint("The cluster keeps its present rule until postgresql.auto.conf can be written.")));
        return poll_slow_ms;
    }
    if (work.writes > 2 && complain_now(now))
        ereport(LOG, (errmsg("synchronous_standby_names stays \"%s\" instead of \"%s\"",
                             SyncRepStandbyNames ? SyncRepStandbyNames : "", work.value),
                      errhint("pg_ha manages this setting. Remove it from the server's command line.")));
    strlcpy(work.written, work.value, sizeof(work.written));
    work.has_written = true;
    work.since = boot_now_ns();
    signal_readers(work.since);
    return poll_ms;
}

long wait_for_effect(uint64 now) {
    int pid = 0;
    work.writes = 0;
    if (work.since == 0) { // reports from before this worker's start may be of an earlier value
        work.since = now;
        signal_readers(now);
    }
    if (sync_rule_in_effect(work.value, work.since, &pid)) {
        work.complained_at = 0;
        pg_atomic_write_u32(&shared->sync_done_version, work.version);
        Latch *node = shared->node_latch;
        if (node)
            SetLatch(node);
        return idle_ms;
    }
    if (now - work.signalled_at >= signal_again_after)
        signal_readers(now);
    if (now - work.since >= complain_after && complain_now(now)) {
        if (pid != 0)
            ereport(LOG, (errmsg("synchronous_standby_names is not yet in effect: walsender %d has not read it", pid)));
        else
            ereport(LOG, (errmsg("synchronous_standby_names is not yet in effect: the checkpointer has not read it")));
    }
    return now - work.since < signal_again_after ? poll_ms : poll_slow_ms;
}

long keep_sync_setting() {
    if (!read_wanted())
        return pg_atomic_read_u32(&shared->sync_wanted_version) == 0 ? idle_ms : poll_ms;
    uint64 now = boot_now_ns();
    if (!setting_is_right())
        return change_setting(now);
    if (pg_atomic_read_u32(&shared->sync_done_version) == work.version) {
        work.writes = 0;
        return idle_ms;
    }
    return wait_for_effect(now);
}

// pg_rewind compares checkpoints: a server that has to be rewound to this one waits for the first on the
// new timeline, and PostgreSQL itself takes its time for that one.
void checkpoint_after_promotion() {
    static bool was_standby = false;
    if (RecoveryInProgress()) {
        was_standby = true;
    } else if (was_standby) {
        was_standby = false;
        RequestCheckpoint(CHECKPOINT_IMMEDIATE | CHECKPOINT_FORCE);
    }
}

void leave(int, Datum) {
    shared->manager_latch = nullptr;
}

} // namespace

} // namespace pg_ha

void pg_ha_manager_main(Datum) {
    using namespace pg_ha;
    pqsignal(SIGHUP, SignalHandlerForConfigReload);
    pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
    pqsignal(SIGINT, SIG_IGN); // there is no query to cancel, and the default would end the worker
    BackgroundWorkerUnblockSignals();
    BackgroundWorkerInitializeConnection(nullptr, nullptr, 0); // shared catalogs only; also takes part in barriers
    before_shmem_exit(leave, 0);
    shared->manager_latch = MyLatch;
    while (!ShutdownRequestPending) {
        checkpoint_after_promotion();
        long timeout = keep_sync_setting();
        timeout = Min(timeout, keep_slots());
        timeout = Min(timeout, watch_rejoins());
        (void)WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, timeout, PG_WAIT_EXTENSION);
        ResetLatch(MyLatch);
        CHECK_FOR_INTERRUPTS();
        if (ConfigReloadPending) {
            ConfigReloadPending = false;
            ProcessConfigFile(PGC_SIGHUP);
        }
    }
    proc_exit(1); // 1: start again if somebody terminated us; at a stop the postmaster does not
}
