// SPDX-License-Identifier: PostgreSQL
//
// What people see: status functions behind the views of pg_ha--1.0.sql.  They only copy rows out of
// shared memory, take no lock, touch no catalog of ours, and work in recovery, before bootstrap and
// when the node worker is dead.  Then the ages keep growing and the reason says so.
//
// Plain C in C++: nothing here has a destructor, so an ERROR may leave from anywhere.
#include "guc.hpp"
#include "retention.hpp"
#include "shmem.hpp"

extern "C" {
#include "access/htup_details.h"
#include "access/xlog.h"
#include "datatype/timestamp.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/pg_lsn.h"
#include "utils/timestamp.h"
}

extern "C" {
PG_FUNCTION_INFO_V1(ha_status);
PG_FUNCTION_INFO_V1(ha_cluster_status);
PG_FUNCTION_INFO_V1(ha_link_status);
PG_FUNCTION_INFO_V1(ha_event_log);
PG_FUNCTION_INFO_V1(ha_slot_status);
PG_FUNCTION_INFO_V1(ha_is_primary);
PG_FUNCTION_INFO_V1(ha_primary);
PGDLLEXPORT Datum ha_status(PG_FUNCTION_ARGS);
PGDLLEXPORT Datum ha_cluster_status(PG_FUNCTION_ARGS);
PGDLLEXPORT Datum ha_link_status(PG_FUNCTION_ARGS);
PGDLLEXPORT Datum ha_event_log(PG_FUNCTION_ARGS);
PGDLLEXPORT Datum ha_slot_status(PG_FUNCTION_ARGS);
PGDLLEXPORT Datum ha_is_primary(PG_FUNCTION_ARGS);
PGDLLEXPORT Datum ha_primary(PG_FUNCTION_ARGS);
}

namespace pg_ha {

namespace {

constexpr int columns_max = 32;
constexpr int64 silent_after_ms = 3000; // the node worker writes a snapshot several times a second

// One row under construction; columns are added in the order of the SQL declaration.
struct Row {
    Datum values[columns_max];
    bool nulls[columns_max];
    int count;
};

void add(Row *row, Datum value) {
    Assert(row->count < columns_max);
    row->values[row->count] = value;
    row->nulls[row->count++] = false;
}

void add_null(Row *row) {
    row->values[row->count] = static_cast<Datum>(0);
    row->nulls[row->count++] = true;
}

void add_text(Row *row, const char *text) { // empty: null
    if (text && text[0] != '\0')
        add(row, CStringGetTextDatum(text));
    else
        add_null(row);
}

void add_bool(Row *row, bool value) {
    add(row, BoolGetDatum(value));
}
void add_int(Row *row, int32 value) {
    add(row, Int32GetDatum(value));
}
void add_bigint(Row *row, int64 value) {
    add(row, Int64GetDatum(value));
}

void add_bigint_unless_negative(Row *row, int64 value) {
    if (value < 0)
        add_null(row);
    else
        add_bigint(row, value);
}

void add_lsn(Row *row, uint64 lsn) { // 0: unknown
    if (lsn == 0)
        add_null(row);
    else
        add(row, LSNGetDatum(lsn));
}

void add_interval_us(Row *row, int64 microseconds) { // negative: unknown
    if (microseconds < 0) {
        add_null(row);
        return;
    }
    Interval *interval = static_cast<Interval *>(palloc0(sizeof(Interval)));
    interval->time = microseconds;
    add(row, IntervalPGetDatum(interval));
}

void add_port(Row *row, int32 port) { // 0: unknown
    if (port == 0)
        add_null(row);
    else
        add_int(row, port);
}

void put_row(ReturnSetInfo *result, Row *row) {
    Assert(row->count == result->setDesc->natts);
    tuplestore_putvalues(result->setResult, result->setDesc, row->values, row->nulls);
}

Datum single_row(FunctionCallInfo fcinfo, Row *row) {
    TupleDesc description;
    if (get_call_result_type(fcinfo, nullptr, &description) != TYPEFUNC_COMPOSITE)
        elog(ERROR, "return type must be a row type");
    Assert(row->count == description->natts);
    return HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(description), row->values, row->nulls));
}

void require_library() {
    if (!shared)
        ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                        errmsg("pg_ha must be loaded through shared_preload_libraries"),
                        errhint("Add pg_ha to shared_preload_libraries and restart the server.")));
}

bool armed() {
    return pg_atomic_read_u32(&shared->armed) != 0;
}

// The snapshot, all zero if none was written yet, and how old it is.
struct Look {
    Snapshot *snapshot;
    int64 age_ms; // -1: no snapshot
    bool silent;  // the node worker has stopped reporting, or never did
};

