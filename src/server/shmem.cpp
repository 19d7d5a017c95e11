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
#include "guc.hpp"
#include "rejoin.hpp"
#include "shmem.hpp"
#include "core/planted.hpp"
#include "start_gate.hpp"

extern "C" {
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

bool read_part(Snapshot *out, size_t bytes) {
    if (!shared)
        return false;
    for (int attempt = 0; attempt < read_attempts_max; attempt++) {
        uint32 before = pg_atomic_read_u32(&shared->snapshot_version);
        pg_read_barrier();
        if (before % 2 == 0) {
            memcpy(static_cast<void *>(out), &shared->snapshot, bytes);
            pg_read_barrier();
            if (pg_atomic_read_u32(&shared->snapshot_version) == before)
                return out->valid;
        }
        pg_usleep(read_retry_us);
    }
    return false;
}

} // namespace

bool read_snapshot(Snapshot *out) {
    return read_part(out, sizeof(Snapshot));
}

bool read_snapshot_head(Snapshot *out) {
    return read_part(out, offsetof(Snapshot, members));
}

void write_snapshot(const Snapshot *in) {
    // A writer that died half-way left an odd number; the next one starts from there.
    uint32 writing = pg_atomic_read_u32(&shared->snapshot_version) | 1;
    pg_atomic_write_u32(&shared->snapshot_version, writing);
    pg_write_barrier();
    shared->snapshot = *in;
    pg_write_barrier();
    pg_atomic_write_u32(&shared->snapshot_version, writing + 1);
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
        if (slot->number == number)
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
