// SPDX-License-Identifier: PostgreSQL
//
// ha_failover(): an operator makes this standby the primary where no election can be won, because too
// many of the others are gone for good.  The core decides whether that is possible and names its price
// (src/core/node_forced.cpp); this file carries the question to the node worker and the answer back.
//
// Never does anything without accept_data_loss, and never on another server than the one it is called
// on: there the operator has to look first.
#include "entry.hpp"
#include "errcodes.hpp"
#include "guc.hpp"
#include "node_worker.hpp"

extern "C" {
#include "access/xlog.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/builtins.h"
#include "utils/wait_event.h"
}

namespace pg_ha {

namespace {

enum Request : uint32 { request_none = 0, request_price = 1, request_accepted = 2 };
enum Answer : uint32 { answer_pending = 0, answer_begun = 1, answer_refused = 2, answer_priced = 3 };
constexpr uint32 ticket_unit = 4; // request and answer: 4 * ticket + what

constexpr uint64 answer_within_ns = UINT64CONST(10000000000);
constexpr uint64 promoted_within_ns = UINT64CONST(60000000000);
constexpr long poll_ms = 10;

} // namespace

// ---- in the node worker --------------------------------------------------------------------------------

void NodeWorker::answer_failover_request() {
    const uint32 request = pg_atomic_exchange_u32(&shared->failover_request, request_none);
    if (request == request_none)
        return;
    const bool accepted = request % ticket_unit == request_accepted;
    ForcedFailover forced = agent()->forced_failover();
    uint32 answer = forced.obstacle.empty() ? answer_priced : answer_refused;
    if (forced.obstacle.empty() && accepted) {
        agent()->handle(ForceFailover{});
        const Status status = agent()->status();
        const bool leads = status.role == Role::promoting || status.role == Role::primary;
        answer = leads ? answer_begun : answer_refused;
        if (leads)
            ereport(WARNING, (errmsg("pg_ha: FORCED FAILOVER by an operator: this server becomes the primary of term %u",
                                     raw(status.term)),
                              errdetail("Voters not heard: %s. Accepted: %s.", forced.missing.c_str(), forced.price.c_str()),
                              errhint("Before another server that was a primary is used again, rewind it or clone it.")));
        else
            forced.obstacle = status.reason;
    }
    strlcpy(shared->failover_missing, forced.missing.c_str(), sizeof(shared->failover_missing));
    strlcpy(shared->failover_text, answer == answer_refused ? forced.obstacle.c_str() : forced.price.c_str(),
            sizeof(shared->failover_text));
    pg_write_barrier();
    pg_atomic_write_u32(&shared->failover_answer, request - request % ticket_unit + answer);
}

// ---- in the session ---------------------------------------------------------------------------------------

namespace {

Snapshot *look() {
    Snapshot *snapshot = static_cast<Snapshot *>(palloc0(sizeof(Snapshot)));
    if (!read_snapshot(snapshot))
        snapshot->valid = false;
    return snapshot;
}

void require_this_server(const Snapshot *snapshot, const char *target) {
    if (target == nullptr || strcmp(target, snapshot->node_name) == 0)
        return;
    for (int i = 0; i < snapshot->member_count; i++) {
        const MemberRow *member = &snapshot->members[i];
        if (strcmp(member->name, target) == 0)
            ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("this server is \"%s\", not \"%s\"", snapshot->node_name, target),
                            errdetail("A forced failover makes the server on which it is called the primary."),
                            strcmp(member->kind, "data") == 0
                                ? errhint("Call it on \"%s\": host %s, port %d.", target, member->postgres_host, member->postgres_port)
                                : errhint("\"%s\" is a witness and has no data.", target)));
    }
    ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("no member of the cluster is called \"%s\"", target),
                    errhint("SELECT name FROM ha_members lists them.")));
}

void require_standby(const char *target) {
    if (!shared)
        ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                        errmsg("pg_ha must be loaded through shared_preload_libraries"),
                        errhint("Add pg_ha to shared_preload_libraries and restart the server.")));
    const Snapshot *snapshot = look();
    if (!snapshot->valid || snapshot->cluster_id[0] == '\0')
        ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE), errmsg("this server is no member of a cluster"),
                        snapshot->valid && snapshot->reason[0] != '\0' ? errdetail("%s.", snapshot->reason) : 0,
                        errhint("SELECT * FROM ha_cluster shows what it waits for.")));
    require_this_server(snapshot, target);
    if (!RecoveryInProgress())
        ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE), errmsg("this server is not a standby"),
                        errdetail("A failover makes a standby the primary."),
                        errhint("To hand over to a standby, stop the primary with pg_ctl stop -m fast.")));
}

void pause_briefly() {
    (void)WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, poll_ms, PG_WAIT_EXTENSION);
    ResetLatch(MyLatch);
    CHECK_FOR_INTERRUPTS();
}

