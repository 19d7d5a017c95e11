// SPDX-License-Identifier: PostgreSQL
#include "desk.hpp"

#include "errcodes.hpp"

extern "C" {
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/builtins.h"
#include "utils/wait_event.h"
}

namespace pg_ha {

namespace {

constexpr uint32 ticket_unit = 16; // request and answer: 16 * ticket + what
constexpr uint64 answer_within_ns = UINT64CONST(10000000000);
constexpr long poll_ms = 10;

// Also on error: a request that nobody waits for must not be carried out later.
void release(int, Datum) {
    pg_atomic_write_u32(&shared->desk.request, 0);
    pg_atomic_write_u32(&shared->desk.busy, 0);
}

Said wait_for_answer(uint32 ticket) {
    const uint64 end = boot_now_ns() + answer_within_ns;
    uint32 answer;
    while ((answer = pg_atomic_read_u32(&shared->desk.answer)) / ticket_unit != ticket) {
        if (boot_now_ns() >= end)
            return Said::pending;
        Latch *node = shared->node_latch;
        if (node)
            SetLatch(node);
        pause_briefly();
    }
    pg_read_barrier();
    return static_cast<Said>(answer % ticket_unit);
}

} // namespace

void pause_briefly() {
    (void)WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, poll_ms, PG_WAIT_EXTENSION);
    ResetLatch(MyLatch);
    CHECK_FOR_INTERRUPTS();
}

Snapshot *look_at_snapshot() {
    Snapshot *snapshot = static_cast<Snapshot *>(palloc0(sizeof(Snapshot)));
    if (!read_snapshot(snapshot))
        snapshot->valid = false;
    return snapshot;
}

const MemberRow *member_called(const Snapshot *snapshot, const char *name) {
    for (int i = 0; i < snapshot->member_count; i++)
        if (strcmp(snapshot->members[i].name, name) == 0)
            return &snapshot->members[i];
    return nullptr;
}

const Snapshot *require_membership() {
    if (!shared)
        ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                        errmsg("pg_ha must be loaded through shared_preload_libraries"),
                        errhint("Add pg_ha to shared_preload_libraries and restart the server.")));
    const Snapshot *snapshot = look_at_snapshot();
    if (!snapshot->valid || snapshot->cluster_id[0] == '\0')
        ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE), errmsg("this server is no member of a cluster"),
                        snapshot->valid && snapshot->reason[0] != '\0' ? errdetail("%s.", snapshot->reason) : 0,
                        errhint("SELECT * FROM ha_cluster shows what it waits for.")));
    return snapshot;
}

// The texts are copied while they are ours.
Reply ask_node_worker(Ask what, const char *target) {
    uint32 free = 0;
    if (!pg_atomic_compare_exchange_u32(&shared->desk.busy, &free, 1))
        ereport(ERROR, (errcode(ERRCODE_OBJECT_IN_USE), errmsg("another session gives an order to pg_ha at this moment")));
    Reply volatile reply = {Said::pending, nullptr, nullptr, boot_now_ns()};
    PG_ENSURE_ERROR_CLEANUP(release, static_cast<Datum>(0));
    {
        const uint32 ticket = pg_atomic_add_fetch_u32(&shared->desk.tickets, 1) % (1u << 28);
        strlcpy(shared->desk.target, target ? target : "", sizeof(shared->desk.target));
        pg_write_barrier();
        pg_atomic_write_u32(&shared->desk.request, ticket * ticket_unit + static_cast<uint32>(what));
        reply.said = wait_for_answer(ticket);
        reply.detail = pstrdup(shared->desk.detail);
        reply.text = pstrdup(shared->desk.text);
        make_readable(reply.detail);
        make_readable(reply.text);
    }
    PG_END_ENSURE_ERROR_CLEANUP(release, static_cast<Datum>(0));
    release(0, static_cast<Datum>(0));
    if (reply.said == Said::pending)
        ereport(ERROR, (errcode(errcode_node_worker_silent), errmsg("the node worker did not answer within 10 s"),
                        errhint("SELECT * FROM ha_cluster shows the state of this server; its log says why the node worker "
                                "does not run.")));
    return {reply.said, reply.detail, reply.text, reply.asked_ns};
}

// ---- in the node worker --------------------------------------------------------------------------------

// The target belongs to the request as long as that stands there: whoever has given up has taken it away first.
Asked take_request() {
    uint32 request = pg_atomic_read_u32(&shared->desk.request);
    Asked asked = {Ask::nothing, 0, {}};
    if (request == 0)
        return asked;
    pg_read_barrier();
    strlcpy(asked.target, shared->desk.target, sizeof(asked.target));
    if (!pg_atomic_compare_exchange_u32(&shared->desk.request, &request, 0))
        return asked; // the next wake-up brings what has come instead
    asked.what = static_cast<Ask>(request % ticket_unit);
    asked.ticket = request / ticket_unit;
    return asked;
}

void answer_request(uint32 ticket, Said said, const char *detail, const char *text) {
    strlcpy(shared->desk.detail, detail, sizeof(shared->desk.detail));
    strlcpy(shared->desk.text, text, sizeof(shared->desk.text));
    pg_write_barrier();
    pg_atomic_write_u32(&shared->desk.answer, ticket * ticket_unit + static_cast<uint32>(said));
}

} // namespace pg_ha
