// SPDX-License-Identifier: PostgreSQL
//
// How long a primary may acknowledge commits.  The lease counts from the *send* time of the newest
// heartbeat round that a majority of voters answered, while a voter's promise counts from receipt,
// which is later: so the lease ends first, whatever the network did in between (I6).
#pragma once

#include "planted.hpp"
#include "quorum.hpp"
#include "settings.hpp"

namespace pg_ha {

class LeaseTracker {
public:
    void clear() { answered_.clear(); }
    // A voter answered the heartbeat that was sent then, as a follower of this term.
    void answered(NodeId voter, Instant sent) {
        Instant &newest = answered_[voter];
        newest = std::max(newest, sent);
    }
    Instant newest_answered(NodeId voter) const {
        auto it = answered_.find(voter);
        return it == answered_.end() ? long_ago : it->second;
    }
    // End of the lease; `sent` is when the own newest heartbeat round went out.
    Instant until(const Configuration &configuration, NodeId self, Instant sent, Duration lease) const {
        const Instant base = majority_instant(configuration, answered_, self, sent);
        const Duration unused = planted(Bug::no_drift_margin) ? Duration{0} : drift_margin(lease);
        return base == long_ago ? long_ago : base + lease - unused;
    }

private:
    std::map<NodeId, Instant> answered_;
};

} // namespace pg_ha
