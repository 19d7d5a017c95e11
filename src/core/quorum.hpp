// SPDX-License-Identifier: PostgreSQL
//
// Counting, as pure functions: majorities of voters, the sync set's share in an election, and when
// a write rule and an election rule are sure to meet.  Proof sketch: docs/protocol.md, I5 and I9.
#pragma once

#include "configuration.hpp"

#include <map>
#include <set>

namespace pg_ha {

constexpr std::size_t majority(std::size_t voters) { return voters / 2 + 1; }

// w for a sync set of so many members: their majority, and with the primary at least so many standbys.
constexpr std::size_t write_quorum(std::size_t members, std::size_t min_sync_standbys) {
    const std::size_t demanded = min_sync_standbys < members ? min_sync_standbys + 1 : members;
    return demanded > majority(members) ? demanded : majority(members);
}

// Do these members hold a majority of the voters?
bool has_majority(const Configuration &configuration, const std::set<NodeId> &members);

// May a candidate with these grants become primary?  A majority of voters, and so many of the sync
// set S that every group of w members of S has one among them: |S| - w + 1.
bool wins_election(const Configuration &configuration, const std::set<NodeId> &granted);

// The latest instant that a majority of voters has reached; `self` counts with `now`.
// long_ago if there is none.
Instant majority_instant(const Configuration &configuration, const std::map<NodeId, Instant> &reached, NodeId self,
                         Instant now);

// Is every commit acknowledged under `write` visible to every election held under `record`?
// w members of S that must share one with any |S'| - w' + 1 members of S': w >= w' + |S \ S'|.
bool rules_meet(const SyncRule &write, const SyncRule &record);

bool contains(const std::vector<NodeId> &set, NodeId id);

} // namespace pg_ha
