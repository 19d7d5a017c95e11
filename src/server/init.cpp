// SPDX-License-Identifier: PostgreSQL
//
// _PG_init and nothing else: settings, shared memory, the WAL gate, the fence, the workers, in this
// order.  Nothing is written here: `postgres -C setting` comes this far too.  The one exception is a rejoin
// that was cut off: it is finished before shared memory exists.  The start gate runs when that is
// set up, which is before recovery, at a start and in every crash restart.
#include "admission.hpp"
#include "fence.hpp"
#include "gate.hpp"
#include "guc.hpp"
#include "planted_module.hpp"
#include "rejoin.hpp"
#include "shmem.hpp"
#include "statements.hpp"
#include "sync_rule.hpp"

extern "C" {
#include "fmgr.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"

PG_MODULE_MAGIC;
PGDLLEXPORT void _PG_init(void);
}

namespace pg_ha {

namespace {

void register_worker(const char *name, const char *function, int flags, BgWorkerStartTime start) {
    BackgroundWorker worker;
    memset(&worker, 0, sizeof(worker));
    strlcpy(worker.bgw_name, name, BGW_MAXLEN);
    strlcpy(worker.bgw_type, name, BGW_MAXLEN);
    worker.bgw_flags = flags;
    worker.bgw_start_time = start;
    worker.bgw_restart_time = 1;
    strlcpy(worker.bgw_library_name, "pg_ha", BGW_MAXLEN);
    strlcpy(worker.bgw_function_name, function, BGW_MAXLEN);
    RegisterBackgroundWorker(&worker);
}

// There any process whose parent has ended becomes a child of the postmaster, which takes its failure for a crash.
void warn_as_first_process() {
    if (IsUnderPostmaster || getpid() != 1)
        return;
    ereport(WARNING, (errmsg("pg_ha: this server is the first process of its container"),
                      errdetail("PostgreSQL restarts when an orphaned process there fails, such as a health check that was "
                                "cut off; a primary then hands over."),
                      errhint("Start the container with an init as its first process, as with \"docker run --init\".")));
}

} // namespace

} // namespace pg_ha

void _PG_init(void) {
    using namespace pg_ha;
    if (IsBinaryUpgrade)
        return;
    if (!process_shared_preload_libraries_in_progress)
        ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                        errmsg("pg_ha must be loaded through shared_preload_libraries"),
                        errhint("Add pg_ha to shared_preload_libraries in postgresql.conf and restart the server.")));
    if (!IsPostmasterEnvironment)
        return; // single-user mode: one offline session, nothing to protect it from
#ifdef PG_HA_PLANTED
    plant_from_environment();
#endif
    guc_define();
    rejoin_at_start();
    warn_as_first_process();
    shmem_register_hooks();
    gate_install();
    fence_install();
    statements_install();
    admission_install();
    sync_rule_install();
    // The node worker votes from the first moment of recovery on; the manager needs a database.
    register_worker("pg_ha node", "pg_ha_node_main", BGWORKER_SHMEM_ACCESS, BgWorkerStart_PostmasterStart);
    register_worker("pg_ha manager", "pg_ha_manager_main", BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION,
                    BgWorkerStart_ConsistentState);
}
