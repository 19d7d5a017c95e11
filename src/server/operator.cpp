// SPDX-License-Identifier: PostgreSQL
//
// ha_switchover(), ha_pause(), ha_resume(), ha_remove_member(): what operators ask of a cluster that works.
// The core decides whether it can be done and carries it out (src/core/node_operator.cpp); this file carries
// the request to the node worker and waits until the outcome can be seen.
//
// Never says that something was done that the cluster's record, or the server's role, does not show.
#include "desk.hpp"
#include "errcodes.hpp"
#include "node_worker.hpp"

extern "C" {
#include "access/xlog.h"
#include "fmgr.h"
#include "replication/message.h"
#include "utils/builtins.h"
}

namespace pg_ha {

namespace {

constexpr uint64 done_within_ns = UINT64CONST(10000000000);

std::optional<Command> command_of(Ask what, NodeId target) {
    switch (what) {
    case Ask::switchover:
        return Switchover{target};
    case Ask::pause:
        return SetPaused{true};
    case Ask::resume:
        return SetPaused{false};
    case Ask::removal:
        return RemoveMember{target};
    case Ask::stand:
        return StandByOrder{};
    default:
        return std::nullopt;
    }
}

} // namespace

// ---- in the node worker --------------------------------------------------------------------------------

void NodeWorker::answer_operator() {
    const Asked asked = take_request();
    if (asked.what == Ask::nothing)
        return;
    if (asked.what == Ask::price || asked.what == Ask::forced_failover)
        return answer_failover(asked);
    const Member *target = agent()->durable().configuration.find(std::string(asked.target));
    if (asked.target[0] != '\0' && !target)
        return answer_request(asked.ticket, Said::refused, "", "it is no member any more");
    const std::optional<Command> command = command_of(asked.what, target ? target->id : NodeId::none);
    const std::string obstacle = command ? agent()->obstacle(*command) : "";
    if (command && obstacle.empty()) {
        agent()->handle(*command);
        write_status();
    }
    answer_request(asked.ticket, obstacle.empty() ? Said::begun : Said::refused, "", obstacle.c_str());
}

// ---- in the session ---------------------------------------------------------------------------------------

namespace {

void require_member(const Snapshot *snapshot, const char *name) {
    if (!member_called(snapshot, name))
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("no member of the cluster is called \"%s\"", name),
                        errhint("SELECT name FROM ha_members lists them.")));
}

void require_primary(const Snapshot *snapshot) {
    if (strcmp(snapshot->role, "primary") == 0)
        return;
    ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE), errmsg("this server is not the primary"),
                    snapshot->primary_name[0] != '\0'
                        ? errhint("Call it on \"%s\": host %s, port %d.", snapshot->primary_name, snapshot->primary_host, snapshot->primary_port)
                        : errhint("SELECT * FROM ha_cluster shows why there is no primary.")));
}

void refuse_if_told(const Reply &reply, const char *what) {
    if (reply.said == Said::refused)
        ereport(ERROR, (errcode(errcode_order_refused), errmsg("%s: %s", what, reply.text),
                        errhint("Nothing has been changed. SELECT * FROM ha_members shows the state of each member.")));
}

// Until a snapshot that is newer than the request meets the condition.
template <class Condition> const Snapshot *wait_until(const Reply &reply, const char *what, Condition condition) {
    const uint64 end = reply.asked_ns + done_within_ns;
    for (;;) {
        Snapshot *snapshot = look_at_snapshot();
        if (snapshot->valid && snapshot->taken_ns >= reply.asked_ns && condition(snapshot))
            return snapshot;
        const bool primary = snapshot->valid && strcmp(snapshot->role, "primary") == 0;
        if (boot_now_ns() >= end || !primary)
            ereport(ERROR, (errcode(errcode_order_unfinished),
                            primary ? errmsg("%s was begun, but is not done after 10 s", what)
                                    : errmsg("%s was begun, but this server is not the primary any more", what),
                            errdetail("%s.", snapshot->reason),
                            primary ? errhint("It goes on as long as this server is the primary. SELECT * FROM ha_events shows each step.")
                                    : errhint("Look at ha_cluster on the new primary, and call it there again if need be.")));
        pfree(snapshot);
        pause_briefly();
    }
}

// Flushed WAL may end within a record that nobody waits for; no standby can replay that, and on an idle server the rest
// of it is not flushed for a long time.
void end_wal_on_a_record() { XLogFlush(LogLogicalMessage("pg_ha", "", 0, false)); }

Datum said(const char *text) { return PointerGetDatum(cstring_to_text(text)); }

Datum set_paused(bool paused) {
    require_primary(require_membership());
    const Reply reply = ask_node_worker(paused ? Ask::pause : Ask::resume, nullptr);
    refuse_if_told(reply, paused ? "elections cannot be paused" : "the pause cannot be ended");
    wait_until(reply, paused ? "the pause" : "the end of the pause",
               [=](const Snapshot *s) { return s->paused == paused && s->configuration_in_force; });
    return said(paused ? "elections are paused" : "elections go on");
}

} // namespace

} // namespace pg_ha

extern "C" {
PG_FUNCTION_INFO_V1(ha_switchover);
PG_FUNCTION_INFO_V1(ha_pause);
PG_FUNCTION_INFO_V1(ha_resume);
PG_FUNCTION_INFO_V1(ha_remove_member);
PGDLLEXPORT Datum ha_switchover(PG_FUNCTION_ARGS);
PGDLLEXPORT Datum ha_pause(PG_FUNCTION_ARGS);
PGDLLEXPORT Datum ha_resume(PG_FUNCTION_ARGS);
PGDLLEXPORT Datum ha_remove_member(PG_FUNCTION_ARGS);
}

// The session's own server restarts as a standby some milliseconds later: the answer leaves before.
Datum ha_switchover(PG_FUNCTION_ARGS) {
    using namespace pg_ha;
    const char *target = PG_ARGISNULL(0) ? nullptr : text_to_cstring(PG_GETARG_TEXT_PP(0));
    const Snapshot *before = require_membership();
    if (target)
        require_member(before, target);
    require_primary(before);
    end_wal_on_a_record();
    const Reply reply = ask_node_worker(Ask::switchover, target);
    refuse_if_told(reply, "no switchover");
    const Snapshot *after = wait_until(reply, "the switchover", [](const Snapshot *s) {
        return strcmp(s->role, "primary") != 0 || !s->handing_over;
    });
    if (strcmp(after->role, "primary") == 0)
        ereport(ERROR, (errcode(errcode_order_refused), errmsg("%s", after->reason),
                        errhint("Nothing has been changed. SELECT * FROM ha_members shows how far each standby is.")));
    PG_RETURN_DATUM(said(psprintf("handed over in term %u: this server becomes a standby", before->term)));
}

Datum ha_pause(PG_FUNCTION_ARGS) { return pg_ha::set_paused(true); }
Datum ha_resume(PG_FUNCTION_ARGS) { return pg_ha::set_paused(false); }

Datum ha_remove_member(PG_FUNCTION_ARGS) {
    using namespace pg_ha;
    const char *name = text_to_cstring(PG_GETARG_TEXT_PP(0));
    const Snapshot *before = require_membership();
    require_primary(before);
    require_member(before, name);
    const Reply reply = ask_node_worker(Ask::removal, name);
    refuse_if_told(reply, "the member is not removed");
    wait_until(reply, "the removal", [=](const Snapshot *s) { return !member_called(s, name) && s->configuration_in_force; });
    PG_RETURN_DATUM(said(psprintf("%s is no member any more", name)));
}
