// SPDX-License-Identifier: PostgreSQL
//
// The commit fence.  A writing transaction may commit only while this node holds the lease, and its
// COMMIT may be answered only if the lease still holds and, in synchronous mode, the quorum has
// the commit record.  Time itself fences: no worker has to run for a lease to end.
//
// Two looks per writing transaction, one clock reading each; a transaction without an xid pays nothing.
//  1. Before (PRE_COMMIT, PRE_PREPARE, and before COMMIT PREPARED and ROLLBACK PREPARED): wait
//     pg_ha.fence_wait for the lease, then ERROR 25006, which rolls back.
//  2. After the commit record and the wait for the standbys (COMMIT, PREPARE): nothing can be undone and
//     an ERROR would be a PANIC, so after pg_ha.fence_wait the connection is closed without an answer, by the same flags
//     that PostgreSQL's own synchronous wait uses.  The client does not know the outcome, which is
//     the truth.  This also closes the stock leak that a cancelled wait is answered as a commit.
//
// The second look goes by the write quorum that the node worker has confirmed, never by what a file
// says: if that wants standbys and the record is not confirmed, it does not matter why nobody waited.
//
// Nothing switches this off, superusers included.  Single-user mode is not fenced: there is no
// cluster to be split from, and recovery by hand needs it.  Autovacuum answers nobody and passes.
#include "fence.hpp"
#include "core/planted.hpp"

#include "errcodes.hpp"
#include "guc.hpp"
#include "refusal.hpp"
#include "shmem.hpp"

extern "C" {
#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "access/xlogrecord.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "replication/syncrep.h"
#include "replication/walsender.h"
#include "replication/walsender_private.h"
#include "storage/latch.h"
#include "storage/pmsignal.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/wait_event.h"
}

#include <fcntl.h>
#include <unistd.h>

namespace pg_ha {

namespace {

// Of the transaction that is ending; set before its record is written, used after it.
struct Ending {
    bool lease_wanted;      // looked at although it has no xid
    bool confirm;           // the quorum has to confirm its record
    bool unprotected;       // it waits for less than a flush on the quorum
    bool prepared_finished; // it has carried out COMMIT PREPARED or ROLLBACK PREPARED
    bool prepared_committed;
    XLogRecPtr prepared_end; // end of that record, if the quorum has to confirm it
};
Ending ending;

bool standbys_wanted() {
    return pg_atomic_read_u32(&shared->sync_quorum) != 1; // 0: not known yet, and there is no lease either
}

// remote_apply waits for the replay of commit records only, not for that of PREPARE or ROLLBACK PREPARED.
XLogRecPtr confirmed_by_quorum(bool commit) {
    bool apply = commit && synchronous_commit == SYNCHRONOUS_COMMIT_REMOTE_APPLY;
    return reinterpret_cast<volatile WalSndCtlData *>(WalSndCtl)
        ->lsn[apply ? SYNC_REP_WAIT_APPLY : SYNC_REP_WAIT_FLUSH];
}

void check_protected() {
    if (!guc_require_synchronous_commit)
        return;
    ereport(ERROR,
            (errcode(errcode_commit_not_synchronous),
             errmsg("synchronous_commit = %s is not allowed in this cluster",
                    GetConfigOption("synchronous_commit", false, false)),
             errdetail("A commit that is answered before the quorum has flushed it can be lost in a failover."),
             errhint("Set synchronous_commit to on or remote_apply; pg_ha.require_synchronous_commit is on.")));
}

// A session that asks for less than a flush on the standbys leaves the promise; it is counted or refused.
void begin_ending() {
    bool synchronous = synchronous_commit >= SYNCHRONOUS_COMMIT_REMOTE_FLUSH;
    ending.confirm = synchronous;
    ending.unprotected = !synchronous && standbys_wanted();
    if (ending.unprotected)
        check_protected();
}

// A lease that comes back is one of the same term, so the commit is part of this primary's history and can
// be answered after all: after a short loss of quorum the standbys often confirm before the lease is
// renewed.  Nothing in here may raise.
bool lease_returns() {
    uint64 end = boot_now_ns() + static_cast<uint64>(guc_fence_wait_ms) * UINT64CONST(1000000);
    while (!lease_holds()) {
        if (ProcDiePending || QueryCancelPending || boot_now_ns() >= end || !PostmasterIsAlive())
            return false;
        (void)WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_POSTMASTER_DEATH, 5, PG_WAIT_EXTENSION);
        ResetLatch(MyLatch);
    }
    return true;
}

// `end`: up to where the quorum must have confirmed; invalid: nothing to confirm.
void check_after(bool commit, const char *what, XLogRecPtr end) {
    bool unconfirmed = !XLogRecPtrIsInvalid(end) && standbys_wanted() && confirmed_by_quorum(commit) < end;
    if ((!unconfirmed && (lease_holds() || lease_returns())) || planted(Bug::last_check_off))
        return;
    whereToSendOutput = DestNone;
    ProcDiePending = true;
    InterruptPending = true;
    ereport(LOG, (errmsg("closing the connection instead of answering %s", what),
                  unconfirmed
                      ? errdetail("The transaction is durable here, but the quorum has not confirmed %X/%X.",
                              static_cast<uint32>(end >> 32), static_cast<uint32>(end))
                      : errdetail("The lease ended while the transaction was being made durable.")));
}

void count_unprotected() {
    if (ending.unprotected)
        pg_atomic_fetch_add_u64(&shared->unprotected_commits, 1);
}

void before_commit() {
    bool has_xid = TransactionIdIsValid(GetTopTransactionIdIfAny());
    if ((!has_xid && !ending.lease_wanted) || ending.prepared_finished || !fence_applies())
        return;
    fence_check("commit");
    ending.lease_wanted = true;
    // PostgreSQL waits for the standbys only if the transaction wrote WAL before its commit record:
    // one that only took an xid, or wrote temporary tables, is never confirmed and loses nothing.
    if (has_xid && XactLastRecEnd != InvalidXLogRecPtr)
        begin_ending();
}

void after_commit() {
    // An xid that was taken after the first look is one of a notification queued by other means.
    if (ending.prepared_finished) {
        bool commit = ending.prepared_committed;
        check_after(commit, commit ? "COMMIT PREPARED" : "ROLLBACK PREPARED", ending.prepared_end);
        count_unprotected();
    } else if (ending.lease_wanted) {
        check_after(true, "COMMIT", ending.confirm ? XactLastCommitEnd : InvalidXLogRecPtr);
        count_unprotected();
    } else if (TransactionIdIsValid(GetTopTransactionIdIfAny()) && fence_applies()) {
        check_after(true, "COMMIT", InvalidXLogRecPtr);
    }
    ending = {};
}

void before_prepare() {
    if (!fence_applies())
        return;
    fence_check("prepare the transaction");
    ending.lease_wanted = true;
    begin_ending();
}

// PostgreSQL has forgotten where the record ended, and a standby may have flushed up to a page boundary
// inside it, so the length is read back.
void after_prepare() {
    if (ending.lease_wanted) {
        check_after(false, "PREPARE TRANSACTION",
                    ending.confirm && standbys_wanted() ? fence_record_end(ProcLastRecPtr) : InvalidXLogRecPtr);
        count_unprotected();
    }
    ending = {};
}

} // namespace

