// SPDX-License-Identifier: PostgreSQL
#include "invariants.hpp"
#include "quorum.hpp"

#include <cstdio>
#include <cstdlib>

namespace pg_ha {

namespace {

void abort_on_violation(const char *text) {
    std::fprintf(stderr, "invariant broken: %s\n", text);
    std::abort();
}

InvariantHandler handler = abort_on_violation;

void require(bool holds, const char *text) {
    if (!holds)
        handler(text);
}

bool acts(Role role) { return role == Role::promoting || role == Role::primary; }

} // namespace

void set_invariant_handler(InvariantHandler h) { handler = h ? h : abort_on_violation; }

void check_state(const CoreView &view) {
    const DurableState &durable = view.durable;
    if (acts(view.role)) {
        require(durable.voted_for == durable.self, "I1: a primary has its own vote for its term");
        require(view.leader == durable.self, "I1: a primary follows nobody");
        require(!view.gate_open, "I3: a primary's gate is shut");
    }
    if (view.role == Role::candidate) {
        require(durable.voted_for == durable.self, "I1: a candidate has its own vote");
        require(!view.gate_open, "I3: a candidate's gate is shut");
    }
    if (view.lease_until != long_ago) {
        require(acts(view.role), "I6: only an elected node has a lease");
        require(view.record_in_force, "I8: no commit before a record of the own term is in force");
        const std::vector<NodeId> &set = durable.configuration.sync.set;
        require(set.empty() || contains(set, durable.self), "I5: a primary that acknowledges is in the sync set");
        require(view.sync_known && rules_meet(view.sync_in_effect, durable.configuration.sync),
                "I9: PostgreSQL waits for no fewer than the record asks");
    }
    if (view.gate_open)
        require(view.gate_term == durable.term && view.leader != NodeId::none && view.leader != durable.self,
                "I3: the gate is open only for the primary of the stored term");
    require(durable.configuration.version.term <= durable.term, "I8: no configuration from a term not yet known");
}

void check_step(const CoreView &before, const CoreView &after) {
    const DurableState &a = before.durable, &b = after.durable;
    require(b.term >= a.term, "I2: terms only grow");
    if (a.self != b.self)
        return; // a void identity was replaced: nothing it promised binds the new one
    require(b.incarnation == a.incarnation, "I2: one incarnation per start");
    require(b.saves >= a.saves, "I2: saves only grow");
    if (a.term == b.term && a.voted_for != NodeId::none)
        require(a.voted_for == b.voted_for, "I1: one vote per term");
    if (b.configuration.cluster != no_cluster)
        require(b.configuration.version >= a.configuration.version, "I8: configurations only grow");
}

} // namespace pg_ha
