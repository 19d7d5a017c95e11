// SPDX-License-Identifier: PostgreSQL
//
// Rejoin, the server's side.  The node worker writes a request and ends itself as if it had crashed; in
// the cycle that follows, with no child left and before recovery begins, the postmaster runs the helper
// pg_ha_rejoin.  A start does the same for a rejoin that was cut off.  The journal is
// agent/rejoin_journal.hpp, the steps are src/rejoin.
#pragma once

#include "core/event.hpp"

extern "C" {
#include "postgres.h"
}

namespace pg_ha {

// -- postmaster
void rejoin_at_start();             // from _PG_init: locks the directory; may take its time, start this program anew, or end it
void rejoin_register_callback();    // from shmem_startup_hook, in every cycle
void rejoin_require_finished();     // before recovery: FATAL if the data directory must not be opened

// -- node worker; all throw
// When the next attempt may be made: right away, or some time after one that was given up by this server.
Duration rejoin_pause(bool clone);
// Writes the request for this postmaster; with restart_after_crash off for the next one.
// clone: why rewinding is no use; empty: it may be.
void rejoin_request(const Rejoin &rejoin, const Configuration &configuration, NodeId self, const std::string &clone);
// Was this server rewound, and has not told so yet?
bool rejoin_was_done();
// What became of the last one, once; empty: nothing to tell.
std::string rejoin_take_report();

} // namespace pg_ha
