// SPDX-License-Identifier: PostgreSQL
//
// The first look at a statement, before it does anything.  The fence at the transaction's end
// (fence.cpp) is what keeps the promise; this file is for people and for the WAL: a fenced primary
// says so at once instead of after an hour of COPY, and does not fill its WAL with what can only be
// thrown away.
//
//  - Statements that write (executor and utility): 25006 after pg_ha.fence_wait without a lease.
//  - Functions whose effect shows before or without a commit record (sequences, notifications, logical
//    messages): the same, and the end of their transaction is looked at although it takes no xid.
//  - Statements that read tables, if pg_ha.fence_reads is error: the same, before and at the end.
//  - After a promotion, any statement of an ordinary session that reads or writes tables waits, pg_ha.fence_wait
//    at most, until the sync set has what it would see (shared->settled); then it is refused with HA006.
//  - ALTER SYSTEM may not touch synchronous_standby_names: sync_rule.cpp would keep the value out, but
//    only with a line in the log.
//
// Reads of system catalogs are never refused: planning has read them already, and people who look for
// the reason need them.  In recovery PostgreSQL itself refuses writes; here they are refused a moment before,
// because it cannot say which server takes them, or for whom this one waits.
#include "statements.hpp"

#include "errcodes.hpp"
#include "fence.hpp"
#include "guc.hpp"
#include "refusal.hpp"
#include "shmem.hpp"

extern "C" {
#include "access/parallel.h"
#include "access/transam.h"
#include "access/xlog.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_class.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "nodes/plannodes.h"
#include "tcop/utility.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
}

