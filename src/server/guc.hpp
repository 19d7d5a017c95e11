// SPDX-License-Identifier: PostgreSQL
//
// pg_ha.* settings.  Plain C variables that PostgreSQL owns; defined once in guc.cpp.
#pragma once

extern "C" {
#include "postgres.h"
}

namespace pg_ha {

extern char *guc_node_name;           // postmaster
extern char *guc_listen_addresses;    // postmaster; default "localhost"
extern int guc_port;                  // postmaster; 7432
extern char *guc_advertise_address;   // postmaster; host other nodes use for both ports; default: listen address
extern char *guc_peers;               // sighup; "host:port, host:port"
extern char *guc_state_directory;     // postmaster; default "<PGDATA>.pg_ha"
extern char *guc_secret_file;         // postmaster; default "<PGDATA>/pg_ha.secret"
extern char *guc_replication_conninfo; // sighup; user, passfile, sslmode ... added to host, port, application_name
extern int guc_heartbeat_interval_ms; // sighup
extern int guc_lease_duration_ms;     // postmaster
extern bool guc_synchronous;          // sighup
extern int guc_max_lag_on_failover_kb; // sighup
extern int guc_min_sync_standbys;     // sighup
extern int guc_retention_size_mb;     // sighup; WAL kept for a member that lags or is away; 0: no slots
extern int guc_retention_time_s;      // sighup; -1: no limit
extern int guc_failover_priority;     // sighup
extern int guc_fence_wait_ms;         // user; how long a fenced commit waits for the lease; default 5 s
enum FenceReads { fence_reads_off, fence_reads_error };
extern int guc_fence_reads;           // user; FenceReads: what a fenced primary does with reads of tables
extern bool guc_require_synchronous_commit; // sighup; refuse commits of sessions that left the promise
extern bool guc_trace;                // sighup; protocol trace lines in the server log

void guc_define();                    // from _PG_init
const char *state_directory();        // resolved path, absolute; valid after guc_define
const char *secret_file();            // resolved path
// What keeps this server from taking part, for ha_cluster and the log; null when nothing is missing.
const char *guc_missing();            // e.g. "pg_ha.node_name is not set"
const char *guc_missing_hint();

} // namespace pg_ha
