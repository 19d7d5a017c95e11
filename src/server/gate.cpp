// SPDX-License-Identifier: PostgreSQL
//
// The WAL gate, walreceiver's side.  Our table of WalReceiverFunctions stands before libpq's: a
// walreceiver of a member connects only where the node worker says, and acknowledges nothing once
// the gate is shut.  That freezes this node's position before it votes, without waiting for replay
// or for a process to end.  The node worker's side is control.cpp.
//
// Keeps two promises.  After gate_term was set to 0 and gate_sending was seen 0, no acknowledgement
// leaves this server until the gate is opened for a new connection.  And a node whose WAL is no
// part of its primary's history never opens a stream, because PostgreSQL would count what it
// reports as an acknowledgement (postgres-facts, part 3).
//
// All of this runs in the walreceiver, where ereport(ERROR) ends the process.  No object here has a
// destructor, so that is safe anywhere.  Logical connections pass through untouched, and so does
// everything on a server that is no member.
#include "gate.hpp"
#include "core/planted.hpp"
#include "fork_segment.hpp"
#include "shmem.hpp"

extern "C" {
#include "access/timeline.h"
#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "access/xlogrecovery.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "replication/walreceiver.h"
#include "storage/ipc.h"
#include "storage/pmsignal.h"
#include "utils/memutils.h"
#include "utils/wait_event.h"
}

// walreceiver.h names the members of the table by macros as well.
#undef walrcv_connect
#undef walrcv_identify_system
#undef walrcv_readtimelinehistoryfile
#undef walrcv_startstreaming
#undef walrcv_receive
#undef walrcv_send

#include <cstdio>
#include <cstring>

namespace pg_ha {

namespace {

// A walreceiver without a primary waits this long, then lets recovery look into the archive again.
constexpr uint64 patience_ns = UINT64CONST(30000000000);
constexpr long look_again_ms = 1000;

WalReceiverFunctionsType stock;
WalReceiverFunctionsType wrapped;

// This process' one physical connection.
WalReceiverConn *connection = nullptr;
uint32 connection_version = 0; // upstream_version it was made for
TimeLineID primary_timeline = 0;
bool exit_callback_registered = false;
char first_segment[MAXFNAMELEN]; // name of the WAL file that the stream begins with

void wake_node_worker() {
    Latch *latch = shared->node_latch;
    if (latch)
        SetLatch(latch);
}

void count(pg_atomic_uint32 *counter) {
    pg_atomic_fetch_add_u32(counter, 1);
    wake_node_worker();
}

bool connection_is_valid() {
    return connection_version != 0 && pg_atomic_read_u32(&shared->gate_term) != 0 &&
           pg_atomic_read_u32(&shared->upstream_version) == connection_version;
}

// Last thing a walreceiver does: whatever ended it, nothing may stay marked as under way.  Its end
// says something about the primary only while that is still the one to follow.
void at_exit(int, Datum) {
    pg_atomic_write_u32(&shared->gate_sending, 0);
    pg_atomic_write_u32(&shared->gate_connected, 0);
    pg_atomic_write_u32(&shared->stream_active, 0);
    if (connection_is_valid())
        count(&shared->streams_failed);
    wake_node_worker();
}

void leave(const char *why) {
    ereport(LOG, (errmsg("pg_ha: walreceiver ends: %s", why)));
    proc_exit(1);
}

unsigned high(XLogRecPtr lsn) { return static_cast<uint32>(lsn >> 32); }
unsigned low(XLogRecPtr lsn) { return static_cast<uint32>(lsn); }

// The version (even, and the gate open before and after) that goes with the copied text, or 0.
uint32 copy_upstream(char *conninfo, Size size) {
    uint32 version = pg_atomic_read_u32(&shared->upstream_version);
    if (version % 2 != 0 || pg_atomic_read_u32(&shared->gate_term) == 0)
        return 0;
    pg_read_barrier();
    strlcpy(conninfo, shared->upstream_conninfo, size);
    pg_read_barrier();
    if (pg_atomic_read_u32(&shared->upstream_version) != version || pg_atomic_read_u32(&shared->gate_term) == 0)
        return 0;
    return version;
}

// In a crash-restart cycle the postmaster starts its workers only when the server is consistent.  One that
// was rewound becomes so with WAL of its primary, which only the node worker can name.
void have_node_worker_started() {
    if (!shared->node_latch)
        SendPostmasterSignal(PMSIGNAL_BACKGROUND_WORKER_CHANGE);
}

// Waits for a primary without giving the process up, so that following starts within a millisecond
// of the gate's opening and the log stays quiet meanwhile.
uint32 wait_for_upstream(char *conninfo, Size size) {
    uint64 give_up = boot_now_ns() + patience_ns;
    for (;;) {
        ResetLatch(MyLatch);
        ProcessWalRcvInterrupts();
        uint32 version = copy_upstream(conninfo, size);
        if (version != 0)
            return version;
        if (boot_now_ns() >= give_up)
            proc_exit(0); // recovery starts the next one
        have_node_worker_started();
        (void)WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, look_again_ms, PG_WAIT_EXTENSION);
    }
}

WalReceiverConn *gated_connect(const char *conninfo, bool logical, const char *appname, char **err) {
    if (logical || pg_atomic_read_u32(&shared->armed) == 0)
        return stock.walrcv_connect(conninfo, logical, appname, err);

    char upstream[sizeof(shared->upstream_conninfo)];
    if (!exit_callback_registered)
        before_shmem_exit(at_exit, static_cast<Datum>(0));
    exit_callback_registered = true;
    // Recovery asks for a walreceiver only after it has replayed all WAL that lies here.
    pg_atomic_write_u32(&shared->wal_settled, 1);
    wake_node_worker();
    connection_version = wait_for_upstream(upstream, sizeof(upstream));
    pg_atomic_write_u32(&shared->gate_connected, connection_version);
    connection = stock.walrcv_connect(upstream, false, appname, err);
    return connection; // null: walreceiver raises an error with *err, and at_exit() counts it
}

// The end of each timeline before `primary_timeline`, oldest first, as the primary itself says.  Not as the
// file of that number here says: a standby promoted by hand has made one of its own, under a number that
// the next elected primary uses, too.
List *primary_history(WalReceiverConn *conn) {
    List *ends = NIL;
    if (primary_timeline <= 1)
        return ends;
    char *name, *content;
    int length;
    stock.walrcv_readtimelinehistoryfile(conn, primary_timeline, &name, &content, &length);
    char *text = pnstrdup(content, static_cast<Size>(length));
    char *rest = nullptr;
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(nullptr, "\n", &rest)) {
        uint32 timeline, upper, lower;
        if (sscanf(line, "%u\t%X/%X", &timeline, &upper, &lower) != 3)
            continue; // empty, or a comment
        auto *entry = static_cast<TimeLineHistoryEntry *>(palloc0(sizeof(TimeLineHistoryEntry)));
        entry->tli = timeline;
        entry->end = (static_cast<XLogRecPtr>(upper) << 32) | lower;
        ends = lappend(ends, entry);
    }
    return ends;
}

