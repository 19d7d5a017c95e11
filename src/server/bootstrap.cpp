// SPDX-License-Identifier: PostgreSQL
//
// ha_bootstrap(): makes this server the primary of a new cluster of one.  It writes the cluster's
// secret, asks the node worker to start the first term, and waits for the answer.
//
// All or nothing: if the node worker refuses, or does not answer in time, the request is withdrawn
// and the secret removed, so that the call can simply be repeated.  What it did cannot be rolled
// back by the transaction around it.  A second call is refused and harmless.
#include "net/runtime.hpp"

#include "entry.hpp"
#include "errcodes.hpp"
#include "guc.hpp"
#include "shmem.hpp"

extern "C" {
#include "access/xlog.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "utils/builtins.h"
#include "utils/wait_event.h"
}

#include <sys/stat.h>
#include <unistd.h>

namespace pg_ha {

namespace {

enum Result : uint32 { pending = 0, done = 1, refused = 2 };

constexpr uint64 answer_within_ns = UINT64CONST(10000000000);
constexpr long poll_ms = 10;

bool secret_exists() {
    struct stat entry;
    return stat(secret_file(), &entry) == 0;
}

void check_preconditions() {
    if (!shared)
        ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                        errmsg("pg_ha must be loaded through shared_preload_libraries"),
                        errhint("Add pg_ha to shared_preload_libraries and restart the server.")));
    if (guc_missing())
        ereport(ERROR, (errcode(errcode_not_configured), errmsg("cannot bootstrap a cluster: %s", guc_missing()),
                        errhint("%s", guc_missing_hint())));
    if (guc_failover_priority == 0)
        ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                        errmsg("cannot bootstrap a cluster: pg_ha.failover_priority is 0"),
                        errhint("The only server of a cluster has to be its primary after every restart. Set it above 0 and reload.")));
    if (pg_atomic_read_u32(&shared->armed) != 0 || secret_exists())
        ereport(ERROR, (errcode(errcode_already_bootstrapped), errmsg("this server already belongs to a cluster"),
                        errdetail("The secret of its cluster is in \"%s\".", secret_file()),
                        errhint("SELECT * FROM ha_cluster shows the cluster, or what this server waits for.")));
    if (RecoveryInProgress())
        ereport(ERROR,
                (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE), errmsg("cannot bootstrap a cluster on a standby"),
                 errhint("Run ha_bootstrap() on the server that is writable. Servers cloned from it afterwards "
                         "join by themselves.")));
}

Failure make_secret_file(char *cluster_id, size_t size) {
    return run_cpp([&] {
        const ClusterSecret secret = make_secret();
        write_secret(secret_file(), secret);
        strlcpy(cluster_id, to_string(secret.cluster).c_str(), size);
    });
}

void remove_secret() {
    if (unlink(secret_file()) != 0)
        ereport(WARNING, (errcode_for_file_access(), errmsg("could not remove file \"%s\": %m", secret_file()),
                          errhint("Remove it by hand before calling ha_bootstrap() again.")));
}

// True: the node worker had not taken it up, and will not.
bool withdraw_request() {
    uint32 requested = 1;
    return pg_atomic_compare_exchange_u32(&shared->bootstrap_requested, &requested, 0);
}

// Also on cancel: the request must not be carried out behind the back of somebody who was told it failed.
void withdraw_on_error(int, Datum) {
    if (withdraw_request() || pg_atomic_read_u32(&shared->bootstrap_result) == refused)
        remove_secret();
}

void wake_node_worker() {
    Latch *node = shared->node_latch;
    if (node)
        SetLatch(node);
}

uint32 wait_for_answer(bool interruptible) {
    uint64 end = boot_now_ns() + answer_within_ns;
    uint32 result;
    while ((result = pg_atomic_read_u32(&shared->bootstrap_result)) == pending && boot_now_ns() < end) {
        wake_node_worker();
        (void)WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, poll_ms, PG_WAIT_EXTENSION);
        ResetLatch(MyLatch);
        if (interruptible)
            CHECK_FOR_INTERRUPTS();
    }
    return result;
}

// The node worker took the request up at the last moment.  Now it can only be answered, not withdrawn.
uint32 wait_for_promised_answer() {
    uint32 result = wait_for_answer(false);
    if (result == pending)
        ereport(ERROR,
                (errcode(errcode_node_worker_silent), errmsg("the node worker took up the request, but did not answer"),
                 errhint("The outcome is unknown. SELECT * FROM ha_cluster shows it.")));
    return result;
}

void report_refusal(uint32 result) {
    Snapshot *snapshot = static_cast<Snapshot *>(palloc0(sizeof(Snapshot)));
    bool known = read_snapshot(snapshot) && snapshot->reason[0] != '\0';
    remove_secret();
    if (result == pending)
        ereport(ERROR, (errcode(errcode_node_worker_silent), errmsg("the node worker did not answer within 10 s"),
                        known ? errdetail("It last said: %s", snapshot->reason) : 0,
                        errhint("Nothing has been changed. The server log says why the node worker does not run.")));
    ereport(ERROR, (errcode(errcode_bootstrap_refused), errmsg("the node worker could not start the cluster"),
                    known ? errdetail("%s", snapshot->reason) : 0,
                    errhint("Nothing has been changed. The server log has the details.")));
}

} // namespace

} // namespace pg_ha

extern "C" {
PG_FUNCTION_INFO_V1(ha_bootstrap);
PGDLLEXPORT Datum ha_bootstrap(PG_FUNCTION_ARGS);
}

Datum ha_bootstrap(PG_FUNCTION_ARGS) {
    using namespace pg_ha;
    check_preconditions();
    char cluster_id[40] = "";
    Failure failure = make_secret_file(cluster_id, sizeof(cluster_id));
    if (failure.failed)
        ereport(ERROR, (errcode(ERRCODE_IO_ERROR), errmsg("could not make the secret of the cluster: %s", failure.text),
                        errhint("Nothing has been changed.")));
    volatile uint32 result = pending;
    pg_atomic_write_u32(&shared->bootstrap_result, pending);
    PG_ENSURE_ERROR_CLEANUP(withdraw_on_error, static_cast<Datum>(0));
    {
        pg_atomic_write_u32(&shared->bootstrap_requested, 1);
        result = wait_for_answer(true);
    }
    PG_END_ENSURE_ERROR_CLEANUP(withdraw_on_error, static_cast<Datum>(0));
    if (result == pending && !withdraw_request())
        result = wait_for_promised_answer();
    if (result != done)
        report_refusal(result);
    ereport(NOTICE,
            (errmsg("next, clone this server with pg_hactl clone"),
             errhint("Run it on the other host. The clone needs a pg_ha.node_name of its own and this server in pg_ha.peers; it "
                     "joins when it is started.")));
    PG_RETURN_TEXT_P(cstring_to_text(
        psprintf("cluster %s bootstrapped, this server (%s) is its primary", cluster_id, guc_node_name)));
}
