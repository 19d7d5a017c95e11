// SPDX-License-Identifier: PostgreSQL
//
// What wakes the node worker besides the network: its latch, its signals, the postmaster's death.
#pragma once

namespace pg_ha {

// Descriptors that become readable.  They stay open for the life of the process.
struct WakeSources {
    int latch;      // SetLatch by another process (SIGURG)
    int signal;     // one of the handlers below ran
    int postmaster; // end of file: the postmaster is dead
};

// Installs the signal handlers and unblocks signals.  Throws std::system_error.
WakeSources install_wake_sources();
void drain(int fd); // makes it unreadable again

bool stop_requested();     // SIGTERM
bool quit_requested();     // SIGQUIT: crash or immediate stop; the lease is zero already
bool take_reload_request(); // SIGHUP since the last call
bool postmaster_stops();   // a smart, fast or immediate stop has begun

} // namespace pg_ha
