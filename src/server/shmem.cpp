// SPDX-License-Identifier: PostgreSQL
//
// Shared memory: creation, and the versioned copies through which many readers see what one writer
// last said.  Nobody waits for a lock here: a reader that keeps colliding with the writer gives up
// and says so.
//
// The startup hook runs in the postmaster at every start and in every crash-restart cycle, on wiped
// memory.  It decides anew from the secret whether the fence applies, so a member can never come
// out of a cycle unfenced, not even if it was bootstrapped after the server had started; and
// it passes the start gate again, before recovery begins.
#include "rejoin.hpp"
#include "shmem.hpp"
#include "core/planted.hpp"
#include "start_gate.hpp"

extern "C" {
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/shmem.h"
#include "utils/timestamp.h"
}

#include <ctime>

namespace pg_ha {

Shared *shared = nullptr;

namespace {

shmem_request_hook_type earlier_request_hook = nullptr;
shmem_startup_hook_type earlier_startup_hook = nullptr;

constexpr int read_attempts_max = 200;
constexpr long read_retry_us = 20;

void request_memory() {
    if (earlier_request_hook)
        earlier_request_hook();
    RequestAddinShmemSpace(MAXALIGN(sizeof(Shared)));
}

void startup_memory() {
    if (earlier_startup_hook)
        earlier_startup_hook();
    bool found = false;
    shared = static_cast<Shared *>(ShmemInitStruct("pg_ha", sizeof(Shared), &found));
    if (found)
        return;
    memset(static_cast<void *>(shared), 0, sizeof(Shared));
    if (!IsUnderPostmaster)
        rejoin_register_callback();
    if (!IsUnderPostmaster && start_gate_is_member()) {
        pg_atomic_write_u32(&shared->armed, 1);
        rejoin_require_finished();
        start_gate();
    }
}

} // namespace

void shmem_register_hooks() {
    earlier_request_hook = shmem_request_hook;
    shmem_request_hook = request_memory;
    earlier_startup_hook = shmem_startup_hook;
    shmem_startup_hook = startup_memory;
}

uint64 boot_now_ns() {
    timespec now;
    clock_gettime(CLOCK_BOOTTIME, &now);
    return static_cast<uint64>(now.tv_sec) * UINT64CONST(1000000000) + static_cast<uint64>(now.tv_nsec);
}

namespace {

// False: nothing was ever written, or the writer is stuck.
bool read_versioned(pg_atomic_uint32 *version, const void *from, void *out, size_t bytes) {
    for (int attempt = 0; attempt < read_attempts_max; attempt++) {
        uint32 before = pg_atomic_read_u32(version);
        if (before == 0)
            return false;
        pg_read_barrier();
        if (before % 2 == 0) {
            memcpy(out, from, bytes);
            pg_read_barrier();
            if (pg_atomic_read_u32(version) == before)
                return true;
        }
        pg_usleep(read_retry_us);
    }
    return false;
}

// A writer that died half-way left an odd number; the next one starts from there.
template <class Data> void write_versioned(pg_atomic_uint32 *version, Data *to, const Data *from) {
    uint32 writing = pg_atomic_read_u32(version) | 1;
    pg_atomic_write_u32(version, writing);
    pg_write_barrier();
    *to = *from;
    pg_write_barrier();
    pg_atomic_write_u32(version, writing + 1);
}

bool read_part(Snapshot *out, size_t bytes) {
    if (!shared || !read_versioned(&shared->snapshot_version, &shared->snapshot, out, bytes) || !out->valid)
        return false;
    make_readable(out->reason);
    make_readable(out->failover_reason);
    make_readable(out->order_ended);
    return true;
}

} // namespace

// A text quotes paths, messages of the system and what other members say, and may be cut inside a character.
void make_readable(char *text) {
    int encoding = GetDatabaseEncoding();
    for (char *at = text; *at != '\0';) {
        int length = IS_HIGHBIT_SET(*at) ? pg_encoding_verifymbchar(encoding, at, static_cast<int>(strlen(at))) : 1;
        if (length > 0)
            at += length;
        else
            *at++ = '?';
    }
}

bool read_snapshot(Snapshot *out) {
    if (!read_part(out, sizeof(Snapshot)))
        return false;
    for (int i = 0; i < out->member_count; i++)
        make_readable(out->members[i].reason);
    return true;
}

bool read_snapshot_head(Snapshot *out) {
    return read_part(out, offsetof(Snapshot, members));
}

void write_snapshot(const Snapshot *in) {
    write_versioned(&shared->snapshot_version, &shared->snapshot, in);
}

bool read_rejoins(RejoinTable *out) {
    return read_versioned(&shared->rejoins_version, &shared->rejoins, out, sizeof(RejoinTable));
}

void write_rejoins(const RejoinTable *in) {
    write_versioned(&shared->rejoins_version, &shared->rejoins, in);
}

bool read_slots(SlotTable *out) {
    if (!shared || !read_versioned(&shared->slots_version, &shared->slots, out, sizeof(SlotTable)))
        return false;
    for (int i = 0; i < out->count; i++)
        make_readable(out->rows[i].reason);
    return true;
}

void read_slots_alarm(char (*out)[ha_text_bytes]) {
    if (!read_versioned(&shared->slots_version, shared->slots.alarm, *out, sizeof(*out)))
        (*out)[0] = '\0';
}

void write_slots(const SlotTable *in) {
    write_versioned(&shared->slots_version, &shared->slots, in);
}

bool post_manager_note(const char *text) {
    const uint32 written = pg_atomic_read_u32(&shared->manager_notes_written);
    if (written - pg_atomic_read_u32(&shared->manager_notes_taken) >= ha_manager_notes_max)
        return false;
    pg_memory_barrier();
    strlcpy(shared->manager_notes[written % ha_manager_notes_max], text, ha_text_bytes);
    pg_write_barrier();
    pg_atomic_write_u32(&shared->manager_notes_written, written + 1);
    Latch *node = shared->node_latch;
    if (node)
        SetLatch(node);
    return true;
}

bool take_manager_note(char (*out)[ha_text_bytes]) {
    const uint32 taken = pg_atomic_read_u32(&shared->manager_notes_taken);
    if (taken == pg_atomic_read_u32(&shared->manager_notes_written))
        return false;
    pg_read_barrier();
    strlcpy(*out, shared->manager_notes[taken % ha_manager_notes_max], ha_text_bytes);
    pg_memory_barrier();
    pg_atomic_write_u32(&shared->manager_notes_taken, taken + 1);
    return true;
}

int read_events(EventRow *out, int max) {
    if (!shared)
        return 0;
    uint64 last = pg_atomic_read_u64(&shared->events_written);
    uint64 wanted = Min(static_cast<uint64>(Min(max, ha_events_max)), last);
    int count = 0;
    for (uint64 number = last - wanted + 1; number <= last; number++) {
        const volatile EventRow *slot = &shared->events[(number - 1) % ha_events_max];
        if (slot->number != number)
            continue; // overwritten meanwhile
        pg_read_barrier();
        out[count] = const_cast<const EventRow &>(*slot);
        pg_read_barrier();
        if (slot->number != number)
            continue;
        make_readable(out[count].reason);
        out[count++].number = number;
    }
    return count;
}

void write_event(const EventRow *row) {
    uint64 number = pg_atomic_read_u64(&shared->events_written) + 1;
    volatile EventRow *slot = &shared->events[(number - 1) % ha_events_max];
    slot->number = 0;
    pg_write_barrier();
    EventRow filled = *row;
    filled.number = 0;
    filled.at = GetCurrentTimestamp();
    const_cast<EventRow &>(*slot) = filled;
    pg_write_barrier();
    slot->number = number;
    pg_write_barrier();
    pg_atomic_write_u64(&shared->events_written, number);
}

bool lease_holds() {
    if (!shared || pg_atomic_read_u32(&shared->armed) == 0 || planted(Bug::lease_not_checked))
        return true;
    return boot_now_ns() < pg_atomic_read_u64(&shared->lease_until_ns);
}

} // namespace pg_ha
