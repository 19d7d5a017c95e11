// SPDX-License-Identifier: PostgreSQL
//
// ha_failover(): an operator makes this standby the primary where no election can be won, because too
// many of the others are gone for good.  The core decides whether that is possible and names its price
// (src/core/node_forced.cpp); this file carries the question to the node worker and the answer back.
//
// Never does anything without accept_data_loss, and never on another server than the one it is called
// on: there the operator has to look first.
#include "desk.hpp"
#include "errcodes.hpp"
#include "node_worker.hpp"

extern "C" {
#include "access/xlog.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
}

namespace pg_ha {

namespace {

constexpr uint64 primary_within_ns = UINT64CONST(65000000000); // an order holds for 60 s

} // namespace

// ---- in the node worker --------------------------------------------------------------------------------

void NodeWorker::answer_failover(const Asked &asked) {
    const bool accepted = asked.what == Ask::forced_failover;
    ForcedFailover forced = agent()->forced_failover();
    Said answer = forced.obstacle.empty() ? Said::priced : Said::refused;
    if (forced.obstacle.empty() && accepted) {
        agent()->handle(ForceFailover{});
        const Status status = agent()->status();
        const bool leads = status.role == Role::promoting || status.role == Role::primary;
        answer = leads ? Said::begun : Said::refused;
        write_status(); // who waits looks at it as soon as it has the answer
        if (leads)
            ereport(WARNING, (errmsg("pg_ha: FORCED FAILOVER by an operator: this server becomes the primary of term %u",
                                     raw(status.term)),
                              errdetail("Voters not heard: %s. Accepted: %s.", forced.missing.c_str(), forced.price.c_str()),
                              errhint("Before another server that was a primary is used again, rewind it or clone it.")));
        else
            forced.obstacle = status.reason;
    }
    answer_request(asked.ticket, answer, forced.missing.c_str(),
                   answer == Said::refused ? forced.obstacle.c_str() : forced.price.c_str());
}

// ---- in the session ---------------------------------------------------------------------------------------

namespace {

void require_this_server(const Snapshot *snapshot, const char *target) {
    if (target == nullptr || strcmp(target, snapshot->node_name) == 0)
        return;
    if (const MemberRow *member = member_called(snapshot, target))
        ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("this server is \"%s\", not \"%s\"", snapshot->node_name, target),
                        errdetail("A forced failover makes the server on which it is called the primary."),
                        strcmp(member->kind, "data") == 0
                            ? errhint("Call it on \"%s\": host %s, port %d.", target, member->postgres_host, member->postgres_port)
                            : errhint("\"%s\" is a witness and has no data.", target)));
    ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("no member of the cluster is called \"%s\"", target),
                    errhint("SELECT name FROM ha_members lists them.")));
}

void require_standby(const char *target) {
    const Snapshot *snapshot = require_membership();
    require_this_server(snapshot, target);
    if (!RecoveryInProgress())
        ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE), errmsg("this server is not a standby"),
                        errdetail("A failover makes a standby the primary."),
                        errhint("To hand over to a standby, call ha_switchover() here.")));
}

void refuse(Said answer, const char *missing, const char *text) {
    if (answer == Said::refused)
        ereport(ERROR, (errcode(errcode_failover_refused), errmsg("no forced failover: %s", text),
                        errhint("Nothing has been changed. SELECT * FROM ha_members shows who is heard.")));
    ereport(ERROR, (errcode(errcode_failover_refused),
                    missing[0] != '\0' ? errmsg("no failover without data loss: voters not heard: %s", missing)
                                       : errmsg("no failover without data loss: the servers with every commit are gone"),
                    errdetail("The price of a forced failover: %s.", text),
                    errhint("Make sure that no other server runs as primary, nor will before it reaches this one. Then call "
                            "ha_failover(accept_data_loss => true).")));
}

[[noreturn]] void report_end_of_order(const Snapshot *snapshot) {
    const char *ended = snapshot->order_ended;
    const MemberRow *ahead = member_called(snapshot, snapshot->order_ahead);
    ereport(ERROR, (errcode(errcode_failover_refused),
                    ended[0] != '\0' ? errmsg("no election by order: %s", ended) : errmsg("the order to stand has led to no election"),
                    ended[0] == '\0' && snapshot->reason[0] != '\0' ? errdetail("%s.", snapshot->reason)
                                                                   : errdetail("This server does not stand any more."),
                    ahead ? errhint("Call it on \"%s\": host %s, port %d.", ahead->name, ahead->postgres_host, ahead->postgres_port)
                          : errhint("The order has ended. SELECT * FROM ha_members shows who is heard.")));
}

bool still_opens(const Snapshot *snapshot) {
    return strcmp(snapshot->role, "candidate") == 0 || strcmp(snapshot->role, "promoting") == 0 || strcmp(snapshot->role, "primary") == 0;
}

// Until this server is open and may acknowledge.
const Snapshot *wait_until_primary(const Reply &reply, bool ordered) {
    const uint64 end = reply.asked_ns + primary_within_ns;
    for (;;) {
        Snapshot *snapshot = look_at_snapshot();
        const bool known = snapshot->valid && snapshot->taken_ns >= reply.asked_ns;
        if (known && strcmp(snapshot->role, "primary") == 0 && lease_holds())
            return snapshot;
        const bool over = known && !still_opens(snapshot) && !snapshot->order_holds;
        if (over && ordered)
            report_end_of_order(snapshot);
        if (over || boot_now_ns() >= end)
            ereport(ERROR, (errcode(errcode_failover_refused),
                            over ? errmsg("the failover was begun, but this server has not become the primary")
                                 : errmsg("the failover was begun, but this server is not open yet"),
                            errdetail("%s.", snapshot->reason), errhint("SELECT * FROM ha_cluster shows what it waits for.")));
        pfree(snapshot);
        pause_briefly();
    }
}

// In a paused cluster without a primary nothing is lost: whoever is told to stand is elected like any other.
Reply elect_by_order() {
    const Reply reply = ask_node_worker(Ask::stand, nullptr);
    if (reply.said != Said::begun)
        ereport(ERROR, (errcode(errcode_failover_refused), errmsg("no election by order: %s", reply.text),
                        errdetail("Elections are paused in this cluster."),
                        errhint("Nothing has been changed. Where too many voters are gone for good, ha_failover(accept_data_loss => "
                                "true) remains.")));
    return reply;
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
    const bool ordered = !accept && look_at_snapshot()->paused;
    const Reply reply = ordered ? elect_by_order() : ask_node_worker(accept ? Ask::forced_failover : Ask::price, nullptr);
    if (reply.said != Said::begun)
        refuse(reply.said, reply.detail, reply.text);
    const Snapshot *snapshot = wait_until_primary(reply, ordered);
    if (!ordered)
        ereport(WARNING, (errmsg("accepted: %s", reply.text),
                          errhint("Before another server that was a primary is used again, rewind it or clone it.")));
    PG_RETURN_TEXT_P(cstring_to_text(
        psprintf("%s is the primary of term %u", snapshot->node_name, static_cast<unsigned>(snapshot->term))));
}
