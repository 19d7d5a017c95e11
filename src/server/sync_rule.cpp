// SPDX-License-Identifier: PostgreSQL
//
// When is a changed synchronous_standby_names in effect?  A configuration record may rest on it only
// when no commit can be released by the old value any more.  PostgreSQL does not say, so this file
// makes the processes say it.
//
// Who uses the value (syncrep.c, version 15):
//  - A committing backend waits if the checkpointer's flag in shared memory says that standbys are
//    defined; its own copy of the setting does not matter.  The flag is compared here.
//  - A walsender releases waiters by its own copy, and only if its own priority is not 0; other
//    walsenders count it by its priority in shared memory.  So: every walsender with a priority must
//    have assigned the value, and be named in it.
//
// How a walsender reports: the setting's assign hook is wrapped, and stores a hash of the new value
// with the time.  In 15 that hook also replaces the rule by which the process releases waiters; the
// priority follows a moment later in the same step, hence "and be named in it".
//
// Why none is missed: the manager writes the file, then signals the postmaster and, itself, every
// walsender registered here.  A walsender registers while it authenticates, and at that moment is told
// to read the file again before its first command.  So it either registered before the file was
// written and is signalled, or it reads the new file.  A signalled walsender reads the file before it
// looks at the next reply of its standby (WalSndLoop), or before it starts to stream.
//
// A value that nobody recorded is not taken at all.  The setting's check hook is wrapped as well, and while the
// node worker wants a value, every process refuses another one, whatever a file says: an emptied or
// weakened list would acknowledge commits that the quorum does not have.
//
// What must not happen here: waiting, allocating, raising.  The assign hook runs in every process,
// the postmaster included.
#include "sync_rule.hpp"

#include "shmem.hpp"

extern "C" {
#include "access/parallel.h"
#include "common/hashfn.h"
#undef ENABLE_GSS // libpq/auth.h would need the Kerberos headers for one pointer that is not used here
#include "libpq/auth.h"
#include "miscadmin.h"
#include "postmaster/interrupt.h"
#include "replication/syncrep.h"
#include "replication/walsender.h"
#include "replication/walsender_private.h"
#include "storage/backendid.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "storage/spin.h"
#include "utils/guc.h"
#include "utils/guc_tables.h"
}

#include <csignal>

