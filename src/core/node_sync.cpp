// SPDX-License-Identifier: PostgreSQL
//
// Life as primary, the part about the sync set: who of it has what.  Must never call something safe
// that an election under the record in force could miss.
#include "node_impl.hpp"

namespace pg_ha {

// S8: a promoted standby has WAL that nobody may have acknowledged.  Who reads it there must not see it
// vanish with the next failover, so sessions are held until w members of S have it: by what PostgreSQL's
// walsenders say under a rule that meets the record, or by what the members report.
void Node::Impl::consider_settled() {
    if (role != Role::primary || !opened_at || !record_in_force)
        return;
    const SyncRule &rule = configuration().sync;
    const bool meet = sync_known && !sync_pending && rules_meet(sync_in_effect, rule);
    if (!rule.set.empty() && !(meet && confirmed >= *opened_at) && !caught_up_to(*opened_at, rule) &&
        !planted(Bug::settled_at_once))
        return;
    trace("sessions are let in: the sync set has what they see, up to " + to_string(*opened_at));
    opened_at.reset();
    out.push_back(Settled{});
}

} // namespace pg_ha
