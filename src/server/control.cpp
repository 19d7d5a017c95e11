// SPDX-License-Identifier: PostgreSQL
//
// What the agent wants of PostgreSQL, done through shared memory and signals: no SQL, no lock that
// could wait, no file but the promotion's.  The walreceiver's side of the gate is gate.cpp.
//
// Must never: report a position that an acknowledgement sent earlier or later could exceed.  So the
// gate is shut before the position is read, and a restarted standby reports none until recovery has
// used up the local WAL (postgres-facts, section 3).
#include "control.hpp"

#include "backend.hpp"
#include "agent/conninfo_value.hpp"
#include "core/planted.hpp"
#include "guc.hpp"
#include "shmem.hpp"
#include "snapshot.hpp"
#include "verification.hpp"

extern "C" {
#include "access/timeline.h"
#include "access/xlog.h"
#include "access/xlogrecovery.h"
#include "catalog/pg_control.h"
#include "common/controldata_utils.h"
#include "miscadmin.h"
#include "replication/walreceiver.h"
#include "replication/walsender_private.h"
#include "utils/timestamp.h"
}

#include <algorithm>
#include <signal.h>

namespace pg_ha {

using std::chrono::milliseconds;

namespace {

constexpr Duration nudge_first = milliseconds(5);
constexpr Duration nudge_last = milliseconds(1000);
constexpr Duration nudge_missing = milliseconds(5000); // the primary has no more of the WAL that is needed
constexpr Duration stale_patience = milliseconds(20);
constexpr Duration promotion_poll = milliseconds(1);
constexpr Duration settle_poll = milliseconds(2);       // sessions wait for it
constexpr Duration settle_poll_slow = milliseconds(50); // nobody answers
constexpr Duration settle_soon = milliseconds(1000);
constexpr uint64 sending_wait_ns = 10 * 1000 * 1000;
constexpr uint64 writing_wait_ns = 50 * 1000 * 1000;

// An acknowledgement may be on its way to the kernel.  The wait is bounded because the position read
// afterwards covers everything that was composed before the gate was shut.
void wait_until_sent() {
    const uint64 give_up = boot_now_ns() + sending_wait_ns;
    for (int spins = 0; pg_atomic_read_u32(&shared->gate_sending) != 0; spins++) {
        if (boot_now_ns() >= give_up)
            return;
        if (spins > 1000)
            pg_usleep(50);
    }
}

// What a walreceiver has written but not flushed when the gate is shut it flushes as it ends.  Read before
// that, the position would grow after the vote: the voter would have WAL that the winner lacks, and have to
// be rewound just when the winner needs it.  The wait is bounded, since this is about availability only:
// nothing of that WAL is acknowledged.  A walreceiver that has not streamed, or waits for what to stream
// next, has nothing unflushed.
void wait_until_written() {
    const uint64 give_up = boot_now_ns() + writing_wait_ns;
    WalRcvForceReply(); // wakes it
    while (pg_atomic_read_u32(&shared->wal_settled) == 0 && boot_now_ns() < give_up) {
        SpinLockAcquire(&WalRcv->mutex);
        const bool ended = WalRcv->pid == 0 || WalRcv->walRcvState == WALRCV_WAITING;
        SpinLockRelease(&WalRcv->mutex);
        if (ended)
            return;
        pg_usleep(100);
    }
}

void shut_gate() {
    pg_atomic_write_u32(&shared->gate_term, 0);
    pg_memory_barrier();
    wait_until_sent();
}

pid_t walreceiver_pid() {
    SpinLockAcquire(&WalRcv->mutex);
    const pid_t pid = WalRcv->pid;
    SpinLockRelease(&WalRcv->mutex);
    return pid;
}

std::uint32_t replay_delay_ms(XLogRecPtr received, XLogRecPtr replayed) {
    if (replayed >= received)
        return 0;
    const TimestampTz newest = GetLatestXTime();
    if (newest == 0)
        return 0;
    const int64 delay = (GetCurrentTimestamp() - newest) / 1000;
    return static_cast<std::uint32_t>(std::clamp<int64>(delay, 0, UINT32_MAX));
}

// After a rewind or a base backup the data files are newer than some of the WAL; promoted before that is replayed,
// the startup process ends the server ("WAL ends before consistent recovery point", xlogrecovery.c).  The control
// file tells how far; once reached, it stays so for the life of this process.
void look_for_consistency(XLogRecPtr replayed, LocalState *local) {
    static bool reached = false;
    local->promotable = reached;
    if (reached)
        return;
    bool crc_ok = false;
    ControlFileData *control = nullptr;
    try {
        if (!XLogRecPtrIsInvalid(replayed)) // the startup process has read the backup's label
            guarded([&] { control = get_controlfile(DataDir, &crc_ok); });
    } catch (const BackendError &) {
    }
    if (control && crc_ok) {
        reached = !control->backupEndRequired && XLogRecPtrIsInvalid(control->backupStartPoint) &&
                  replayed >= control->minRecoveryPoint;
        if (replayed < control->minRecoveryPoint)
            local->needed = {static_cast<Timeline>(control->minRecoveryPointTLI), static_cast<Lsn>(control->minRecoveryPoint)};
    } else {
        local->position_known = false; // it is looked at again with the next sample
    }
    if (control)
        pfree(control);
    local->promotable = reached;
}

// But for the control file, nothing that is called in here can raise: it reads shared memory under spinlocks.
LocalState look_at_server() {
    LocalState local;
    local.in_recovery = RecoveryInProgress();
    if (!local.in_recovery) {
        TimeLineID timeline = 0;
        const XLogRecPtr flushed = GetFlushRecPtr(&timeline);
        local.position = {static_cast<Timeline>(timeline), static_cast<Lsn>(flushed)};
        local.position_known = true;
        local.replayed = local.position.lsn;
        return local;
    }
    // Read before the positions: if it still says settled, nothing was acknowledged beyond replay.
    const bool settled = pg_atomic_read_u32(&shared->wal_settled) != 0;
    pg_memory_barrier();
    TimeLineID received_timeline = 0, replayed_timeline = 0;
    const XLogRecPtr received = GetWalRcvFlushRecPtr(nullptr, &received_timeline);
    const XLogRecPtr replayed = GetXLogReplayRecPtr(&replayed_timeline);
    local.replayed = static_cast<Lsn>(replayed);
    // Recovery has asked for a walreceiver, so it has used up the WAL that lies here.
    local.position_known = !XLogRecPtrIsInvalid(received);
    // Half a record may have been received beyond the replayed end.  It is no commit, and the next
    // primary may write something else there; once recovery has given it up it does not count.
    if (received > replayed && !settled)
        local.position = {static_cast<Timeline>(received_timeline), static_cast<Lsn>(received)};
    else
        local.position = {static_cast<Timeline>(replayed_timeline), static_cast<Lsn>(replayed)};
    look_for_consistency(replayed, &local);
    local.streaming = pg_atomic_read_u32(&shared->stream_active) != 0;
    local.opening = PromoteIsTriggered(); // whoever asked for it, this worker or the one before it
    local.replay_lag_ms = settled ? 0 : replay_delay_ms(received, replayed);
    return local;
}

struct HistoryCopy {
    int count;
    TimelineEnd entries[lineage_entries_max];
};

// The newest part of a timeline's history.  PostgreSQL lists the newest first.
void copy_history(TimeLineID timeline, HistoryCopy *copy) {
    List *history = readTimeLineHistory(timeline);
    ListCell *cell;
    copy->count = 0;
    foreach (cell, history) {
        if (copy->count >= static_cast<int>(lineage_entries_max))
            break;
        const auto *entry = static_cast<const TimeLineHistoryEntry *>(lfirst(cell));
        copy->entries[copy->count++] = {static_cast<Timeline>(entry->tli), static_cast<Lsn>(entry->end)};
    }
    list_free_deep(history);
}

std::vector<RejoinSeen> rejoins_seen() {
    RejoinTable table;
    std::vector<RejoinSeen> seen;
    if (!read_rejoins(&table))
        return seen;
    for (int i = 0; i < table.count; i++)
        seen.push_back({static_cast<NodeId>(table.rows[i].member), table.rows[i].clone != 0, table.rows[i].percent, table.rows[i].total_mb});
    return seen;
}

std::string standby_names(const ApplySync &sync) {
    if (sync.rule.quorum <= 1 || sync.names.empty() || planted(Bug::sync_not_waited))
        return "";
    std::string text = "ANY " + std::to_string(sync.rule.quorum - 1) + " (";
    for (const std::string &name : sync.names)
        text += (&name == &sync.names.front() ? "\"" : ",\"") + name + "\"";
    return text + ")";
}

} // namespace

ServerControl::ServerControl(std::string node_name) : node_name_(std::move(node_name)) {
    failed_seen_ = pg_atomic_read_u32(&shared->streams_failed);
    finished_seen_ = pg_atomic_read_u32(&shared->streams_finished);
}

// Asked is as good as begun: the startup process sees it at its next look.
LocalState ServerControl::look() const {
    LocalState local = look_at_server();
    local.opening = local.in_recovery && (local.opening || promotion_.running());
    return local;
}

Sampled ServerControl::sample() {
    const LocalState local = look();
    return {local, local.in_recovery ? Lineage{} : lineage(), local.in_recovery ? Lsn::none : confirmed(),
            static_cast<Timeline>(pg_atomic_read_u32(&shared->foreign_timeline)), rejoins_seen()};
}

// Up to where enough standbys of the rule in effect say that they have flushed.  A walsender has a priority
// exactly if that rule names its standby (sync_rule.cpp).
Lsn ServerControl::confirmed() const {
    if (sync_pending_ || sync_wanted_.quorum <= 1)
        return Lsn::none;
    std::vector<XLogRecPtr> flushed;
    for (int i = 0; i < max_wal_senders; i++) {
        WalSnd *walsender = &WalSndCtl->walsnds[i];
        SpinLockAcquire(&walsender->mutex);
        const bool counts = walsender->pid != 0 && walsender->sync_standby_priority > 0 &&
                            walsender->state == WALSNDSTATE_STREAMING;
        const XLogRecPtr flush = walsender->flush;
        SpinLockRelease(&walsender->mutex);
        if (counts && !XLogRecPtrIsInvalid(flush))
            flushed.push_back(flush);
    }
    const std::size_t needed = sync_wanted_.quorum - 1u;
    if (flushed.size() < needed)
        return Lsn::none;
    std::sort(flushed.begin(), flushed.end(), std::greater<>());
    return static_cast<Lsn>(flushed[needed - 1]);
}

Lineage ServerControl::lineage() {
    if (RecoveryInProgress())
        return {};
    TimeLineID timeline = 0;
    (void)GetFlushRecPtr(&timeline);
    if (static_cast<Timeline>(timeline) == lineage_timeline_)
        return lineage_;
    HistoryCopy copy = {};
    guarded([timeline, &copy] { copy_history(timeline, &copy); });
    lineage_.assign(copy.entries, copy.entries + copy.count);
    std::reverse(lineage_.begin(), lineage_.end());
    lineage_.back().end = Lsn::none;
    lineage_timeline_ = static_cast<Timeline>(timeline);
    return lineage_;
}

LocalState ServerControl::close_gate() {
    if (!planted(Bug::gate_not_shut)) {
        shut_gate();
        if (RecoveryInProgress() && !planted(Bug::unflushed_not_counted))
            wait_until_written();
    }
    const LocalState local = look();
    wake_walreceiver();
    changed_ = true;
    return local;
}

void ServerControl::open_gate(const OpenGate &upstream) {
    rejoin_.reset();
    verification_done(); // the core has compared our WAL with this primary's history
    const std::string conninfo = std::string(guc_replication_conninfo) + " host=" + quote_conninfo(upstream.postgres.host) +
                                 " port=" + std::to_string(upstream.postgres.port) +
                                 " application_name=" + quote_conninfo(node_name_);
    if (pg_atomic_read_u32(&shared->gate_term) != 0 && conninfo == conninfo_) {
        pg_atomic_write_u32(&shared->gate_term, raw(upstream.term));
        return; // the stream goes on
    }
    shut_gate();
    pg_atomic_write_u32(&shared->stream_lacks_wal, 0); // another primary may have what the last one had not
    // Every opening gets a version of its own, so a connection made before the gate was shut is over.
    const uint32 writing = pg_atomic_read_u32(&shared->upstream_version) | 1;
    pg_atomic_write_u32(&shared->upstream_version, writing);
    pg_memory_barrier();
    strlcpy(shared->upstream_conninfo, conninfo.c_str(), sizeof(shared->upstream_conninfo));
    pg_memory_barrier();
    pg_atomic_write_u32(&shared->upstream_version, writing + 1);
    pg_memory_barrier();
    pg_atomic_write_u32(&shared->gate_term, raw(upstream.term));
    conninfo_ = conninfo;
    wake_walreceiver();
    changed_ = true;
}

void ServerControl::set_lease(Instant until) {
    const uint64 wanted = static_cast<uint64>(until.time_since_epoch().count());
    const uint64 before = pg_atomic_exchange_u64(&shared->lease_until_ns, wanted);
    changed_ = changed_ || (before == 0) != (wanted == 0);
}

void ServerControl::settled() {
    if (pg_atomic_exchange_u32(&shared->settled, 1) == 1)
        return;
    changed_ = true;
    const Instant now{std::chrono::nanoseconds(boot_now_ns())};
    const Duration held = settling_since_ < now ? now - settling_since_ : Duration{0};
    ereport(LOG, (errmsg("pg_ha: sessions are let in, after %lld ms",
                         static_cast<long long>(std::chrono::duration_cast<milliseconds>(held).count()))));
}

void ServerControl::promote(Term term) {
    TimeLineID replayed = 0;
    (void)GetXLogReplayRecPtr(&replayed);
    const std::string error = promotion_.start(term, static_cast<Timeline>(replayed),
                                               Instant(std::chrono::nanoseconds(boot_now_ns())));
    if (!error.empty())
        answers_.push_back(PromotionFailed{error});
    changed_ = true;
}

void ServerControl::demote(const std::string &reason) {
    set_lease(long_ago);
    demotion_ = reason.empty() ? "demoted" : reason;
    changed_ = true;
}

void ServerControl::rejoin(const Rejoin &rejoin) {
    verification_needed();
    rejoin_ = rejoin;
}

void ServerControl::apply_sync(const ApplySync &sync) {
    const uint32 writing = pg_atomic_read_u32(&shared->sync_wanted_version) | 1;
    pg_atomic_write_u32(&shared->sync_wanted_version, writing);
    pg_memory_barrier();
    memcpy(shared->sync_wanted_before, shared->sync_wanted, sizeof(shared->sync_wanted_before));
    strlcpy(shared->sync_wanted, standby_names(sync).c_str(), sizeof(shared->sync_wanted));
    pg_memory_barrier();
    pg_atomic_write_u32(&shared->sync_wanted_version, writing + 1);
    const uint32 quorum = static_cast<uint32>(sync.rule.quorum);
    if (quorum < pg_atomic_read_u32(&shared->sync_quorum)) // the record allows it already
        pg_atomic_write_u32(&shared->sync_quorum, quorum);
    sync_wanted_ = sync.rule;
    sync_version_ = writing + 1;
    sync_pending_ = true;
    if (Latch *latch = shared->manager_latch)
        SetLatch(latch);
}

// ereport below ERROR returns.
void ServerControl::note(const Note &note) {
    ereport(LOG, (errmsg("pg_ha: %s to %s in term %u at %s: %s", to_string(note.from), to_string(note.to),
                         raw(note.term), to_string(note.position).c_str(), note.reason.c_str())));
    const EventRow row = event_row(note);
    write_event(&row);
    changed_ = true;
}

void ServerControl::trace(const std::string &line) {
    if (guc_trace)
        ereport(LOG, (errmsg("pg_ha trace: %s", line.c_str()), errhidestmt(true)));
}

bool ServerControl::take_changed() {
    const bool changed = changed_;
    changed_ = false;
    return changed;
}

std::deque<Event> ServerControl::poll(Instant now) {
    std::deque<Event> events;
    events.swap(answers_);
    poll_promotion(now, events);
    poll_streams(events);
    poll_sync(events);
    poll_walreceiver(now);
    poll_settling(now, events);
    return events;
}

void ServerControl::poll_promotion(Instant now, std::deque<Event> &events) {
    if (!promotion_.running())
        return;
    const Promotion::Outcome outcome = promotion_.poll(now);
    if (outcome == Promotion::Outcome::pending)
        return;
    changed_ = true;
    if (Latch *latch = shared->manager_latch)
        SetLatch(latch); // it has a checkpoint made
    if (outcome == Promotion::Outcome::failed) {
        events.push_back(PromotionFailed{promotion_.failure()});
        return;
    }
    verification_done();
    const LocalState local = look();
    if (local.position.timeline == timeline_of(promotion_.term()))
        events.push_back(Promoted{local, lineage()});
    else
        events.push_back(PromotionFailed{"PostgreSQL chose timeline " + std::to_string(raw(local.position.timeline)) +
                                         " instead of " + std::to_string(raw(promotion_.term()))});
}

void ServerControl::poll_streams(std::deque<Event> &events) {
    const std::uint32_t finished = pg_atomic_read_u32(&shared->streams_finished);
    const std::uint32_t failed = pg_atomic_read_u32(&shared->streams_failed);
    if (finished != finished_seen_)
        events.push_back(StreamEnded{true});
    if (failed != failed_seen_)
        events.push_back(StreamEnded{false});
    finished_seen_ = finished;
    failed_seen_ = failed;
}

void ServerControl::poll_sync(std::deque<Event> &events) {
    if (!sync_pending_ || pg_atomic_read_u32(&shared->sync_done_version) != sync_version_)
        return;
    sync_pending_ = false;
    pg_atomic_write_u32(&shared->sync_quorum, static_cast<uint32>(sync_wanted_.quorum));
    events.push_back(SyncInEffect{sync_wanted_});
}

// While sessions are held, the walsenders are looked at often: nobody tells when a standby has confirmed.
void ServerControl::poll_settling(Instant now, std::deque<Event> &events) {
    if (RecoveryInProgress() || pg_atomic_read_u32(&shared->settled) != 0) {
        settling_since_ = settle_at_ = never;
        return;
    }
    settling_since_ = std::min(settling_since_, now);
    if (settle_at_ != never && now < settle_at_)
        return;
    settle_at_ = now + (now - settling_since_ < settle_soon ? settle_poll : settle_poll_slow);
    events.push_back(sample());
}

// The gate has changed: end a walreceiver of before, start or wake the one of now.
void ServerControl::wake_walreceiver() {
    WalRcvForceReply(); // sets its latch; the forced reply runs into the gate where that is shut
    WakeupRecovery();
    nudge_after_ = nudge_first;
    nudge_at_ = long_ago;
    stale_since_ = never;
}

// Recovery sleeps wal_retrieve_retry_interval (5 s) between attempts; waking it cuts that short.  At
// ever longer distances, since each attempt may leave a line in the log.
void ServerControl::poll_walreceiver(Instant now) {
    if (!RecoveryInProgress()) {
        nudge_at_ = never;
        return;
    }
    const pid_t pid = walreceiver_pid();
    const std::uint32_t held = pg_atomic_read_u32(&shared->gate_connected);
    const bool wanted = pg_atomic_read_u32(&shared->gate_term) != 0 &&
                        held == pg_atomic_read_u32(&shared->upstream_version);
    if (pid != 0 && held != 0 && !wanted) {
        stale_since_ = std::min(stale_since_, now);
        if (now - stale_since_ >= stale_patience)
            kill(pid, SIGTERM); // it hangs in a connection attempt, or waits for recovery
        nudge_at_ = now + nudge_first;
        return;
    }
    stale_since_ = never;
    if (pid != 0) { // runs, or waits for the gate
        nudge_after_ = nudge_first;
        nudge_at_ = never;
        return;
    }
    const Duration pause = pg_atomic_read_u32(&shared->stream_lacks_wal) != 0 ? nudge_missing : nudge_after_;
    if (nudge_at_ == never)
        nudge_at_ = now + pause;
    if (now < nudge_at_)
        return;
    WakeupRecovery();
    nudge_at_ = now + pause;
    nudge_after_ = std::min(nudge_after_ * 2, nudge_last);
}

Instant ServerControl::next_poll() const {
    if (!answers_.empty())
        return long_ago;
    const Instant now{std::chrono::nanoseconds(boot_now_ns())};
    const Instant next = std::min(nudge_at_, settle_at_);
    return promotion_.running() ? std::min(now + promotion_poll, next) : next;
}

} // namespace pg_ha