Look look() {
    require_library();
    Look seen;
    seen.snapshot = static_cast<Snapshot *>(palloc0(sizeof(Snapshot)));
    seen.age_ms = -1;
    if (read_snapshot(seen.snapshot)) {
        uint64 now = boot_now_ns();
        uint64 taken = seen.snapshot->taken_ns;
        seen.age_ms = now > taken ? static_cast<int64>((now - taken) / UINT64CONST(1000000)) : 0;
    } else {
        memset(static_cast<void *>(seen.snapshot), 0, sizeof(Snapshot));
    }
    // While it takes no part, it reports only when the reason changes.
    bool takes_part = strcmp(seen.snapshot->role, "passive") != 0;
    seen.silent = seen.age_ms < 0 || !shared->node_latch || (takes_part && seen.age_ms > silent_after_ms);
    return seen;
}

// Ages in the snapshot are as of its writing.
int64 aged_us(const Look *seen, int64 age_ms) {
    return age_ms < 0 ? -1 : (age_ms + Max(seen->age_ms, 0)) * 1000;
}

bool is_primary(const Snapshot *snapshot) {
    return armed() && !RecoveryInProgress() && strcmp(snapshot->role, "primary") == 0 && lease_holds();
}

// Why this server is what it is, and what to do next; the first thing that is wrong.
void explain(const Look *seen, const char **reason, const char **hint) {
    *hint = nullptr;
    if (guc_missing()) {
        *reason = guc_missing();
        *hint = guc_missing_hint();
    } else if (seen->age_ms < 0) {
        *reason = "the node worker has not reported yet";
        *hint = "If this lasts, the server log says why the node worker does not run.";
    } else if (seen->silent) {
        *reason = psprintf("the node worker has not reported for " INT64_FORMAT " s", seen->age_ms / 1000);
        *hint = "It is stopped or hangs, and the rest of this row is as old. The server log may say why.";
    } else {
        *reason = seen->snapshot->reason;
        if (!armed())
            *hint = "Before ha_bootstrap() was called, commits are not fenced and nothing fails over.";
    }
}

const char *sync_set(const Snapshot *snapshot) {
    StringInfoData names;
    initStringInfo(&names);
    for (int i = 0; i < snapshot->member_count; i++)
        if (snapshot->members[i].in_sync_set)
            appendStringInfo(&names, "%s%s", names.len > 0 ? ", " : "", snapshot->members[i].name);
    return names.data;
}

// What is left of this node's lease: zero if it has none and would need one, null on a standby.
void add_lease_left(Row *row) {
    uint64 until = pg_atomic_read_u64(&shared->lease_until_ns);
    uint64 now = boot_now_ns();
    if (!armed() || (until == 0 && RecoveryInProgress()))
        add_null(row);
    else
        add_interval_us(row, until > now ? static_cast<int64>((until - now) / 1000) : 0);
}

void add_member(Row *row, const Look *seen, const MemberRow *member) {
    add_text(row, member->name);
    add_text(row, member->kind);
    add_text(row, member->role);
    add_text(row, member->liveness);
    add_bool(row, member->is_primary);
    add_bool(row, member->self);
    add_bool(row, member->voter);
    add_bool(row, member->in_sync_set);
    add_int(row, member->priority);
    add_bigint(row, member->term);
    add_bigint_unless_negative(row, member->timeline == 0 ? -1 : static_cast<int64>(member->timeline));
    add_lsn(row, member->lsn);
    add_lsn(row, member->replayed_lsn);
    add_bigint_unless_negative(row, member->lag_bytes);
    add_interval_us(row, member->lag_ms < 0 ? -1 : member->lag_ms * 1000);
    add_bool(row, member->streaming);
    add_bool(row, member->in_recovery);
    add_interval_us(row, aged_us(seen, member->last_heard_ms));
    add_text(row, member->postgres_host);
    add_port(row, member->postgres_port);
    add_text(row, member->peer_host);
    add_port(row, member->peer_port);
    add_text(row, psprintf("%016llx", static_cast<unsigned long long>(member->id)));
    add_bigint(row, static_cast<int64>(member->incarnation));
    add_text(row, member->reason);
}

void add_slot(Row *row, const SlotRow *slot) {
    char *name = static_cast<char *>(palloc(slot_name_bytes));
    slot_name_of(slot->member, reinterpret_cast<char (*)[slot_name_bytes]>(name));
    uint64 now = boot_now_ns();
    int64 away_us = slot->away_since_ns == 0 ? -1 : static_cast<int64>((now - Min(now, slot->away_since_ns)) / 1000);
    add_text(row, slot->name);
    add_text(row, name);
    add_text(row, slot->state);
    add_lsn(row, slot->lsn);
    add_bigint(row, static_cast<int64>(slot->bytes));
    add_bigint(row, static_cast<int64>(slot->limit_bytes));
    if (away_us < 0)
        add_null(row);
    else
        add(row, TimestampTzGetDatum(GetCurrentTimestamp() - away_us));
    add_interval_us(row, away_us);
    add_interval_us(row, guc_retention_time_s < 0 ? -1 : guc_retention_time_s * INT64CONST(1000000));
    add_text(row, slot->reason);
}

void add_primary(Row *row, const Snapshot *snapshot) {
    add_text(row, snapshot->primary_name);
    add_text(row, snapshot->primary_host);
    add_port(row, snapshot->primary_port);
}