// Walreceiver fetches the primary's history files next.  Recovery reads what lies in pg_wal and would end the
// server over a history that does not contain its own, so this is decided before.
void refuse_if_diverged(WalReceiverConn *conn) {
    TimeLineID timeline;
    XLogRecPtr end = GetXLogReplayRecPtr(&timeline);
    if (primary_timeline == 0 || planted(Bug::diverged_streams))
        return;
    // Nobody is elected on a timeline above the term.  To follow who was promoted by hand would make a second one.
    const uint32 term = pg_atomic_read_u32(&shared->gate_term);
    if (term != 0 && primary_timeline > term)
        ereport(FATAL, (errmsg("pg_ha: the primary of term %u is on timeline %u", term, primary_timeline),
                        errdetail("It was promoted by hand, or has been elected again and this server does not know yet.")));
    List *theirs = primary_history(conn);
    List *ours = readTimeLineHistory(timeline); // newest first, its head is the timeline itself
    int before = list_length(ours) - 1;
    bool shared_history = list_length(theirs) >= before;
    for (int i = 0; i < before && shared_history; i++) {
        const auto *mine = static_cast<const TimeLineHistoryEntry *>(list_nth(ours, before - i));
        const auto *other = static_cast<const TimeLineHistoryEntry *>(list_nth(theirs, i));
        shared_history = mine->tli == other->tli && mine->end == other->end;
    }
    const TimeLineHistoryEntry *left = nullptr; // where the primary left our timeline; null: it is on it
    if (shared_history && list_length(theirs) > before)
        left = static_cast<const TimeLineHistoryEntry *>(list_nth(theirs, before));
    if (!shared_history || (left ? left->tli : primary_timeline) != timeline) {
        if (primary_timeline == term) // that was elected; another server may have been met in its place
            pg_atomic_write_u32(&shared->foreign_timeline, timeline);
        ereport(FATAL, (errmsg("pg_ha: timeline %u of this server is no part of the primary's history", timeline),
                        errdetail("The primary is on timeline %u.", primary_timeline),
                        errhint("Rewind this server with pg_rewind, or clone it again.")));
    }
    if (left && end > left->end)
        ereport(FATAL, (errmsg("pg_ha: this server has WAL that the primary does not have"),
                        errdetail("WAL ends here at %X/%X on timeline %u; the primary left that timeline at %X/%X.",
                                  high(end), low(end), timeline, high(left->end), low(left->end)),
                        errhint("Rewind this server with pg_rewind, or clone it again.")));
}

char *gated_identify_system(WalReceiverConn *conn, TimeLineID *primary_tli) {
    char *identifier = stock.walrcv_identify_system(conn, primary_tli);
    if (conn == connection) {
        primary_timeline = *primary_tli;
        refuse_if_diverged(conn);
    }
    return identifier;
}