// Also on error: a request that nobody waits for must not be carried out later.
void release(int, Datum) {
    pg_atomic_write_u32(&shared->failover_request, request_none);
    pg_atomic_write_u32(&shared->failover_busy, 0);
}

uint32 wait_for_answer(uint32 ticket) {
    const uint64 end = boot_now_ns() + answer_within_ns;
    uint32 answer;
    while ((answer = pg_atomic_read_u32(&shared->failover_answer)) / ticket_unit != ticket) {
        if (boot_now_ns() >= end)
            return answer_pending;
        Latch *node = shared->node_latch;
        if (node)
            SetLatch(node);
        pause_briefly();
    }
    pg_read_barrier();
    return answer % ticket_unit;
}

// One session at a time.  The texts are copied while they are ours.
uint32 ask(bool accept, char **missing, char **text) {
    uint32 free = 0;
    if (!pg_atomic_compare_exchange_u32(&shared->failover_busy, &free, 1))
        ereport(ERROR, (errcode(ERRCODE_OBJECT_IN_USE), errmsg("another session calls ha_failover() at this moment")));
    volatile uint32 answer = answer_pending;
    PG_ENSURE_ERROR_CLEANUP(release, static_cast<Datum>(0));
    {
        const uint32 ticket = (pg_atomic_add_fetch_u32(&shared->failover_tickets, 1)) % (1u << 30);
        pg_atomic_write_u32(&shared->failover_request, ticket * ticket_unit + (accept ? request_accepted : request_price));
        answer = wait_for_answer(ticket);
        *missing = pstrdup(shared->failover_missing);
        *text = pstrdup(shared->failover_text);
    }
    PG_END_ENSURE_ERROR_CLEANUP(release, static_cast<Datum>(0));
    release(0, static_cast<Datum>(0));
    return answer;
}

void refuse(uint32 answer, const char *missing, const char *text) {
    if (answer == answer_pending)
        ereport(ERROR, (errcode(errcode_node_worker_silent), errmsg("the node worker did not answer within 10 s"),
                        errhint("SELECT * FROM ha_cluster shows the state of this server; its log says why the node worker "
                                "does not run.")));
    if (answer == answer_refused)
        ereport(ERROR, (errcode(errcode_failover_refused), errmsg("no forced failover: %s", text),
                        errhint("Nothing has been changed. SELECT * FROM ha_members shows who is heard.")));
    ereport(ERROR, (errcode(errcode_failover_refused),
                    missing[0] != '\0' ? errmsg("no failover without data loss: voters not heard: %s", missing)
                                       : errmsg("no failover without data loss: the servers with every commit are gone"),
                    errdetail("The price of a forced failover: %s.", text),
                    errhint("Make sure that no other server runs as primary, nor will before it reaches this one. Then call "
                            "ha_failover(accept_data_loss => true).")));
}

// Until this server is open and may acknowledge.
const Snapshot *wait_until_primary() {
    const uint64 end = boot_now_ns() + promoted_within_ns;
    for (;;) {
        const Snapshot *snapshot = look();
        if (snapshot->valid && strcmp(snapshot->role, "primary") == 0 && lease_holds())
            return snapshot;
        const bool failed = snapshot->valid && strcmp(snapshot->role, "promoting") != 0 && strcmp(snapshot->role, "primary") != 0 &&
                            strcmp(snapshot->role, "standby") != 0; // standby: of the moment before the answer
        if (failed || boot_now_ns() >= end)
            ereport(ERROR, (errcode(errcode_failover_refused), errmsg("the forced failover was begun, but this server is not open yet"),
                            errdetail("%s.", snapshot->reason), errhint("SELECT * FROM ha_cluster shows what it waits for.")));
        pfree(const_cast<Snapshot *>(snapshot));
        pause_briefly();
    }
}

} // namespace

} // namespace pg_ha

extern "C" {
PG_FUNCTION_INFO_V1(ha_failover);
PGDLLEXPORT Datum ha_failover(PG_FUNCTION_ARGS);
}

Datum ha_failover(PG_FUNCTION_ARGS) {
    using namespace pg_ha;
    const char *target = PG_ARGISNULL(0) ? nullptr : text_to_cstring(PG_GETARG_TEXT_PP(0));
    const bool accept = !PG_ARGISNULL(1) && PG_GETARG_BOOL(1);
    require_standby(target);
    char *missing = nullptr, *text = nullptr;
    const uint32 answer = ask(accept, &missing, &text);
    if (answer != answer_begun)
        refuse(answer, missing, text);
    const Snapshot *snapshot = wait_until_primary();
    ereport(WARNING, (errmsg("accepted: %s", text),
                      errhint("Before another server that was a primary is used again, rewind it or clone it.")));
    PG_RETURN_TEXT_P(cstring_to_text(
        psprintf("%s is the primary of term %u", snapshot->node_name, static_cast<unsigned>(snapshot->term))));
}
