// SPDX-License-Identifier: PostgreSQL
//
// One snapshot that feeds SQL, logs, tools and the simulator, so that they cannot disagree.
#pragma once

#include "event.hpp"

namespace pg_ha {

struct MemberStatus {
    Member member;
    MemberReport report;            // newest known
    Liveness liveness = Liveness::unreachable;
    bool self = false;
    bool is_primary = false;
    bool in_sync_set = false;
    std::int64_t lag_bytes = -1;    // behind the primary's flush position; -1: unknown
    Duration last_heard{-1};        // since the last direct message; negative: never
};

// A member that a node does not hold to be alive.
struct Doubted {
    NodeId member = NodeId::none;
    Liveness liveness = Liveness::suspect;
    bool own = false; // by its own probes, not by hearsay
};

// How an operator's order to stand goes.
struct OrderStatus {
    bool holds = false;          // it may still lead to an election
    std::string ended;           // why the newest one has ended without; empty: it holds, or was carried out
    NodeId ahead = NodeId::none; // because this member has more WAL
};

struct Status {
    NodeId self = NodeId::none;
    Role role = Role::passive;
    Term term = Term::none;
    NodeId primary = NodeId::none;     // none: unknown
    Instant lease_until{};             // of this node, if primary
    bool handing_over = false;         // of this node: a switchover is under way
    OrderStatus order;                 // of this node
    bool quorum = false;               // this node hears a majority of the voters
    Configuration configuration;
    bool configuration_in_force = false; // as far as this node knows
    bool failover_possible = false;
    std::string failover_reason;       // why not; empty if possible
    std::string reason;                // why this node is what it is, and what to do about it
    std::string alarm;                 // which member this server could not follow, and why; empty: it can follow all
    bool cannot_follow = false;        // that member is the primary
    std::vector<MemberStatus> members; // by name
};

// What ForceFailover would meet now.
struct ForcedFailover {
    std::string obstacle; // empty: it would be carried out
    std::string missing;  // why no election can be won: the voters that are not heard
    std::string price;    // what the operator accepts then
};

} // namespace pg_ha
