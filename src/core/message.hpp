// SPDX-License-Identifier: PostgreSQL
//
// Everything members say to each other.  Meaning and order: docs/protocol.md, "Messages".
// Bytes and bounds are the codec's business (src/agent/codec.hpp).
#pragma once

#include "configuration.hpp"
#include "recovery_parameters.hpp"

#include <variant>

namespace pg_ha {

// What a node is, as it says itself.
enum class Role : std::uint8_t {
    passive = 0,   // no cluster yet: before ha_bootstrap(), or not admitted
    joining = 1,   // asks for admission
    standby = 2,   // follows, or looks for, a primary
    candidate = 3, // stands for election
    promoting = 4, // elected; PostgreSQL still leaves recovery
    primary = 5,   // elected and open; may acknowledge while the lease runs
    deposed = 6,   // PostgreSQL is writable but the term is over: fenced until restarted as a standby
    stopping = 7,  // has resigned, PostgreSQL goes down
};
const char *to_string(Role role);

// What PostgreSQL on this node looks like.  Sampled by the adapter.
struct LocalState {
    bool in_recovery = true;
    bool position_known = false; // false: restarted, local WAL not used up yet; must not vote or stand
    Position position;           // end of flushed (or replayed, if greater) WAL
    Lsn replayed = Lsn::none;
    bool streaming = false;      // a walreceiver receives, or (primary) always false
    std::uint32_t replay_lag_ms = 0;
    bool promotable = true;      // its WAL reaches as far as its data files need; else it must not stand
    bool opening = false;        // leaves recovery, for this term or an earlier one; not told to others
    Position needed;             // how far they need it, where its WAL does not reach that yet; not told to others
    bool operator==(const LocalState &) const = default;
};

struct LinkReport {
    NodeId peer = NodeId::none;
    std::uint32_t rtt_us = 0;        // 0: never measured
    std::uint32_t last_heard_ms = 0; // age; UINT32_MAX: never
    std::uint32_t missed = 0;        // heartbeats in a row without an answer
    bool operator==(const LinkReport &) const = default;
};

// A member that is rewound or cloned anew, which its helper tells the primary: the member itself is down meanwhile.
struct RejoinSeen {
    NodeId member = NodeId::none;
    bool clone = false;
    std::uint32_t percent = 0;
    std::uint32_t total_mb = 0;
    bool operator==(const RejoinSeen &) const = default;
};
inline constexpr std::size_t rejoins_max = 4; // that are told of at a time

// What a node believes about whether another lives.
enum class Liveness : std::uint8_t { alive = 0, suspect = 1, unreachable = 2 };
const char *to_string(Liveness liveness);

// Orders what is said about whether a member lives: it raises `refutations` itself when it hears that it is
// doubted, and what was said about an older life is void (SWIM's incarnation number).
struct Life {
    Incarnation incarnation = Incarnation::none;
    std::uint32_t refutations = 0;
    auto operator<=>(const Life &) const = default;
};

// Passed on among members of large clusters.  alive: the member has refuted what was said of an older life.
struct Rumour {
    NodeId member = NodeId::none;
    Life life;
    Liveness state = Liveness::alive;
    NodeId accuser = NodeId::none; // whose probes failed
    bool operator==(const Rumour &) const = default;
};

// One row of the member table.  The owner raises `sequence`; the newest (incarnation, sequence) wins.
struct MemberReport {
    NodeId id = NodeId::none;
    Incarnation incarnation = Incarnation::none;
    Instance instance = Instance::none;
    std::uint64_t saves = 0;       // of its state so far
    std::uint64_t sequence = 0;
    std::uint32_t refutations = 0; // see Life
    Role role = Role::passive;
    Term term = Term::none;
    LocalState local;
    std::string reason;            // why it is what it is, for people; <= 200 bytes
    std::vector<LinkReport> links; // what it sees of the others; empty: as last time
    RecoveryParameters parameters{};
    std::vector<RejoinSeen> rejoins; // primary only
    bool operator==(const MemberReport &) const = default;
};

// Sent to every member once per heartbeat_interval, in large clusters to some (docs/protocol.md, "Gossip").
// A primary's heartbeat renews its lease when a
// majority answers; `sent` comes back in the answer, so that the lease counts from sending.
struct Heartbeat {
    Instant sent{};
    bool wants_reply = false;        // always from a primary; from others now and then, to measure the link
    bool asks_nothing = false;       // primary that no majority has answered for a lease: promise it nothing
    NodeId leader = NodeId::none;    // whom the sender follows in its term; itself: it is the primary
    Version config_version;
    std::optional<Configuration> configuration; // present when the receiver is known to have an older one
    Lineage lineage;                 // primary only
    Lsn lineage_confirmed = Lsn::none; // primary only: the primary's flush position
    MemberReport self;
    std::vector<MemberReport> table; // a few other rows: news first, then in turn
    std::vector<Rumour> rumours;     // large clusters only
};

struct HeartbeatReply {
    Instant sent{};                  // copied from the heartbeat
    bool follows = false;            // the sender accepts the receiver as primary of this term
    Version config_version;          // what the sender has stored
    MemberReport self;
    std::vector<MemberReport> table{}; // both as in a heartbeat, but in large clusters only
    std::vector<Rumour> rumours{};
};

// "Does this member answer you?  It does not answer me."  (SWIM's ping-req.)
struct IndirectProbe {
    NodeId target = NodeId::none;
};

struct IndirectReply {
    NodeId target = NodeId::none;
    bool reached = false; // no: it has not answered the sender either
};

// A primary said that it is gone.  Its worker may come back after a crash-restart cycle and lead on in
// the same term: then it has a higher incarnation, and what the earlier one said counts no more.
struct Resignation {
    Term term = Term::none;
    Incarnation incarnation = Incarnation::none;
    auto operator<=>(const Resignation &) const = default;
};

// A question without consequence: would you vote for me?  (Raft thesis, section 9.6.)
struct VoteRequest {
    bool pre = false;        // PreVote: term is the one the sender would start
    Term term = Term::none;
    Position position;
    Resignation resigned;    // the newest that the sender knows of
    Version config_version;
};

enum class Refusal : std::uint8_t {
    none = 0,
    stale_term = 1,         // voter knows a higher term
    already_voted = 2,      // for another candidate in this term
    promised = 3,           // the current primary still has the voter's promise
    position_behind = 4,    // candidate's WAL ends before the voter's
    position_unknown = 5,   // voter restarted and has not read its WAL to the end
    not_eligible = 6,       // candidate is no data voter
    not_voter = 7,          // the one asked does not vote
    just_restarted = 8,     // voter does not know its earlier promise
    storage_failed = 9,     // vote could not be made durable
};
const char *to_string(Refusal refusal);

struct VoteReply {
    bool pre = false;
    Term term = Term::none;  // the requested term
    bool granted = false;
    Refusal refusal = Refusal::none;
    Position position;       // frozen (vote) or current (pre-vote); 0 if unknown
    std::optional<Configuration> configuration; // when newer than the candidate's
};

// The primary of `term` is gone and says so.  clean: it stops with all WAL sent; wait for the end
// of the stream before electing.
// successor: by a switchover; the others let it stand first.
struct Resign {
    bool clean = false;
    NodeId successor = NodeId::none;
};

// "Your WAL is ahead of mine: stand yourself, now."
struct StandNow {};

// A node that is no member asks the primary for admission as learner.
struct JoinRequest {
    Member self;
    std::uint64_t system_identifier = 0;
};

enum class Rejection : std::uint8_t {
    name_in_use = 0,        // a living member has this node_name
    wrong_system = 1,       // other system identifier: not a clone of this cluster
    stale_incarnation = 2,  // the server is an old copy of itself: the identity is void
    not_member = 3,         // removed, or never admitted: ask for admission
    cluster_full = 4,
    cloned_identity = 5,    // another server runs with this identity: it is void here
};
inline constexpr Rejection last_rejection = Rejection::cloned_identity;
const char *to_string(Rejection rejection);

struct Rejected {
    Rejection why = Rejection::not_member;
    Incarnation incarnation = Incarnation::none; // of the frame that was rejected
    Instance instance = Instance::none;
};

using Body = std::variant<Heartbeat, HeartbeatReply, VoteRequest, VoteReply, Resign, StandNow, JoinRequest, Rejected,
                          IndirectProbe, IndirectReply>;

struct Message {
    ClusterId cluster;
    NodeId from = NodeId::none;
    NodeId to = NodeId::none;
    Incarnation incarnation = Incarnation::none; // of the sender
    Term term = Term::none;                      // sender's current term
    Body body;
    Instance instance = Instance::none;          // of the sender
    std::uint64_t saves = 0;                     // of the sender's state so far
};

} // namespace pg_ha
