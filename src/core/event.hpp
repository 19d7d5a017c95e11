// SPDX-License-Identifier: PostgreSQL
//
// The whole system as inputs and outputs: what may happen to a node, and what a node may want.
// Adapters turn the world into Events and carry out Outputs in the given order.  A failed Persist
// ends the list: nothing after it may be done (persist, then send, then act).
#pragma once

#include "message.hpp"

namespace pg_ha {

// ---- what the core must never forget -----------------------------------------------------------

struct DurableState {
    NodeId self = NodeId::none;
    std::string node_name;
    Incarnation incarnation = Incarnation::none;
    Term term = Term::none;
    NodeId voted_for = NodeId::none;
    Configuration configuration; // cluster == no_cluster: never admitted
    std::uint64_t saves = 0;     // number of this save: one more each time, over all starts
    Timeline by_hand = Timeline::none; // from this one on our WAL is that of a promotion by hand, whatever its numbers
    bool operator==(const DurableState &) const = default;
};

// ---- events ------------------------------------------------------------------------------------

struct Tick {};                        // next_deadline() has come
struct Received { Message message; };  // authenticated, decoded, bounded
// PostgreSQL looked at.  On a primary also its lineage, and up to where the sync rule that is in effect is met.
// On a standby the timeline whose WAL the walreceiver has found to be another than the primary's of that number.
// And, for people, which members are being rewound or cloned.
struct Sampled {
    LocalState local;
    Lineage lineage;
    Lsn confirmed = Lsn::none;
    Timeline foreign = Timeline::none;
    std::vector<RejoinSeen> rejoins{};
};
struct GateClosed { LocalState local; };  // answer to CloseGate: read after the gate was shut
// Answer to Persist: the state file could not be made durable.  `stored`: what an earlier Persist of
// the same step did make durable, and what may have been told to others since.
struct PersistFailed { std::optional<DurableState> stored = std::nullopt; };
struct LinkUp { NodeId peer; };        // handshake done; peer can be sent to
// The kernel at the peer's address answered that nobody is there any more: an established link was
// reset or closed, and connecting again was refused.  Not sent for mere silence.
struct PeerGone { NodeId peer; };
// The WAL stream from the primary ended.  finished: end of COPY (clean stop or end of timeline).
struct StreamEnded { bool finished; };
struct Promoted { LocalState local; Lineage lineage; }; // PostgreSQL left recovery on timeline = term
struct PromotionFailed { std::string reason; };
// This server goes down.  clean: fast or smart stop; otherwise crash, immediate stop, dead postmaster.
struct ShuttingDown { bool clean; };
// PostgreSQL's synchronous_standby_names now says `rule` in every process that reads it.
struct SyncInEffect { SyncRule rule; };
// ha_bootstrap(): become the primary of a new cluster of one.
struct Bootstrap {
    ClusterId cluster;
    std::uint64_t system_identifier;
    Timeline timeline;
};

// ha_failover(accept_data_loss => true): lead, although no election can be won.  Does nothing where
// Node::forced_failover() names an obstacle.
struct ForceFailover {};

// What operators ask besides.  Each does nothing where Node::obstacle() names one.
struct Switchover { NodeId target = NodeId::none; }; // of the primary: hand over to this standby; none: to the best
struct SetPaused { bool paused; };                    // of the primary: no automatic elections from now on, or again
struct RemoveMember { NodeId member; };               // of the primary: one that is gone for good
struct StandByOrder {};                               // of a standby of a paused cluster without a primary
using Command = std::variant<Switchover, SetPaused, RemoveMember, StandByOrder>;

using Event = std::variant<Tick, Received, Sampled, GateClosed, PersistFailed, LinkUp, PeerGone, StreamEnded, Promoted,
                           PromotionFailed, ShuttingDown, SyncInEffect, Bootstrap, ForceFailover, Command>;

// ---- outputs -----------------------------------------------------------------------------------

struct Send { NodeId to; Body body; };
struct Persist { DurableState state; };
// Stop receiving and acknowledging WAL.  Answered at once by GateClosed.
struct CloseGate {};
// Stream from this primary.  Idempotent; a change of upstream ends the old walreceiver.
struct OpenGate { NodeId leader; Term term; Endpoint postgres; };
// Backends may acknowledge commits until then.  long_ago: fenced now.
struct SetLease { Instant until; };
// What sessions see here can't vanish any more: w members of S have all that was there when PostgreSQL
// opened.  Once per opening; idempotent.
struct Settled {};
// Leave recovery on timeline = term.  Answered by Promoted or PromotionFailed.
struct Promote { Term term; };
// PostgreSQL is writable here although another term has begun (or it was promoted by hand): turn it
// into a standby in place (standby.signal, then a crash-restart cycle).  The process ends.
struct Demote { std::string reason; };
// This server's WAL is no part of its primary's history and never will be: rewind it to that primary's, in
// place.  Asked once per primary, of a standby whose gate is shut.  The process ends; it votes on
// nothing until the WAL is the primary's.
struct Rejoin {
    NodeId leader;
    std::string leader_name;
    Endpoint postgres;
    Term term;         // of the primary
    Timeline timeline; // it writes on
    Position fork;     // where its history left ours; timeline none: before anything it told
    Position own;      // the end of our WAL
    bool numbers_shared = false; // it has timelines of the same numbers with other WAL: only a clone helps
    bool data_ahead = false;     // our data files need WAL that it does not have, nor we: only a clone helps
};
// Make PostgreSQL wait for this rule.  Answered by SyncInEffect, also when nothing had to change.
struct ApplySync { SyncRule rule; std::vector<std::string> names; };
// The peers to hold links to, and where.
struct SetPeers { std::vector<Member> members; };
// One row for ha_events and one line for the server log.
struct Note {
    Role from; Role to; Term term; Position position; std::string reason;
};
struct Trace { std::string line; }; // only when Settings::tracing

using Output =
    std::variant<Send, Persist, CloseGate, OpenGate, SetLease, Settled, Promote, Demote, Rejoin, ApplySync, SetPeers, Note, Trace>;
using Outputs = std::vector<Output>;

} // namespace pg_ha