namespace pg_ha {

namespace {

ExecutorStart_hook_type earlier_executor_hook = nullptr;
ProcessUtility_hook_type earlier_utility_hook = nullptr;
object_access_hook_type earlier_access_hook = nullptr;

bool applies() {
    return fence_applies() && !IsParallelWorker() && !RecoveryInProgress();
}

bool is_standby() {
    return fence_applies() && RecoveryInProgress();
}

void refuse_on_standby(const Node *statement) {
    Snapshot *seen = static_cast<Snapshot *>(palloc0(sizeof(Snapshot)));
    if (!read_snapshot_head(seen))
        seen->valid = false;
    ereport(ERROR, (errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
                    errmsg("cannot execute %s in a read-only transaction", // as PostgreSQL says it
                           CreateCommandName(const_cast<Node *>(statement))),
                    detail_role(seen), hint_primary(seen)));
}

// ---- after a promotion -----------------------------------------------------------------------------------

bool is_settled() {
    return pg_atomic_read_u32(&shared->settled) != 0;
}

void wait_until_settled(const Node *statement) {
    if (is_settled() || MyBackendType != B_BACKEND)
        return;
    Snapshot *seen = static_cast<Snapshot *>(palloc0(sizeof(Snapshot)));
    if (!wait_until(is_settled, guc_fence_wait_ms, seen))
        ereport(ERROR, (errcode(errcode_not_settled),
                        errmsg("cannot execute %s: the standbys have not confirmed yet what this server would show",
                               CreateCommandName(const_cast<Node *>(statement))),
                        detail_role(seen), hint_primary(seen)));
    pfree(seen);
}

// ---- writes and reads ------------------------------------------------------------------------------------

void require_lease(const Node *statement) {
    if (lease_holds())
        return;
    char *what = psprintf("execute %s", CreateCommandName(const_cast<Node *>(statement)));
    fence_check(what);
    pfree(what);
}

void before_write(const Node *statement) {
    require_lease(statement);
    wait_until_settled(statement);
}

bool reads_tables(const PlannedStmt *planned) {
    ListCell *cell;
    foreach (cell, planned->rtable) {
        const auto *entry = static_cast<const RangeTblEntry *>(lfirst(cell));
        if (entry->rtekind == RTE_RELATION && entry->relkind != RELKIND_VIEW && entry->relid >= FirstNormalObjectId)
            return true;
    }
    return false;
}

// Looked at again when the transaction ends: a read was current only if the lease held until then.
void before_read(const Node *statement) {
    wait_until_settled(statement);
    if (guc_fence_reads == fence_reads_off)
        return;
    require_lease(statement);
    fence_this_transaction();
}

// ---- executor --------------------------------------------------------------------------------------------

void executor_start(QueryDesc *query, int flags) {
    PlannedStmt *planned = query->plannedstmt;
    if ((flags & EXEC_FLAG_EXPLAIN_ONLY) == 0 && applies()) {
        if (!CommandIsReadOnly(planned))
            before_write(reinterpret_cast<Node *>(planned));
        else if ((guc_fence_reads != fence_reads_off || !is_settled()) && reads_tables(planned))
            before_read(reinterpret_cast<Node *>(planned));
    } else if ((flags & EXEC_FLAG_EXPLAIN_ONLY) == 0 && is_standby() && !CommandIsReadOnly(planned)) {
        refuse_on_standby(reinterpret_cast<Node *>(planned));
    }
    ExecutorStart_hook_type next = earlier_executor_hook ? earlier_executor_hook : standard_ExecutorStart;
    next(query, flags);
}

// ---- functions -------------------------------------------------------------------------------------------

bool shows_without_commit(Oid function) {
    switch (function) {
    case F_NEXTVAL:
    case F_SETVAL_REGCLASS_INT8:
    case F_SETVAL_REGCLASS_INT8_BOOL:
    case F_PG_NOTIFY:
    case F_PG_LOGICAL_EMIT_MESSAGE_BOOL_TEXT_TEXT:
    case F_PG_LOGICAL_EMIT_MESSAGE_BOOL_TEXT_BYTEA:
        return true;
    default:
        return false;
    }
}

// PostgreSQL asks here whenever an expression that calls the function is made ready to run.
void object_access(ObjectAccessType access, Oid catalog, Oid object, int sub_object, void *argument) {
    if (earlier_access_hook)
        earlier_access_hook(access, catalog, object, sub_object, argument);
    if (access != OAT_FUNCTION_EXECUTE || !shows_without_commit(object) || !applies())
        return;
    if (!lease_holds())
        fence_check(psprintf("execute %s()", get_func_name(object)));
    fence_this_transaction();
}

// ---- utility statements -----------------------------------------------------------------------------------

// Emptying synchronous_standby_names would acknowledge every waiting commit at once.
void keep_sync_setting(const AlterSystemStmt *statement) {
    const VariableSetStmt *change = statement->setstmt;
    bool all = change->kind == VAR_RESET_ALL;
    if (!all && pg_strcasecmp(change->name, "synchronous_standby_names") != 0)
        return;
    ereport(ERROR,
            (errcode(ERRCODE_CANT_CHANGE_RUNTIME_PARAM),
             errmsg("synchronous_standby_names is managed by pg_ha and cannot be changed by ALTER SYSTEM"),
             all ? errhint("Reset the settings that you want to reset one by one.")
                 : errhint("pg_ha.synchronous chooses between synchronous and asynchronous commits; pg_ha keeps the "
                           "list of standbys.")));
}

bool writes(const Node *statement) {
    switch (nodeTag(statement)) {
    case T_AlterSystemStmt: // a file of this server
    case T_ExecuteStmt:     // what they run is looked at when it runs
    case T_ExplainStmt:
    case T_PrepareStmt:
        return false;
    case T_NotifyStmt:
    case T_ReindexStmt:
    case T_VacuumStmt:
        return true;
    default: // everything that log_statement = 'mod' would log: DDL, COPY FROM, TRUNCATE
        return GetCommandLogLevel(const_cast<Node *>(statement)) != LOGSTMT_ALL;
    }
}

// COMMIT PREPARED or ROLLBACK PREPARED; their own transaction has no xid.
bool finishes_prepared(const Node *statement) {
    if (!IsA(statement, TransactionStmt))
        return false;
    TransactionStmtKind kind = reinterpret_cast<const TransactionStmt *>(statement)->kind;
    return kind == TRANS_STMT_COMMIT_PREPARED || kind == TRANS_STMT_ROLLBACK_PREPARED;
}

bool commits_prepared(const Node *statement) {
    return reinterpret_cast<const TransactionStmt *>(statement)->kind == TRANS_STMT_COMMIT_PREPARED;
}

void before_utility(const Node *statement) {
    if (finishes_prepared(statement)) {
        fence_finishing_prepared(commits_prepared(statement));
    } else if (writes(statement)) {
        before_write(statement);
        if (IsA(statement, NotifyStmt))
            fence_this_transaction(); // its xid is taken after the first look at the transaction's end
    } else if (IsA(statement, CopyStmt)) {
        before_read(statement); // of a whole table, without the executor
    }
}

void utility(PlannedStmt *planned, const char *query, bool read_only_tree, ProcessUtilityContext context,
             ParamListInfo parameters, QueryEnvironment *environment, DestReceiver *destination,
             QueryCompletion *completion) {
    const Node *statement = planned->utilityStmt;
    bool fenced = applies();
    if (IsA(statement, AlterSystemStmt) && fence_applies())
        keep_sync_setting(reinterpret_cast<const AlterSystemStmt *>(statement));
    if (fenced)
        before_utility(statement);
    else if (is_standby() && writes(statement))
        refuse_on_standby(statement);
    bool finished_prepared = fenced && finishes_prepared(statement);
    bool committed = finished_prepared && commits_prepared(statement);
    ProcessUtility_hook_type next = earlier_utility_hook ? earlier_utility_hook : standard_ProcessUtility;
    next(planned, query, read_only_tree, context, parameters, environment, destination, completion);
    if (finished_prepared)
        fence_prepared_finished(committed);
}

} // namespace

void statements_install() {
    earlier_executor_hook = ExecutorStart_hook;
    ExecutorStart_hook = executor_start;
    earlier_utility_hook = ProcessUtility_hook;
    ProcessUtility_hook = utility;
    earlier_access_hook = object_access_hook;
    object_access_hook = object_access;
}

} // namespace pg_ha
