// SPDX-License-Identifier: PostgreSQL
//
// Physical slots for the other data nodes, on every data node: which, and where, the core says
// (src/core/retention.hpp); here they are made, moved and dropped, by the manager worker, once a second.
//
// Nobody streams through these slots.  The position that a member tells in its heartbeats moves its slot, on
// the primary as on the other standbys.  So a slot that is missing, or that an old walsender still occupies,
// never stands in the way of a stream, and no slot holds back vacuum by an xmin of somebody who is away.
//
// Must never end the worker: what PostgreSQL refuses (all slots in use, a full disk) becomes an alarm in
// ha_status, and is tried again.
#include "retention.hpp"

#include "core/message.hpp"
#include "core/retention.hpp"
#include "entry.hpp"
#include "guc.hpp"
#include "shmem.hpp"

extern "C" {
#include "access/timeline.h"
#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "access/xlogrecovery.h"
#include "replication/slot.h"
#include "replication/walreceiver.h"
#include "storage/condition_variable.h"
#include "storage/fd.h"
#include "storage/lwlock.h"
#include "storage/spin.h"
#include "utils/memutils.h"
}

#include <cstdio>
#include <memory>
#include <sys/statvfs.h>

namespace pg_ha {

namespace {

constexpr uint64 pass_every_ns = UINT64CONST(1000000000);
constexpr uint64 mb = 1024 * 1024;
constexpr char slot_name_form[] = "pg_ha_%016llx";

struct Work {
    uint64 due = 0;
    XLogSegNo oldest_found = 0; // in pg_wal, when this process began
    MemoryContext memory = nullptr;
    RetentionRule rule;
    std::unique_ptr<Snapshot> snapshot = std::make_unique<Snapshot>();
    std::string alarm, failure;
};

// ---- what there is ---------------------------------------------------------------------------------------

NodeId member_of_slot(const char *name) {
    unsigned long long id = 0;
    char again[slot_name_bytes];
    if (sscanf(name, "pg_ha_%16llx", &id) != 1)
        return NodeId::none;
    slot_name_of(id, &again);
    return strcmp(name, again) == 0 ? static_cast<NodeId>(id) : NodeId::none;
}

std::vector<HeldSlot> slots_here() {
    std::vector<HeldSlot> slots(static_cast<std::size_t>(max_replication_slots));
    HeldSlot *next = slots.data();
    guarded([&next] {
        LWLockAcquire(ReplicationSlotControlLock, LW_SHARED);
        for (int i = 0; i < max_replication_slots; i++) {
            ReplicationSlot *slot = &ReplicationSlotCtl->replication_slots[i];
            if (!slot->in_use || !SlotIsPhysical(slot))
                continue;
            SpinLockAcquire(&slot->mutex);
            const XLogRecPtr lsn = slot->data.restart_lsn;
            SpinLockRelease(&slot->mutex);
            if (const NodeId member = member_of_slot(NameStr(slot->data.name)); member != NodeId::none)
                *next++ = {member, static_cast<Lsn>(lsn)};
        }
        LWLockRelease(ReplicationSlotControlLock);
    });
    slots.resize(static_cast<std::size_t>(next - slots.data()));
    return slots;
}

// None of these calls raises: they read shared memory.
Position end_of_wal() {
    TimeLineID timeline = 0, received_timeline = 0;
    if (!RecoveryInProgress()) {
        const XLogRecPtr flushed = GetFlushRecPtr(&timeline);
        return {static_cast<Timeline>(timeline), static_cast<Lsn>(flushed)};
    }
    const XLogRecPtr received = GetWalRcvFlushRecPtr(nullptr, &received_timeline);
    const XLogRecPtr replayed = GetXLogReplayRecPtr(&timeline);
    if (received > replayed)
        return {static_cast<Timeline>(received_timeline), static_cast<Lsn>(received)};
    return {static_cast<Timeline>(timeline), static_cast<Lsn>(replayed)};
}

// Oldest first, the last one growing.
Lineage history_of(Timeline timeline) {
    List *history = nullptr;
    guarded([timeline, &history] { history = readTimeLineHistory(raw(timeline)); });
    Lineage lineage;
    for (int i = list_length(history) - 1; i >= 0; i--) {
        const auto *entry = static_cast<const TimeLineHistoryEntry *>(list_nth(history, i));
        lineage.push_back({static_cast<Timeline>(entry->tli), i == 0 ? Lsn::none : static_cast<Lsn>(entry->end)});
    }
    return lineage;
}

// PostgreSQL counts what it has removed, but only since its start.
XLogSegNo first_segment_in_directory() {
    XLogSegNo first = PG_UINT64_MAX;
    guarded([&first] {
        DIR *directory = AllocateDir(XLOGDIR);
        while (const dirent *entry = ReadDir(directory, XLOGDIR)) {
            TimeLineID timeline;
            XLogSegNo segment;
            if (!IsXLogFileName(entry->d_name))
                continue;
            XLogFromFileName(entry->d_name, &timeline, &segment, wal_segment_size);
            first = Min(first, segment);
        }
        FreeDir(directory);
    });
    return first == PG_UINT64_MAX ? 0 : first;
}

Lsn oldest_wal(Work &work) {
    if (work.oldest_found == 0)
        work.oldest_found = first_segment_in_directory();
    const XLogSegNo removed = XLogGetLastRemovedSegno();
    const XLogSegNo first = Max(work.oldest_found, removed == 0 ? 0 : removed + 1);
    return static_cast<Lsn>(first * static_cast<uint64>(wal_segment_size));
}

uint64 free_bytes() {
    struct statvfs room;
    return statvfs(XLOGDIR, &room) == 0 ? static_cast<uint64>(room.f_bavail) * room.f_frsize : PG_UINT64_MAX / 4;
}

RetentionLimits limits() {
    RetentionLimits limits;
    limits.bytes = static_cast<uint64>(guc_retention_size_mb) * mb;
    if (max_slot_wal_keep_size_mb >= 0) // PostgreSQL keeps no more, whatever we want
        limits.bytes = Min(limits.bytes, static_cast<uint64>(max_slot_wal_keep_size_mb) * mb);
    if (guc_retention_time_s >= 0)
        limits.time = std::chrono::seconds(guc_retention_time_s);
    return limits;
}

RetainedMember member_from(const MemberRow &row) {
    RetainedMember member;
    member.id = static_cast<NodeId>(row.id);
    member.name = row.name;
    member.present = strcmp(row.liveness, to_string(Liveness::unreachable)) != 0 && (row.streaming || row.is_primary);
    if (row.position_known && row.lsn != 0)
        member.position = Position{static_cast<Timeline>(row.timeline), static_cast<Lsn>(row.lsn)};
    return member;
}

// False: who the members are is not known yet.  On a server that belongs to no cluster (any more) there are none.
bool find_members(const Snapshot &snapshot, std::vector<RetainedMember> &members) {
    if (pg_atomic_read_u32(&shared->armed) == 0)
        return true;
    bool self_found = false;
    for (int i = 0; i < snapshot.member_count; i++) {
        const MemberRow &row = snapshot.members[i];
        self_found = self_found || row.self;
        if (!row.self && strcmp(row.kind, "data") == 0)
            members.push_back(member_from(row));
    }
    return self_found && strcmp(snapshot.role, to_string(Role::joining)) != 0;
}

// ---- what is done ----------------------------------------------------------------------------------------

void hold_slot(const char *name, XLogRecPtr lsn) {
    const bool missing = SearchNamedReplicationSlot(name, true) == nullptr;
    if (missing)
        ReplicationSlotCreate(name, false, RS_PERSISTENT, false);
    else
        ReplicationSlotAcquire(name, true);
    SpinLockAcquire(&MyReplicationSlot->mutex);
    MyReplicationSlot->data.restart_lsn = lsn;
    SpinLockRelease(&MyReplicationSlot->mutex);
    ReplicationSlotMarkDirty();
    ReplicationSlotsComputeRequiredLSN();
    if (missing)
        ReplicationSlotSave(); // moves are saved by the next checkpoint, which is what removes WAL
    ReplicationSlotRelease();
}

// An empty text: done.
std::string carry_out(const RetentionStep &step) {
    char name[slot_name_bytes];
    slot_name_of(raw(step.member), &name);
    try {
        guarded([&name, &step] {
            if (step.hold != Lsn::none)
                hold_slot(name, raw(step.hold));
            else
                ReplicationSlotDrop(name, true);
        });
        return "";
    } catch (const BackendError &error) {
        guarded([] {
            ConditionVariableCancelSleep();
            if (MyReplicationSlot)
                ReplicationSlotRelease();
        });
        return error.what();
    }
}

void tell(const std::string &text) {
    if (!post_manager_note(text.c_str()))
        ereport(LOG, (errmsg("pg_ha: %s", text.c_str())));
}

// The alarm: the first step that failed.
std::string carry_out_all(RetentionDecision &decision) {
    std::string alarm;
    for (const RetentionStep &step : decision.steps) {
        const std::string error = carry_out(step);
        if (error.empty() && !step.event.empty())
            tell(step.event);
        if (error.empty())
            continue;
        for (RetentionRow &row : decision.rows)
            if (row.id == step.member && step.hold != Lsn::none) {
                row.state = Retention::none;
                row.reason = error;
                if (alarm.empty())
                    alarm = "WAL cannot be kept for " + row.name + ": " + error + "; is max_replication_slots (" +
                            std::to_string(max_replication_slots) + ") enough?";
            }
        if (alarm.empty() && step.hold == Lsn::none)
            alarm = "a replication slot cannot be dropped: " + error;
    }
    return alarm;
}

void publish(const RetentionDecision &decision, const std::string &alarm) {
    const auto table = std::make_unique<SlotTable>();
    strlcpy(table->alarm, alarm.c_str(), sizeof(table->alarm));
    for (const RetentionRow &row : decision.rows) {
        if (table->count >= ha_members_max)
            break;
        const bool kept = row.state == Retention::following || row.state == Retention::holding;
        SlotRow &out = table->rows[table->count++];
        out.member = raw(row.id);
        strlcpy(out.name, row.name.c_str(), sizeof(out.name));
        strlcpy(out.state, to_string(row.state), sizeof(out.state));
        out.lsn = kept ? raw(row.from) : 0;
        out.bytes = row.bytes;
        out.limit_bytes = row.limit_bytes;
        out.away_since_ns = row.away_since == never ? 0 : static_cast<uint64>(row.away_since.time_since_epoch().count());
        strlcpy(out.reason, row.reason.c_str(), sizeof(out.reason));
    }
    write_slots(table.get());
}

void pass(Work &work) {
    RetentionSight sight;
    if (!read_snapshot(work.snapshot.get()) || !find_members(*work.snapshot, sight.members))
        return;
    sight.slots = slots_here();
    sight.own = end_of_wal();
    sight.lineage = history_of(sight.own.timeline);
    sight.oldest = oldest_wal(work);
    sight.segment_bytes = static_cast<uint64>(wal_segment_size);
    sight.free_bytes = free_bytes();
    sight.limits = limits();
    sight.now = Instant{Duration{static_cast<Duration::rep>(boot_now_ns())}};
    RetentionDecision decision = work.rule.decide(sight);
    const std::string alarm = carry_out_all(decision);
    publish(decision, alarm);
    if (alarm != work.alarm && !alarm.empty())
        tell(alarm);
    work.alarm = alarm;
}

Work &work_of_this_process() {
    static Work work;
    return work;
}

} // namespace

void slot_name_of(uint64 member, char (*name)[slot_name_bytes]) {
    snprintf(*name, sizeof(*name), slot_name_form, static_cast<unsigned long long>(member));
}

long keep_slots() {
    Failure failure = run_cpp([] {
        Work &work = work_of_this_process();
        const uint64 now = boot_now_ns();
        if (now < work.due)
            return;
        work.due = now + pass_every_ns;
        if (!work.memory)
            guarded([&work] { work.memory = AllocSetContextCreate(TopMemoryContext, "pg_ha slots", ALLOCSET_DEFAULT_SIZES); });
        MemoryContext before = MemoryContextSwitchTo(work.memory);
        const Failure inner = run_cpp([&work] { pass(work); });
        MemoryContextSwitchTo(before);
        MemoryContextReset(work.memory);
        if (inner.failed && work.failure != inner.text) // once per cause
            ereport(LOG, (errmsg("pg_ha: cannot keep slots for the other members: %s", inner.text)));
        work.failure = inner.failed ? inner.text : "";
    });
    (void)failure; // out of memory: at the next pass
    return static_cast<long>(pass_every_ns / UINT64CONST(1000000));
}

} // namespace pg_ha
