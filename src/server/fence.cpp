// SPDX-License-Identifier: PostgreSQL
//
// The commit fence.  A writing transaction may commit only while this node holds the lease, and its
// COMMIT may be answered only if the lease still holds and, in synchronous mode, the quorum has
// the commit record.  Time itself fences: no worker has to run for a lease to end.
//
// Two looks per writing transaction, one clock reading each; a transaction without an xid pays
// nothing.
//  1. Before (PRE_COMMIT, PRE_PREPARE; COMMIT PREPARED, ROLLBACK PREPARED and NOTIFY in the utility
//     hook, because their xid or their record comes where PRE_COMMIT doesn't see it): wait
//     pg_ha.fence_wait for the lease, then ERROR 25006, which rolls back.
//  2. After the commit record and the wait for the standbys (COMMIT, PREPARE): nothing can be undone,
//     an ERROR would be a PANIC, so the connection is closed without an answer, by the same flags
//     that PostgreSQL's own synchronous wait uses.  The client does not know the outcome, which is
//     the truth.  This also closes the stock leak that a cancelled wait is answered as a commit.
//
// The fence also keeps ALTER SYSTEM away from synchronous_standby_names, on which the second look rests.
// Nothing switches this off, superusers included.  Single-user mode is not fenced: there is no
// cluster to be split from, and recovery by hand needs it.
#include "fence.hpp"

#include "guc.hpp"
#include "shmem.hpp"

extern "C" {
#include "access/xact.h"
#include "access/xlog.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/autovacuum.h"
#include "replication/syncrep.h"
#include "replication/walsender.h"
#include "replication/walsender_private.h"
#include "tcop/tcopprot.h"
#include "tcop/utility.h"
#include "utils/wait_event.h"
}

