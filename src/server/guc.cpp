// SPDX-License-Identifier: PostgreSQL
//
// pg_ha.* settings: definition, and checks that refuse what cannot work, with a hint.  A refused or
// missing setting never stops the server: PostgreSQL falls back to the default, and guc_missing()
// then says why this server does not take part.  Safety has no setting.
#include "core/settings.hpp"
#include "net/addresses.hpp"

#include "guc.hpp"

extern "C" {
#include "access/xlog.h"
#include "access/xlogrecovery.h"
#include "miscadmin.h"
#include "replication/walsender.h"
#include "utils/guc.h"
}

#include <climits>

namespace pg_ha {

char *guc_node_name = nullptr;
char *guc_listen_addresses = nullptr;
int guc_port = 7432;
char *guc_advertise_address = nullptr;
char *guc_peers = nullptr;
char *guc_state_directory = nullptr;
char *guc_secret_file = nullptr;
char *guc_replication_conninfo = nullptr;
int guc_heartbeat_interval_ms = 200;
int guc_lease_duration_ms = 2000;
bool guc_synchronous = true;
int guc_max_lag_on_failover_kb = 16 * 1024;
int guc_failover_priority = 100;
int guc_min_sync_standbys = 0;
int guc_retention_size_mb = 10 * 1024;
int guc_retention_time_s = 24 * 60 * 60;
int guc_fence_wait_ms = 5000;
int guc_fence_reads = fence_reads_off;
bool guc_require_synchronous_commit = false;
bool guc_trace = false;

namespace {

constexpr config_enum_entry fence_reads_values[] = {
    {"off", fence_reads_off, false}, {"error", fence_reads_error, false}, {nullptr, 0, false}};

constexpr int replication_conninfo_bytes_max = 1024; // of the 2048 of Shared::upstream_conninfo

char state_directory_path[MAXPGPATH];
char secret_file_path[MAXPGPATH];

// Check hooks are called by PostgreSQL, so a failing allocation must not leave them as an exception.
bool node_name_fits(const char *name) noexcept {
    try {
        return valid_node_name(name);
    } catch (...) {
        return false;
    }
}

bool peers_fit(const char *text) noexcept {
    try {
        return parse_peers(text, 7432).has_value();
    } catch (...) {
        return false;
    }
}

bool check_node_name(char **value, void **, GucSource) {
    if ((*value)[0] == '\0' || node_name_fits(*value))
        return true;
    GUC_check_errdetail("The node name is used in synchronous_standby_names and in file names.");
    GUC_check_errhint("Use 1 to 63 of a-z, 0-9, _ and -, starting with a letter or digit.");
    return false;
}

bool check_peers(char **value, void **, GucSource) {
    if (peers_fit(*value))
        return true;
    GUC_check_errhint("Write a list such as 'db1.example.com:7432, 10.0.0.2:7432, [2001:db8::3]:7432'.");
    return false;
}

bool check_state_directory(char **value, void **, GucSource) {
    if ((*value)[0] == '\0')
        return true;
    if (!is_absolute_path(*value)) {
        GUC_check_errhint("Give an absolute path.");
        return false;
    }
    canonicalize_path(*value);
    if (DataDir && path_is_prefix_of_path(DataDir, *value)) {
        GUC_check_errdetail("pg_basebackup would clone it and pg_rewind would overwrite it there.");
        GUC_check_errhint("Choose a directory outside the data directory, on storage that survives a restart.");
        return false;
    }
    return true;
}

bool check_secret_file(char **value, void **, GucSource) {
    if ((*value)[0] == '\0' || is_absolute_path(*value))
        return true;
    GUC_check_errhint("Give an absolute path.");
    return false;
}

// Host and port are added behind it, in memory of a fixed size, so it must be a list of keywords, and no long one.
bool check_replication_conninfo(char **value, void **, GucSource) {
    if (strncmp(*value, "postgres://", 11) == 0 || strncmp(*value, "postgresql://", 13) == 0) {
        GUC_check_errdetail("It is used together with the host and the port of each member.");
        GUC_check_errhint("Write keywords such as 'user=replicator passfile=/path/to/file'.");
        return false;
    }
    if (strlen(*value) <= replication_conninfo_bytes_max)
        return true;
    GUC_check_errdetail("It has more than %d bytes.", replication_conninfo_bytes_max);
    GUC_check_errhint("Keep what is long in files: passfile, sslcert, a service of pg_service.conf.");
    return false;
}

// lease_duration is defined first and cannot change later, so this is the one place that compares.
// The default is let through: heartbeats are never slower than a third of the lease anyway.
bool check_heartbeat_interval(int *value, void **, GucSource source) {
    if (source == PGC_S_DEFAULT || *value * 3 <= guc_lease_duration_ms)
        return true;
    GUC_check_errdetail("Three heartbeats must fit into pg_ha.lease_duration (%d ms), or a single lost one ends it.",
                        guc_lease_duration_ms);
    GUC_check_errhint("Use at most %d ms, or a longer pg_ha.lease_duration.", guc_lease_duration_ms / 3);
    return false;
}

void define_identity() {
    DefineCustomStringVariable("pg_ha.node_name", "Name of this server in its cluster, unique and lasting.",
                               "Also its application_name when it streams.", &guc_node_name, "", PGC_POSTMASTER, 0,
                               check_node_name, nullptr, nullptr);
    DefineCustomStringVariable("pg_ha.state_directory", "Where term and vote are kept.",
                               "Empty means the data directory's name with \".pg_ha\" added.", &guc_state_directory,
                               "", PGC_POSTMASTER, GUC_SUPERUSER_ONLY, check_state_directory, nullptr, nullptr);
    DefineCustomStringVariable("pg_ha.secret_file", "The cluster's secret, made by ha_bootstrap().",
                               "Empty means pg_ha.secret in the data directory.", &guc_secret_file, "",
                               PGC_POSTMASTER, GUC_SUPERUSER_ONLY, check_secret_file, nullptr, nullptr);
}

void define_network() {
    DefineCustomStringVariable("pg_ha.listen_addresses", "Addresses at which the other members reach this server.",
                               nullptr, &guc_listen_addresses, "localhost", PGC_POSTMASTER, 0, nullptr, nullptr,
                               nullptr);
    DefineCustomIntVariable("pg_ha.port", "Port at which the other members reach this server.", nullptr, &guc_port,
                            7432, 1, 65535, PGC_POSTMASTER, 0, nullptr, nullptr, nullptr);
    DefineCustomStringVariable("pg_ha.advertise_address", "Host name or address the other members are told to use.",
                               "Empty means the first of pg_ha.listen_addresses.", &guc_advertise_address, "",
                               PGC_POSTMASTER, 0, nullptr, nullptr, nullptr);
    DefineCustomStringVariable("pg_ha.peers", "Where to find the cluster: host:port of some or all members.", nullptr,
                               &guc_peers, "", PGC_SIGHUP, 0, check_peers, nullptr, nullptr);
    DefineCustomStringVariable("pg_ha.replication_conninfo", "Added to host and port when streaming from the primary.",
                               "User, passfile, sslmode and the like.", &guc_replication_conninfo, "", PGC_SIGHUP,
                               GUC_SUPERUSER_ONLY, check_replication_conninfo, nullptr, nullptr);
}

void define_timing() {
    DefineCustomIntVariable("pg_ha.lease_duration",
                            "How long a primary may acknowledge commits after a majority last answered.",
                            "A silent primary is replaced after this time.", &guc_lease_duration_ms, 2000, 300, 60000,
                            PGC_POSTMASTER, GUC_UNIT_MS, nullptr, nullptr, nullptr);
    DefineCustomIntVariable("pg_ha.heartbeat_interval", "Time between heartbeats.",
                            "Never more than a third of pg_ha.lease_duration.", &guc_heartbeat_interval_ms, 200, 10,
                            20000, PGC_SIGHUP, GUC_UNIT_MS, check_heartbeat_interval, nullptr, nullptr);
}

void define_fence() {
    DefineCustomIntVariable("pg_ha.fence_wait", "How long a statement waits for a lost lease before it fails.", nullptr,
                            &guc_fence_wait_ms, 5000, 0, INT_MAX, PGC_USERSET, GUC_UNIT_MS, nullptr, nullptr, nullptr);
    DefineCustomEnumVariable("pg_ha.fence_reads", "What a primary without a lease does with statements that read tables.",
                             "Another primary may have changed the rows already.", &guc_fence_reads, fence_reads_off,
                             fence_reads_values, PGC_USERSET, 0, nullptr, nullptr, nullptr);
    DefineCustomBoolVariable("pg_ha.require_synchronous_commit",
                             "Refuses commits of sessions whose synchronous_commit is less than on.",
                             "Such commits can be lost in a failover; otherwise ha_cluster counts them.",
                             &guc_require_synchronous_commit, false, PGC_SIGHUP, 0, nullptr, nullptr, nullptr);
}

void define_policy() {
    DefineCustomBoolVariable("pg_ha.synchronous", "A commit is acknowledged only when a quorum of members has it.",
                             "The primary's value holds for the cluster.", &guc_synchronous, true, PGC_SIGHUP, 0,
                             nullptr, nullptr, nullptr);
    DefineCustomIntVariable("pg_ha.max_lag_on_failover", "How far behind a new primary may be in asynchronous mode.",
                            nullptr, &guc_max_lag_on_failover_kb, 16 * 1024, 0, INT_MAX, PGC_SIGHUP, GUC_UNIT_KB,
                            nullptr, nullptr, nullptr);
    DefineCustomIntVariable("pg_ha.min_sync_standbys",
                            "Commits are confirmed by at least so many standbys, or wait.",
                            "0: when all standbys are lost, the primary goes on alone.", &guc_min_sync_standbys, 0, 0,
                            static_cast<int>(members_max) - 1, PGC_SIGHUP, 0, nullptr, nullptr, nullptr);
    DefineCustomIntVariable("pg_ha.failover_priority", "Which of equal standbys is preferred; 0 becomes primary only where no other has its WAL.",
                            nullptr, &guc_failover_priority, 100, 0, 1000, PGC_SIGHUP, 0, nullptr, nullptr, nullptr);
    DefineCustomBoolVariable("pg_ha.trace", "Writes every decision of the protocol to the server log.", nullptr,
                             &guc_trace, false, PGC_SIGHUP, 0, nullptr, nullptr, nullptr);
}

void define_retention() {
    DefineCustomIntVariable("pg_ha.retention_size", "How much WAL is kept for a member that is away or lags.",
                            "Beyond that its slot is dropped, and it has to be cloned again. 0: no slots are kept.",
                            &guc_retention_size_mb, 10 * 1024, 0, INT_MAX, PGC_SIGHUP, GUC_UNIT_MB, nullptr, nullptr,
                            nullptr);
    DefineCustomIntVariable("pg_ha.retention_time", "How long WAL is kept for a member that is away.",
                            "-1: only pg_ha.retention_size limits it.", &guc_retention_time_s, 24 * 60 * 60, -1, INT_MAX,
                            PGC_SIGHUP, GUC_UNIT_S, nullptr, nullptr, nullptr);
}

// What keeps this server from taking part, and what to do; both null when nothing does.
struct Missing {
    const char *what;
    const char *hint;
};

Missing find_missing() {
    if (guc_node_name[0] == '\0')
        return {"pg_ha.node_name is not set",
                "Set pg_ha.node_name in postgresql.conf, different on each server, and restart."};
    if (wal_level < WAL_LEVEL_REPLICA)
        return {"wal_level is minimal", "Set wal_level to replica or logical and restart."};
    if (max_wal_senders == 0)
        return {"max_wal_senders is 0", "Set max_wal_senders to 10 or more and restart."};
    if (!EnableHotStandby)
        return {"hot_standby is off", "Set hot_standby to on and restart."};
    if (recoveryTargetTimeLineGoal != RECOVERY_TARGET_TIMELINE_LATEST)
        return {"recovery_target_timeline is not latest", "Set recovery_target_timeline to latest and restart."};
    return {nullptr, nullptr};
}

} // namespace

void guc_define() {
    define_identity();
    define_network();
    define_timing();
    define_fence();
    define_policy();
    define_retention();
    MarkGUCPrefixReserved("pg_ha");

    if (guc_state_directory[0] != '\0')
        strlcpy(state_directory_path, guc_state_directory, sizeof(state_directory_path));
    else
        snprintf(state_directory_path, sizeof(state_directory_path), "%s.pg_ha", DataDir ? DataDir : "");
    if (guc_secret_file[0] != '\0')
        strlcpy(secret_file_path, guc_secret_file, sizeof(secret_file_path));
    else
        snprintf(secret_file_path, sizeof(secret_file_path), "%s/pg_ha.secret", DataDir ? DataDir : "");
}

const char *state_directory() { return state_directory_path; }
const char *secret_file() { return secret_file_path; }
const char *guc_missing() { return find_missing().what; }
const char *guc_missing_hint() { return find_missing().hint; }

} // namespace pg_ha
