// SPDX-License-Identifier: PostgreSQL
//
// Counting.  No state, no time of its own.
#include "quorum.hpp"
#include "planted.hpp"

#include <algorithm>

namespace pg_ha {

bool contains(const std::vector<NodeId> &set, NodeId id) {
    return std::find(set.begin(), set.end(), id) != set.end();
}

bool has_majority(const Configuration &configuration, const std::set<NodeId> &members) {
    std::size_t count = 0;
    for (const Member &member : configuration.members)
        count += (member.voter || planted(Bug::learner_counted)) && members.contains(member.id);
    return count >= majority(configuration.voter_count());
}

bool wins_election(const Configuration &configuration, const std::set<NodeId> &granted) {
    if (!has_majority(configuration, granted))
        return false;
    const SyncRule &sync = configuration.sync;
    if (sync.set.empty() || planted(Bug::sync_set_not_asked))
        return true;
    std::size_t answered = 0;
    for (NodeId id : sync.set)
        answered += granted.contains(id);
    return answered + sync.quorum >= sync.set.size() + 1;
}

Instant majority_instant(const Configuration &configuration, const std::map<NodeId, Instant> &reached, NodeId self,
                         Instant now) {
    std::vector<Instant> instants;
    for (const Member &member : configuration.members) {
        if (!member.voter && !planted(Bug::learner_counted))
            continue;
        auto it = reached.find(member.id);
        instants.push_back(member.id == self ? now : it == reached.end() ? long_ago : it->second);
    }
    std::size_t needed = majority(configuration.voter_count());
    if (instants.empty())
        return long_ago;
    std::sort(instants.begin(), instants.end(), std::greater<>());
    return instants[needed - 1];
}

bool rules_meet(const SyncRule &write, const SyncRule &record) {
    if (record.set.empty())
        return true; // asynchronous mode promises nothing here
    std::size_t outside = 0;
    for (NodeId id : write.set)
        outside += !contains(record.set, id);
    return write.quorum >= record.quorum + outside;
}

} // namespace pg_ha
