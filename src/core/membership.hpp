// SPDX-License-Identifier: PostgreSQL
//
// What the configuration should become next.  A primary changes it in elementary steps, one at a
// time, each only while the one before is in force (I8).  Of the sync rule, a step either goes to
// the record first or to PostgreSQL first, so that at every moment each group that can acknowledge a
// commit meets each group that can elect (I9):
//   add a member to S, lower w          record first, then PostgreSQL
//   remove a member from S, raise w     PostgreSQL first, then the record
#pragma once

#include "configuration.hpp"

#include <map>
#include <optional>
#include <set>

namespace pg_ha {

// What the primary knows besides the record.
struct MembershipFacts {
    NodeId self = NodeId::none;
    std::set<NodeId> caught_up;       // who answers, streams and is near the end of the WAL: may become a voter
    std::set<NodeId> replaced;        // dead identities whose name a new node asks for ...
    std::set<NodeId> unwanted;        // ... or that an operator removes; these are among `replaced` too
    std::optional<bool> paused;       // as an operator wants it
    std::map<NodeId, Member> applicants; // nodes that asked for admission, or members whose addresses changed
    std::set<NodeId> ready;           // of them, those that commits may be made to wait for
    std::map<NodeId, std::string> lost; // members of S that have not been heard, or not streamed, for a while: why
    bool synchronous = true;
    unsigned min_sync_standbys = 0;   // S keeps so many besides the primary, lost or not; w counts them
    std::size_t members_max = pg_ha::members_max;
};

struct MembershipStep {
    Configuration next;               // without its new version
    bool postgres_first = false;      // apply next.sync to PostgreSQL and let members catch up before recording
    std::string reason;
};

// The sync rule of a winner's first record.  `answered`: who voted for it; `equal`: who of them has exactly
// the WAL that the winner has.  If those who answered are too few for the old rule, commits would wait for
// members that are gone; then S becomes those who answered, provided that w of them have every commit.
// Nothing is acknowledged before that record is in force.
SyncRule first_rule(const SyncRule &before, NodeId winner, const std::set<NodeId> &answered,
                    const std::set<NodeId> &equal, unsigned min_sync_standbys);

// The next step, or nothing if the record is as it should be.  Pure.
std::optional<MembershipStep> next_step(const Configuration &current, const MembershipFacts &facts);

} // namespace pg_ha
