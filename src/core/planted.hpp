// SPDX-License-Identifier: PostgreSQL
//
// Defects that can be planted to see whether the tests notice: into core and agent for the simulator (make
// planted), into core, agent and server for the negative controls on real servers (t/09*, make
// planted-module).  They exist only where PG_HA_PLANTED is defined: the program sim_planted and the module
// in build/planted, which nothing installs.  Everywhere else planted() is a constant of the compiler, and
// server and witness hold nothing of this (scripts/check-planted).
#pragma once

#include <cstdint>

namespace pg_ha {

enum class Bug : std::uint8_t {
    none,
    // votes and WAL
    vote_not_stored,           // a vote is answered without having been saved
    send_after_failed_save,    // a step goes on although its save has failed
    second_vote,               // a voter forgets whom it has voted for
    vote_with_open_gate,       // a vote does not shut the gate
    position_before_gate,      // the position told with a vote was read before the gate was shut
    restarted_believed,        // a standby that still reads its own WAL votes and stands
    lsn_without_timeline,      // positions are compared by LSN alone
    priority_beats_lsn,        // a preferred candidate gets votes although it is behind
    sync_set_not_asked,        // a majority of voters is enough, whoever of S is missing
    diverged_streams,          // the gate opens without a look at the primary's lineage
    rejoin_undiverged,         // a node whose WAL is part of the primary's history asks to be rewound
    rejoin_by_any_lineage,     // ... before its primary, not yet open for writes, has told its history
    no_stand_in,               // a member with priority 0 never stands, whatever only it has
    timeline_reused,           // the next timeline is chosen as stock PostgreSQL chooses it, not by term
    // time
    lease_from_receipt,        // the lease counts from the answer's receipt
    lease_without_promise,     // answers to heartbeats that asked for no promise count
    no_drift_margin,           // the lease is used to its end
    no_check_quorum,           // the lease goes on without answers
    stands_while_opening,      // a node stands while PostgreSQL is still being promoted for an earlier term
    no_prevote,                // a node stands without having asked
    promise_broken,            // a voter votes although it has promised not to
    restarted_votes_at_once,   // a restarted voter does not wait for promises that it may have made
    evidence_in_async,         // a dead connection voids promises in asynchronous mode too
    old_resignation_counts,    // a resignation counts although its primary has come back
    // configuration
    lower_w_in_postgres_first, // PostgreSQL is loosened before the record
    rules_not_compared,        // commits go on while PostgreSQL waits for less than the record asks
    raise_w_in_record_first,   // the record is tightened before PostgreSQL
    raise_w_without_catch_up,  // the record is tightened before members have what came before
    nobody_is_lost,            // a standby that is gone stays in the sync set
    leave_in_record_first,     // who leaves the sync set leaves the record before PostgreSQL's rule
    loosen_before_in_force,    // PostgreSQL follows a record that only the primary has
    enter_not_caught_up,       // a standby enters the sync set whether it streams or not
    first_record_unsafe,       // a winner's sync set is who voted for it, whether they have every commit or not
    winner_outside_sync_set,   // a primary from outside S does not enter it
    settled_at_once,           // sessions are let in before the sync set has what they see
    change_before_in_force,    // the next change does not wait for the one before
    learner_counted,           // who does not vote, or no longer, makes a majority
    // operators
    handover_without_wait,     // a primary hands over before its successor has all its WAL
    pause_ignored,             // who is not told to stands although elections are paused
    // identity
    echo_ignored,              // a state is taken although the data directory has seen another
    stale_incarnation_heard,   // what an old copy of a member says counts
    cloned_identity_heard,     // what a second server with a member's identity says counts
    lag_ignored,               // asynchronous mode: a candidate may miss any amount of WAL
    // server
    lease_not_checked,         // commits go on without a lease
    last_check_off,            // whatever ended the wait for the standbys, the commit is answered
    sync_not_waited,           // synchronous_standby_names stays empty
    gate_not_shut,             // the core asks for it, the walreceiver goes on
    start_gate_open,           // a member starts as what it was, not as a standby
    unflushed_not_counted,     // a voter tells its position while its walreceiver still flushes
    next_segment_asked,        // a stream begins where PostgreSQL wants it, not where replay ended
    fork_segment_streamed,     // the part of a timeline's first segment before the fork comes from the primary
    // gossip: shown by gossip_scale, not by sim, whose clusters are too small for it
    no_indirect_probes,        // a member is suspected although others would reach it
    suspicion_not_refuted,     // a member that is suspected says nothing
};

#ifdef PG_HA_PLANTED
inline thread_local std::uint64_t planted_bugs = 0; // set before each seed, or when the module is loaded
constexpr std::uint64_t bit_of(Bug bug) { return bug == Bug::none ? 0 : std::uint64_t{1} << static_cast<unsigned>(bug); }
inline bool planted(Bug bug) { return (planted_bugs & bit_of(bug)) != 0; }
#else
consteval bool planted(Bug) { return false; }
#endif

} // namespace pg_ha