namespace pg_ha {

namespace {

// One per backend id; used by walsenders.  Writer: the walsender; pid last at start, first at exit.
struct Report {
    pg_atomic_uint32 pid;
    pg_atomic_uint32 named; // 1: the value names this walsender's standby
    pg_atomic_uint64 value_hash;
    pg_atomic_uint64 assigned_ns; // 0: nothing assigned yet, it lives on what it inherited
};

Report *reports = nullptr;
Report *my_report = nullptr;

shmem_request_hook_type earlier_request_hook = nullptr;
shmem_startup_hook_type earlier_startup_hook = nullptr;
ClientAuthentication_hook_type earlier_authentication_hook = nullptr;
GucStringAssignHook earlier_assign_hook = nullptr;
GucStringCheckHook earlier_check_hook = nullptr;
bool last_refused = false; // what this process read last was not what is wanted

Size reports_size() {
    return mul_size(MaxBackends, sizeof(Report));
}

void request_memory() {
    if (earlier_request_hook)
        earlier_request_hook();
    RequestAddinShmemSpace(reports_size());
}

void startup_memory() {
    if (earlier_startup_hook)
        earlier_startup_hook();
    bool found = false;
    reports = static_cast<Report *>(ShmemInitStruct("pg_ha synchronous_standby_names", reports_size(), &found));
    if (!found)
        memset(static_cast<void *>(reports), 0, reports_size());
}

uint64 hash_of(const char *value) {
    if (!value)
        value = "";
    return hash_bytes_extended(reinterpret_cast<const unsigned char *>(value), static_cast<int>(strlen(value)), 0);
}

// The same comparison by which the walsender will set its priority.
bool names_this_standby(const SyncRepConfigData *config) {
    if (!config || !application_name)
        return false;
    const char *name = config->member_names;
    for (int i = 0; i < config->nmembers; i++, name += strlen(name) + 1)
        if (pg_strcasecmp(name, application_name) == 0 || strcmp(name, "*") == 0)
            return true;
    return false;
}

// Unknown counts as wanted: at a server's start there is no lease yet, and none before a value is in effect.
bool is_wanted(const char *value) {
    if (!shared || pg_atomic_read_u32(&shared->armed) == 0)
        return true;
    uint32 version = pg_atomic_read_u32(&shared->sync_wanted_version);
    if (version == 0)
        return true;
    pg_read_barrier();
    bool same = strncmp(shared->sync_wanted, value, sizeof(shared->sync_wanted)) == 0;
    // Until the newest value is in effect, the file may rightly hold the one before.
    if (!same && pg_atomic_read_u32(&shared->sync_done_version) != version)
        same = strncmp(shared->sync_wanted_before, value, sizeof(shared->sync_wanted_before)) == 0;
    pg_read_barrier();
    return same && version % 2 == 0 && pg_atomic_read_u32(&shared->sync_wanted_version) == version;
}

bool check(char **value, void **extra, GucSource source) {
    if (!earlier_check_hook(value, extra, source))
        return false;
    // A parallel worker passes through every setting's default on its way to its leader's.
    last_refused = !IsParallelWorker() && !is_wanted(*value ? *value : "");
    if (!last_refused)
        return true;
    free(*extra);
    *extra = nullptr;
    GUC_check_errdetail("synchronous_standby_names is managed by pg_ha, which has recorded another value.");
    GUC_check_errhint("Remove it from the configuration files. pg_ha.synchronous chooses between synchronous and "
                      "asynchronous commits.");
    return false;
}

void assign(const char *value, void *extra) {
    earlier_assign_hook(value, extra);
    if (!my_report)
        return;
    pg_atomic_write_u32(&my_report->named, names_this_standby(static_cast<SyncRepConfigData *>(extra)) ? 1 : 0);
    pg_atomic_write_u64(&my_report->value_hash, hash_of(value));
    pg_write_barrier();
    pg_atomic_write_u64(&my_report->assigned_ns, boot_now_ns());
    Latch *manager = shared ? shared->manager_latch : nullptr;
    if (manager)
        SetLatch(manager);
}

void unregister(int, Datum) {
    pg_atomic_write_u32(&my_report->pid, 0);
    my_report = nullptr;
}

void authentication(Port *port, int status) {
    if (earlier_authentication_hook)
        earlier_authentication_hook(port, status);
    if (!am_walsender || !reports || my_report)
        return;
    my_report = &reports[MyBackendId - 1];
    pg_atomic_write_u32(&my_report->named, 0);
    pg_atomic_write_u64(&my_report->value_hash, 0);
    pg_atomic_write_u64(&my_report->assigned_ns, 0);
    pg_write_barrier();
    pg_atomic_write_u32(&my_report->pid, static_cast<uint32>(MyProcPid));
    on_shmem_exit(unregister, 0);
    pg_memory_barrier(); // registered before the file is read
    ConfigReloadPending = true;
}

const Report *find_report(int pid) {
    for (int i = 0; i < MaxBackends; i++)
        if (pg_atomic_read_u32(&reports[i].pid) == static_cast<uint32>(pid))
            return &reports[i];
    return nullptr;
}

bool has_assigned(int pid, uint64 hash, uint64 since) {
    const Report *report = find_report(pid);
    if (!report || pg_atomic_read_u64(const_cast<pg_atomic_uint64 *>(&report->assigned_ns)) <= since)
        return false;
    pg_read_barrier();
    return pg_atomic_read_u64(const_cast<pg_atomic_uint64 *>(&report->value_hash)) == hash &&
           pg_atomic_read_u32(const_cast<pg_atomic_uint32 *>(&report->named)) == 1;
}

} // namespace

void sync_rule_install() {
    earlier_request_hook = shmem_request_hook;
    shmem_request_hook = request_memory;
    earlier_startup_hook = shmem_startup_hook;
    shmem_startup_hook = startup_memory;
    earlier_authentication_hook = ClientAuthentication_hook;
    ClientAuthentication_hook = authentication;

    config_generic **variables = get_guc_variables();
    for (int i = 0; i < GetNumConfigOptions(); i++) {
        if (variables[i]->vartype != PGC_STRING || strcmp(variables[i]->name, "synchronous_standby_names") != 0)
            continue;
        config_string *setting = reinterpret_cast<config_string *>(variables[i]);
        earlier_assign_hook = setting->assign_hook;
        setting->assign_hook = assign;
        earlier_check_hook = setting->check_hook;
        setting->check_hook = check;
    }
    if (!earlier_assign_hook || !earlier_check_hook)
        ereport(FATAL, (errcode(ERRCODE_INTERNAL_ERROR),
                        errmsg("setting synchronous_standby_names was not found, or nothing checks and assigns it"),
                        errhint("This server version is not supported.")));
}

bool sync_rule_refused() {
    return last_refused;
}

void sync_rule_signal_walsenders() {
    for (int i = 0; i < MaxBackends; i++) {
        int pid = static_cast<int>(pg_atomic_read_u32(&reports[i].pid));
        if (pid != 0)
            kill(pid, SIGHUP); // gone meanwhile: nothing to tell it
    }
}

bool sync_rule_in_effect(const char *value, uint64 since, int *waiting_for) {
    uint64 hash = hash_of(value);
    bool in_effect = true;
    LWLockAcquire(SyncRepLock, LW_SHARED);
    for (int i = 0; i < max_wal_senders && in_effect; i++) {
        WalSnd *walsender = &WalSndCtl->walsnds[i];
        SpinLockAcquire(&walsender->mutex);
        int pid = walsender->pid;
        SpinLockRelease(&walsender->mutex);
        if (pid == 0 || walsender->sync_standby_priority == 0 || has_assigned(pid, hash, since))
            continue;
        *waiting_for = pid;
        in_effect = false;
    }
    bits8 status = WalSndCtl->sync_standbys_status;
    LWLockRelease(SyncRepLock);
    int wanted = SYNC_STANDBY_INIT | (value[0] != '\0' ? SYNC_STANDBY_DEFINED : 0);
    if (in_effect && (status & (SYNC_STANDBY_INIT | SYNC_STANDBY_DEFINED)) != wanted) {
        *waiting_for = 0;
        in_effect = false;
    }
    return in_effect;
}

} // namespace pg_ha