void add_cluster(Row *row, const Look *seen) {
    const Snapshot *snapshot = seen->snapshot;
    const char *reason;
    const char *hint;
    explain(seen, &reason, &hint);
    bool failover = snapshot->failover_possible && !seen->silent;
    add_text(row, snapshot->cluster_id);
    add_text(row, guc_node_name);
    add_text(row, snapshot->role[0] != '\0' ? snapshot->role : "passive");
    add_bigint(row, snapshot->term);
    add_primary(row, snapshot);
    add_bool(row, snapshot->quorum && !seen->silent);
    add_int(row, snapshot->member_count);
    add_int(row, snapshot->voters);
    add_lease_left(row);
    add_bool(row, snapshot->synchronous);
    add_text(row, sync_set(snapshot));
    add_int(row, snapshot->write_quorum);
    add_bigint(row, static_cast<int64>(pg_atomic_read_u64(&shared->unprotected_commits)));
    add_text(row, snapshot->config_index == 0 && snapshot->config_term == 0
                      ? nullptr
                      : psprintf("%u." UINT64_FORMAT, snapshot->config_term, snapshot->config_index));
    add_bool(row, snapshot->configuration_in_force);
    add_bool(row, snapshot->paused);
    add_bool(row, failover);
    add_text(row, failover
                      ? nullptr
                      : (seen->silent || snapshot->failover_reason[0] == '\0' || !armed() ? reason
                                                                                          : snapshot->failover_reason));
    add_text(row, reason);
    add_text(row, hint);
}

} // namespace

} // namespace pg_ha

using namespace pg_ha;

Datum ha_status(PG_FUNCTION_ARGS) {
    Look seen = look();
    InitMaterializedSRF(fcinfo, 0);
    for (int i = 0; i < seen.snapshot->member_count; i++) {
        Row row = {};
        add_member(&row, &seen, &seen.snapshot->members[i]);
        put_row(reinterpret_cast<ReturnSetInfo *>(fcinfo->resultinfo), &row);
    }
    return static_cast<Datum>(0);
}

Datum ha_cluster_status(PG_FUNCTION_ARGS) {
    Look seen = look();
    Row row = {};
    add_cluster(&row, &seen);
    return single_row(fcinfo, &row);
}

Datum ha_link_status(PG_FUNCTION_ARGS) {
    Look seen = look();
    InitMaterializedSRF(fcinfo, 0);
    for (int i = 0; i < seen.snapshot->link_count; i++) {
        const LinkRow *link = &seen.snapshot->links[i];
        Row row = {};
        add_text(&row, seen.snapshot->members[link->from].name);
        add_text(&row, seen.snapshot->members[link->to].name);
        add_interval_us(&row, link->rtt_us);
        add_interval_us(&row, aged_us(&seen, link->last_heard_ms));
        add_int(&row, link->missed);
        put_row(reinterpret_cast<ReturnSetInfo *>(fcinfo->resultinfo), &row);
    }
    return static_cast<Datum>(0);
}

Datum ha_event_log(PG_FUNCTION_ARGS) {
    require_library();
    EventRow *events = static_cast<EventRow *>(palloc0(sizeof(EventRow) * ha_events_max));
    int count = read_events(events, ha_events_max);
    InitMaterializedSRF(fcinfo, 0);
    for (int i = 0; i < count; i++) {
        Row row = {};
        add_bigint(&row, static_cast<int64>(events[i].number));
        add(&row, TimestampTzGetDatum(events[i].at));
        add_text(&row, events[i].from_role);
        add_text(&row, events[i].to_role);
        add_bigint(&row, events[i].term);
        add_bigint_unless_negative(&row, events[i].timeline == 0 ? -1 : static_cast<int64>(events[i].timeline));
        add_lsn(&row, events[i].lsn);
        add_text(&row, events[i].reason);
        put_row(reinterpret_cast<ReturnSetInfo *>(fcinfo->resultinfo), &row);
    }
    return static_cast<Datum>(0);
}

Datum ha_slot_status(PG_FUNCTION_ARGS) {
    require_library();
    SlotTable *table = static_cast<SlotTable *>(palloc0(sizeof(SlotTable)));
    if (!read_slots(table))
        table->count = 0;
    InitMaterializedSRF(fcinfo, 0);
    for (int i = 0; i < table->count; i++) {
        Row row = {};
        add_slot(&row, &table->rows[i]);
        put_row(reinterpret_cast<ReturnSetInfo *>(fcinfo->resultinfo), &row);
    }
    return static_cast<Datum>(0);
}

Datum ha_is_primary(PG_FUNCTION_ARGS) {
    Look seen = look();
    PG_RETURN_BOOL(is_primary(seen.snapshot));
}

Datum ha_primary(PG_FUNCTION_ARGS) {
    Look seen = look();
    Row row = {};
    add_primary(&row, seen.snapshot);
    return single_row(fcinfo, &row);
}
