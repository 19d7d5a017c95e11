// SPDX-License-Identifier: PostgreSQL
//
// What a seed is made of: size and timing of the cluster, quality of network and disks, and which
// faults come how often.  Each seed draws its own mix ("swarm"), so that some seeds are nearly calm
// and others have one kind of trouble only: bugs hide from an average of everything.
#pragma once

#include "random.hpp"
#include "scheduler.hpp"

#include "core/planted.hpp"

#include <array>
#include <string>

namespace pg_ha::sim {

inline constexpr int hosts_max = 8;

enum class Fault : std::uint8_t {
    kill_all,        // kill -9 of every process; the kernel answers
    kill_postmaster, // the node worker lives long enough to resign
    kill_orphans,    // postmaster and worker die, backends run on for a while
    power_off,       // nothing answers any more
    clean_stop,
    immediate_stop,
    crash_restart, // one backend dies: PostgreSQL restarts all its processes in place
    freeze,        // the whole machine stands still
    worker_pause,  // only the node worker stands still
    partition,     // two groups
    isolate,       // one host alone
    one_way,       // one direction of one link
    graph,         // any set of directed links
    flap,          // a connection breaks and comes back
    slow_link,
    stream_cut, // WAL stops between two hosts, or between one and all others, while their workers talk on
    state_loss, // the state directory is gone: a new identity
    slow_flush, // the WAL's disk stalls
    disk_full,  // no save succeeds for a while
    state_torn, // power off; the newest save is lost, or the whole state file
    // An older copy is put back: of the state directory, of the data directory (with the loss of flushed WAL),
    // or of both, as a snapshot of the machine holds them.
    state_put_back,
    data_put_back,
    machine_put_back,
    hand_promotion, // pg_ctl promote
};
inline constexpr int fault_count = static_cast<int>(Fault::hand_promotion) + 1;
const char *to_string(Fault fault);

// Defects of the fakes, switched on one at a time (plants.hpp): each must make a checker fire, or the
// checkers are blind.
enum class Sabotage : std::uint8_t {
    none,
    gate_stays_open,           // the walreceiver goes on flushing and acknowledging after close_gate()
    votes_forgotten,           // saved votes are gone after a restart
    lost_state_keeps_identity, // a server whose state directory is gone starts as who it was
    lease_ignored,             // backends commit without looking at the lease
    lease_not_rechecked,       // ... look at the beginning, but not after the wait for the standbys
    half_rewound_opens,        // a server whose rewind was cut off starts as it lies there
    stale_position,            // a restarted standby claims to know its position before it has read its WAL
    waiters_released,          // commits are acknowledged without waiting for a standby
    released_on_demotion,      // ... those that still wait when their server lost its term
    never_heals,               // partitions outlive the end of the faults
};

struct Options {
    std::uint64_t seed = 0;
    Sabotage sabotage = Sabotage::none;
    Bug bug = Bug::none; // in the core or agent; sim_planted only
    bool judged = true;  // by the checkers; otherwise it goes on whatever happens

    int hosts = 3;
    int witnesses = 0; // of these, the last: they vote and have no data
    bool ready_made = false; // start from a configuration in which everybody votes
    bool synchronous = true;
    std::uint32_t first_timeline = 1;
    Time lease = second;
    Time heartbeat = 200 * millisecond;
    std::uint64_t max_lag = 16 << 20;
    unsigned min_sync_standbys = 0;
    Time commands_every = 0; // switchover, pause, removal by operators; 0: none
    Time patience = 2 * second; // with a standby that does not stream
    bool all_seeds = true;      // pg_ha.peers names everybody; otherwise only the first two
    bool through_codec = false; // every message goes through bytes
    bool upgrades = false;      // a restarted server may be of a newer version, with fields that others do not know

    std::array<std::int64_t, hosts_max> clock_offset{};
    std::array<std::int64_t, hosts_max> clock_ppm{}; // rate error
    bool clocks_stop = false; // while a machine stands still (synchronous mode only: elsewhere the lease is the fence)
    std::array<int, hosts_max> priority{};

    Time delay = millisecond; // one way
    Time jitter = millisecond;
    double spike_chance = 0;       // a message that takes much longer
    double loss = 0;               // per message: the connection breaks
    double doubled = 0;            // a message arrives once more, up to two heartbeats later
    double reordered = 0;          // a message arrives up to a heartbeat later than those sent after it
    Time wake = 100 * microsecond; // from an event to the worker's step
    double late_chance = 0;        // a busy machine: the worker's step comes much later

    Time flush = millisecond; // WAL on disk
    Time promote = 20 * millisecond;
    double promote_fails = 0;
    Time apply_sync = 5 * millisecond;
    Time reconnect = 50 * millisecond; // walreceiver's next attempt
    Time replay = 100 * millisecond;   // start until the local WAL is used up
    std::uint64_t chunk = 1 << 20;     // WAL sent at once
    double save_fails = 0;
    double save_crashes = 0; // the process dies in the middle of a save
    double save_stalls = 0;

    int sessions = 2;
    Time think = 20 * millisecond;
    std::uint64_t record_bytes = 8000;
    double cancel_chance = 0; // a client cancels its wait for the standbys

    Time fault_phase = 30 * second;
    std::array<Time, fault_count> fault_every{}; // mean time between; 0: never
    double hits_primary = 0.5;
};

Options draw_options(std::uint64_t seed);
std::string describe(const Options &options);

} // namespace pg_ha::sim
