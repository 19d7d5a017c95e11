// SPDX-License-Identifier: PostgreSQL
//
// The configuration: the one replicated record.  Who the members are, who votes, which standbys
// count for a commit (sync set S) and how many of them are needed (write quorum w).
//
// It is sent whole, takes effect on a node as soon as that node has stored it, and is *in force*
// once a majority of its voters stored it.  Rules of change: docs/protocol.md, I8 to I10.
#pragma once

#include "types.hpp"

#include <optional>
#include <string>
#include <vector>

namespace pg_ha {

// What shared memory and the wire are laid out for.  The core itself has no such limit: Settings::members_max.
inline constexpr std::size_t members_max = 32;

enum class MemberKind : std::uint8_t { data = 0, witness = 1 };

struct Endpoint {
    std::string host;
    std::uint16_t port = 0;
    bool operator==(const Endpoint &) const = default;
};

struct Member {
    NodeId id = NodeId::none;
    std::string name;      // pg_ha.node_name; also the standby's application_name
    MemberKind kind = MemberKind::data;
    bool voter = false;    // false: learner
    Endpoint peer;         // where its node worker listens
    Endpoint postgres;     // where its postmaster listens (standbys stream from there)
    std::uint16_t priority = 100; // 0 = primary only as stand-in
    bool operator==(const Member &) const = default;
};

// Raft's (term, index) of the record.
struct Version {
    Term term = Term::none;
    std::uint64_t index = 0;
    auto operator<=>(const Version &) const = default;
};

// The durability rule: a commit is acknowledged once it is flushed on `quorum` members of `set`,
// the primary counted.  PostgreSQL form: synchronous_standby_names = 'ANY quorum-1 (set)'.
struct SyncRule {
    std::vector<NodeId> set;   // sorted; empty: asynchronous mode
    std::uint16_t quorum = 1;
    bool operator==(const SyncRule &) const = default;
};

struct Configuration {
    ClusterId cluster;
    std::uint64_t system_identifier = 0;
    Version version;
    std::vector<Member> members; // sorted by id
    SyncRule sync;
    bool synchronous = true;     // the cluster's mode, as recorded by the primary
    Duration lease{0};           // of the primary that recorded it: what voters promise at the least
    NodeId recorded_by = NodeId::none; // the primary of the version's term
    bool paused = false;         // by an operator: nobody stands but who recorded this, or is told to

    const Member *find(NodeId id) const;
    const Member *find(const std::string &name) const;
    bool is_voter(NodeId id) const;
    std::size_t voter_count() const;
    bool operator==(const Configuration &) const = default;
};

// The primary's history: where each older timeline ended.  Sent with heartbeats, newest last;
// the last entry is the current timeline with end = Lsn::none (still growing).
struct TimelineEnd {
    Timeline timeline = Timeline::none;
    Lsn end = Lsn::none;
    bool operator==(const TimelineEnd &) const = default;
};
using Lineage = std::vector<TimelineEnd>;
inline constexpr std::size_t lineage_entries_max = 64;

// May a node at `position` stream from a primary with this history, without ever acknowledging
// WAL that the primary does not have?  (postgres-facts part 3: stock PostgreSQL doesn't ask.)
bool descends_from(Position position, const Lineage &lineage);
// Where this history left the timeline of `position`; timeline none: it never was on it.
Position fork_of(Position position, const Lineage &lineage);

} // namespace pg_ha