namespace pg_ha {

namespace {

constexpr long slice_ms = 20; // how often a waiting commit looks at the lease

ProcessUtility_hook_type earlier_utility_hook = nullptr;

// Set before the commit record is written, used after it.
bool quorum_wanted = false;                  // this commit will wait for the standbys
// COMMIT PREPARED and ROLLBACK PREPARED finish a transaction that is not the one they run in.  An answered
// ROLLBACK PREPARED must last as well: nobody would ever finish the transaction on the next primary.
bool prepared_finished = false;
bool prepared_committed = false;
XLogRecPtr prepared_end = InvalidXLogRecPtr; // end of the record, if it waited for the standbys

bool fence_applies() {
    return IsUnderPostmaster && shared && pg_atomic_read_u32(&shared->armed) != 0;
}

// What SyncRepWaitForLSN() itself goes by: the flag that the checkpointer keeps, or, before its first
// look, our own setting.
bool standbys_defined() {
    bits8 status = reinterpret_cast<volatile WalSndCtlData *>(WalSndCtl)->sync_standbys_status;
    if (status & SYNC_STANDBY_INIT)
        return (status & SYNC_STANDBY_DEFINED) != 0;
    return SyncRepStandbyNames && SyncRepStandbyNames[0] != '\0';
}

// A session that asked for less than a flush on the standbys has left the promise.
bool commit_is_synchronous() {
    return max_wal_senders > 0 && synchronous_commit >= SYNCHRONOUS_COMMIT_REMOTE_FLUSH && standbys_defined();
}

// remote_apply waits for the replay of commit records only, not for that of PREPARE or ROLLBACK PREPARED.
XLogRecPtr confirmed_by_quorum(bool commit) {
    bool apply = commit && synchronous_commit == SYNCHRONOUS_COMMIT_REMOTE_APPLY;
    return reinterpret_cast<volatile WalSndCtlData *>(WalSndCtl)
        ->lsn[apply ? SYNC_REP_WAIT_APPLY : SYNC_REP_WAIT_FLUSH];
}

bool other_primary_known(const Snapshot *snapshot) {
    return snapshot->valid && snapshot->primary_name[0] != '\0' &&
           strcmp(snapshot->primary_name, snapshot->node_name) != 0;
}

// False: still fenced after pg_ha.fence_wait, or another node is known to be the primary, so that
// waiting is pointless.  `snapshot` is what was known last.
bool wait_for_lease(Snapshot *snapshot) {
    uint64 end = boot_now_ns() + static_cast<uint64>(guc_fence_wait_ms) * UINT64CONST(1000000);
    while (!lease_holds()) {
        if (!read_snapshot(snapshot))
            snapshot->valid = false;
        if (other_primary_known(snapshot) || boot_now_ns() >= end)
            return false;
        (void)WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, slice_ms, PG_WAIT_EXTENSION);
        ResetLatch(MyLatch);
        CHECK_FOR_INTERRUPTS();
    }
    return true;
}

void refuse(const char *what, const Snapshot *snapshot) {
    bool expired = !snapshot->valid || strcmp(snapshot->role, "primary") == 0;
    bool elsewhere = other_primary_known(snapshot);
    ereport(ERROR,
            (errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
             expired ? errmsg("cannot %s: the lease of this primary has ended", what)
                     : errmsg("cannot %s: this server is not the primary of its cluster", what),
             snapshot->valid ? errdetail("Node \"%s\" has the role %s in term %u.", snapshot->node_name, snapshot->role,
                                         snapshot->term)
                             : errdetail("The node worker has not reported yet."),
             elsewhere ? errhint("Connect to %s at %s:%d.", snapshot->primary_name, snapshot->primary_host,
                                 snapshot->primary_port)
                       : errhint("No other primary is known. Try again later; SELECT * FROM ha_cluster says what is "
                                 "missing.")));
}

void check_before(const char *what) {
    if (lease_holds())
        return;
    Snapshot *snapshot = static_cast<Snapshot *>(palloc0(sizeof(Snapshot)));
    if (!wait_for_lease(snapshot))
        refuse(what, snapshot);
    pfree(snapshot);
}

// `end`: up to where the quorum must have confirmed; invalid: nothing to confirm.
void check_after(bool commit, const char *what, XLogRecPtr end) {
    bool unconfirmed = !XLogRecPtrIsInvalid(end) && standbys_defined() && confirmed_by_quorum(commit) < end;
    if (lease_holds() && !unconfirmed)
        return;
    whereToSendOutput = DestNone;
    ProcDiePending = true;
    InterruptPending = true;
    uint32 high = static_cast<uint32>(end >> 32);
    uint32 low = static_cast<uint32>(end);
    ereport(LOG, (errmsg("closing the connection instead of answering %s", what),
                  unconfirmed
                      ? errdetail("The transaction is durable here, but the quorum has not confirmed %X/%X.", high, low)
                      : errdetail("The lease ended while the transaction was being made durable.")));
}

void forget_transaction() {
    quorum_wanted = false;
    prepared_finished = false;
    prepared_committed = false;
    prepared_end = InvalidXLogRecPtr;
}

void before_commit() {
    quorum_wanted = false;
    if (!TransactionIdIsValid(GetTopTransactionIdIfAny()) || !fence_applies())
        return;
    check_before("commit");
    // PostgreSQL waits for the standbys only if the transaction wrote WAL before its commit record:
    // one that only took an xid, or wrote temporary tables, is never confirmed and loses nothing.
    quorum_wanted = XactLastRecEnd != InvalidXLogRecPtr && commit_is_synchronous();
}

void after_commit() {
    bool wrote = prepared_finished;
    bool commit = !prepared_finished || prepared_committed;
    XLogRecPtr end = prepared_end;
    if (TransactionIdIsValid(GetTopTransactionIdIfAny())) {
        wrote = true;
        commit = true;
        end = quorum_wanted ? XactLastCommitEnd : InvalidXLogRecPtr;
    }
    forget_transaction();
    // An autovacuum worker answers nobody.
    if (wrote && fence_applies() && !IsAutoVacuumWorkerProcess())
        check_after(commit, commit ? "COMMIT" : "ROLLBACK PREPARED", end);
}

void before_prepare() {
    quorum_wanted = false;
    if (!fence_applies())
        return;
    check_before("prepare the transaction");
    quorum_wanted = commit_is_synchronous();
}

// Here PostgreSQL has forgotten where the record ended; its start is known.  A confirmation beyond the
// start is one of the whole record, unless a cancelled wait met a standby that had flushed up to a page
// boundary inside it.  Then PREPARE is answered too early; the COMMIT PREPARED behind it is not.
void after_prepare() {
    if (fence_applies())
        check_after(false, "PREPARE TRANSACTION", quorum_wanted ? ProcLastRecPtr + 1 : InvalidXLogRecPtr);
    forget_transaction();
}

void transaction_event(XactEvent event, void *) {
    switch (event) {
    case XACT_EVENT_PRE_COMMIT:
        before_commit();
        break;
    case XACT_EVENT_COMMIT:
        after_commit();
        break;
    case XACT_EVENT_PRE_PREPARE:
        before_prepare();
        break;
    case XACT_EVENT_PREPARE:
        after_prepare();
        break;
    case XACT_EVENT_ABORT:
        forget_transaction();
        break;
    case XACT_EVENT_PARALLEL_PRE_COMMIT:
    case XACT_EVENT_PARALLEL_COMMIT:
    case XACT_EVENT_PARALLEL_ABORT:
        break; // the leader commits
    }
}

// Emptying synchronous_standby_names would acknowledge every waiting commit at once.  The manager worker
// puts a changed value back, but not before the first reload.
void keep_sync_setting(const AlterSystemStmt *statement) {
    const VariableSetStmt *change = statement->setstmt;
    bool all = change->kind == VAR_RESET_ALL;
    if (!all && pg_strcasecmp(change->name, "synchronous_standby_names") != 0)
        return;
    ereport(ERROR,
            (errcode(ERRCODE_CANT_CHANGE_RUNTIME_PARAM),
             errmsg("synchronous_standby_names is managed by pg_ha and cannot be changed by ALTER SYSTEM"),
             all ? errhint("Reset the settings that you want to reset one by one.")
                 : errhint("pg_ha.synchronous chooses between synchronous and asynchronous commits; pg_ha keeps the "
                           "list of standbys.")));
}

// Null: a statement that its own transaction's end covers, or that needs no lease.
const char *finishes_elsewhere(const Node *statement) {
    if (IsA(statement, NotifyStmt))
        return "execute NOTIFY";
    if (!IsA(statement, TransactionStmt))
        return nullptr;
    switch (reinterpret_cast<const TransactionStmt *>(statement)->kind) {
    case TRANS_STMT_COMMIT_PREPARED:
        return "execute COMMIT PREPARED";
    case TRANS_STMT_ROLLBACK_PREPARED:
        return "execute ROLLBACK PREPARED";
    default:
        return nullptr;
    }
}

void utility(PlannedStmt *planned, const char *query, bool read_only_tree, ProcessUtilityContext context,
             ParamListInfo parameters, QueryEnvironment *environment, DestReceiver *destination,
             QueryCompletion *completion) {
    const Node *statement = planned->utilityStmt;
    const char *what = finishes_elsewhere(statement);
    bool finishes_prepared = what && IsA(statement, TransactionStmt);
    // In recovery PostgreSQL itself refuses all of them, with its own text.
    if (what && fence_applies() && !RecoveryInProgress())
        check_before(what);
    if (IsA(statement, AlterSystemStmt) && fence_applies())
        keep_sync_setting(reinterpret_cast<const AlterSystemStmt *>(statement));
    bool commits = finishes_prepared &&
                   reinterpret_cast<const TransactionStmt *>(statement)->kind == TRANS_STMT_COMMIT_PREPARED;
    bool waits = finishes_prepared && commit_is_synchronous();
    ProcessUtility_hook_type next = earlier_utility_hook ? earlier_utility_hook : standard_ProcessUtility;
    next(planned, query, read_only_tree, context, parameters, environment, destination, completion);
    if (finishes_prepared) {
        prepared_finished = true;
        prepared_committed = commits;
        prepared_end = waits ? XactLastRecEnd : InvalidXLogRecPtr;
    }
}

} // namespace

void fence_install() {
    RegisterXactCallback(transaction_event, nullptr);
    earlier_utility_hook = ProcessUtility_hook;
    ProcessUtility_hook = utility;
}

} // namespace pg_ha