bool fence_applies() {
    return IsUnderPostmaster && shared && pg_atomic_read_u32(&shared->armed) != 0 && MyBackendType != B_AUTOVAC_WORKER;
}

void fence_check(const char *what) {
    if (lease_holds())
        return;
    Snapshot *seen = static_cast<Snapshot *>(palloc0(sizeof(Snapshot)));
    if (!wait_until(lease_holds, guc_fence_wait_ms, seen))
        ereport(ERROR, (errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION), errmsg("cannot %s: %s", what, why_fenced(seen)),
                        detail_role(seen), hint_primary(seen)));
    pfree(seen);
}

void fence_this_transaction() {
    ending.lease_wanted = true;
}

void fence_finishing_prepared(bool commits) {
    fence_check(commits ? "execute COMMIT PREPARED" : "execute ROLLBACK PREPARED");
    begin_ending();
}

// An answered ROLLBACK PREPARED must last as well: nobody would ever finish the transaction on the next primary.
void fence_prepared_finished(bool committed) {
    ending.prepared_finished = true;
    ending.prepared_committed = committed;
    ending.prepared_end = ending.confirm ? XactLastRecEnd : InvalidXLogRecPtr;
}

// The length stands in the record's first four bytes, which never cross a page.
XLogRecPtr fence_record_end(XLogRecPtr start) {
    char path[MAXPGPATH];
    XLogSegNo segment;
    XLByteToSeg(start, segment, wal_segment_size);
    XLogFilePath(path, GetWALInsertionTimeLine(), segment, wal_segment_size);
    uint32 length = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got = fd < 0 ? -1 : pread(fd, &length, sizeof(length), XLogSegmentOffset(start, wal_segment_size));
    if (fd >= 0)
        close(fd);
    if (got != sizeof(length) || length < SizeOfXLogRecord)
        return PG_UINT64_MAX;
    uint64 left = MAXALIGN64(length);
    XLogRecPtr position = start;
    for (;;) {
        uint64 room = XLOG_BLCKSZ - position % XLOG_BLCKSZ;
        if (left <= room)
            return position + left;
        left -= room;
        position += room;
        bool first_page = XLogSegmentOffset(position, wal_segment_size) == 0;
        position += first_page ? SizeOfXLogLongPHD : SizeOfXLogShortPHD;
    }
}

void fence_transaction_event(XactEvent event, void *) {
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
        ending = {};
        break;
    case XACT_EVENT_PARALLEL_PRE_COMMIT:
    case XACT_EVENT_PARALLEL_COMMIT:
    case XACT_EVENT_PARALLEL_ABORT:
        break; // the leader commits
    }
}

void fence_install() {
    RegisterXactCallback(fence_transaction_event, nullptr);
}

} // namespace pg_ha