// PostgreSQL asks for the segment with the page that it wants next.  If the record to be read began in the
// segment before, and the primary left our timeline there, nobody would ever fetch that segment of the
// primary's timeline, and recovery would PANIC for the want of it.
XLogRecPtr segment_of_replay() {
    XLogRecPtr end = GetXLogReplayRecPtr(nullptr);
    return end - XLogSegmentOffset(end, wal_segment_size);
}

bool gated_startstreaming(WalReceiverConn *conn, const WalRcvStreamOptions *options) {
    if (conn != connection)
        return stock.walrcv_startstreaming(conn, options);
    // From here on WAL may arrive.  Cleared before the gate is looked at: whoever shuts the gate and
    // then still reads "settled" knows that nothing was acknowledged since.
    pg_atomic_write_u32(&shared->wal_settled, 0);
    pg_memory_barrier();
    if (!connection_is_valid())
        leave("another primary is to be followed");
    WalRcvStreamOptions from = *options;
    if (!planted(Bug::next_segment_asked))
        from.startpoint = Min(from.startpoint, segment_of_replay());
    make_fork_segments(from.proto.physical.startpointTLI, from.startpoint);
    XLogSegNo segment;
    XLByteToSeg(from.startpoint, segment, wal_segment_size);
    XLogFileName(first_segment, from.proto.physical.startpointTLI, segment, wal_segment_size);
    bool streaming = stock.walrcv_startstreaming(conn, &from);
    if (streaming) {
        pg_atomic_write_u64(&shared->stream_heard_ns, boot_now_ns());
        pg_atomic_write_u32(&shared->stream_active, 1);
        count(&shared->streams_started);
    }
    return streaming;
}

// The primary has ended the stream with an error.  If it names the file that the stream should begin with, it
// cannot read it: it "has already been removed", in whatever language.  The primary may know it by the
// number of a later timeline, so only the rest of the name counts.
void note_missing_wal() {
    MemoryContext before = MemoryContextSwitchTo(TopMemoryContext);
    ErrorData *error = CopyErrorData();
    if (error->message && strstr(error->message, first_segment + 8))
        pg_atomic_fetch_add_u32(&shared->stream_lacks_wal, 1);
    FreeErrorData(error);
    MemoryContextSwitchTo(before);
}

int receive_or_note(WalReceiverConn *conn, char **buffer, pgsocket *wait_fd) {
    volatile int length = 0;
    PG_TRY();
    {
        length = stock.walrcv_receive(conn, buffer, wait_fd);
    }
    PG_CATCH();
    {
        note_missing_wal();
        PG_RE_THROW();
    }
    PG_END_TRY();
    if (length > 0 && (*buffer)[0] == 'w' && pg_atomic_read_u32(&shared->stream_lacks_wal) != 0)
        pg_atomic_write_u32(&shared->stream_lacks_wal, 0);
    return length;
}

int gated_receive(WalReceiverConn *conn, char **buffer, pgsocket *wait_fd) {
    if (conn != connection)
        return stock.walrcv_receive(conn, buffer, wait_fd);
    if (!connection_is_valid())
        leave("the gate was shut");
    int length = receive_or_note(conn, buffer, wait_fd);
    if (length > 0)
        pg_atomic_write_u64(&shared->stream_heard_ns, boot_now_ns());
    else if (length < 0) {
        pg_atomic_write_u32(&shared->stream_active, 0);
        count(&shared->streams_finished);
    }
    return length;
}

void gated_send(WalReceiverConn *conn, const char *buffer, int nbytes) {
    if (conn != connection) {
        CHECK_FOR_INTERRUPTS(); // an apply worker that the fence has told to end must not report its commit
        stock.walrcv_send(conn, buffer, nbytes);
        return;
    }
    pg_atomic_write_u32(&shared->gate_sending, 1);
    pg_memory_barrier();
    if (!connection_is_valid())
        leave("the gate was shut");
    stock.walrcv_send(conn, buffer, nbytes); // an ERROR ends the process, and at_exit() clears gate_sending
    pg_memory_barrier();
    pg_atomic_write_u32(&shared->gate_sending, 0);
}

} // namespace

void gate_install() {
    // Once loaded here, walreceiver's own load_file() is a no-op and leaves our table in place.
    load_file("libpqwalreceiver", false);
    if (WalReceiverFunctions == nullptr)
        elog(ERROR, "libpqwalreceiver did not initialize correctly");
    stock = *WalReceiverFunctions;
    wrapped = stock;
    wrapped.walrcv_connect = gated_connect;
    wrapped.walrcv_identify_system = gated_identify_system;
    wrapped.walrcv_startstreaming = gated_startstreaming;
    wrapped.walrcv_receive = gated_receive;
    wrapped.walrcv_send = gated_send;
    WalReceiverFunctions = &wrapped;
}

} // namespace pg_ha
