// SPDX-License-Identifier: PostgreSQL
//
// A member that is rewound or cloned is down; its helper has a session with the primary, and writes into a
// statement of that session how far it is (source.cpp of src/rejoin).  The primary's manager worker reads that among the
// sessions, as pg_stat_activity does, and the node worker tells all members.  Only while a member is away.
//
// Must never decide anything: whoever may replicate can write such a statement.
#include "rejoin_watch.hpp"

#include "agent/rejoin_journal.hpp"
#include "shmem.hpp"

extern "C" {
#include "access/xact.h"
#include "access/xlog.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "utils/backend_status.h"
}

namespace pg_ha {

namespace {

constexpr long look_every_ms = 1000;
constexpr long idle_ms = 60000;

bool says_its_progress(const PgBackendStatus *session, RejoinRow *row) {
    if (session->st_procpid == 0 || session->st_backendType != B_BACKEND || !session->st_appname || !session->st_activity_raw ||
        strcmp(session->st_appname, rejoin_application_name) != 0)
        return false;
    unsigned long long member;
    unsigned clone, percent, total_mb;
    if (sscanf(session->st_activity_raw, rejoin_progress_format, &member, &clone, &percent, &total_mb) != 4 || percent > 100)
        return false;
    row->member = member;
    row->clone = clone != 0;
    row->percent = percent;
    row->total_mb = total_mb;
    return has_rolreplication(session->st_userid);
}

void look_at_sessions(RejoinTable *table) {
    StartTransactionCommand(); // for the look at roles
    pgstat_clear_backend_activity_snapshot();
    const int sessions = pgstat_fetch_stat_numbackends();
    for (int i = 1; i <= sessions && table->count < rejoin_rows_max; i++) {
        const LocalPgBackendStatus *local = pgstat_fetch_stat_local_beentry(i);
        if (local && says_its_progress(&local->backendStatus, &table->rows[table->count]))
            table->count++;
    }
    CommitTransactionCommand();
}

} // namespace

long watch_rejoins() {
    static RejoinTable told;
    static uint64 looked_at = 0;
    const bool away = !RecoveryInProgress() && pg_atomic_read_u32(&shared->members_away) != 0;
    const uint64 now = boot_now_ns();
    if (away && now - looked_at < static_cast<uint64>(look_every_ms) * 1000000)
        return look_every_ms;
    looked_at = now;
    RejoinTable table;
    memset(&table, 0, sizeof(table));
    if (away)
        look_at_sessions(&table);
    if (memcmp(&table, &told, sizeof(table)) != 0) {
        told = table;
        write_rejoins(&table);
    }
    return away ? look_every_ms : idle_ms;
}

} // namespace pg_ha
