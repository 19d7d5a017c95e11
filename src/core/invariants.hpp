// SPDX-License-Identifier: PostgreSQL
//
// The law, in one file.  Numbers match docs/protocol.md.  Checked after every step, in the server
// too: a core that has broken one must fence, not guess on.
#pragma once

#include "event.hpp"

namespace pg_ha {

// What the invariants look at: one node between two steps.
struct CoreView {
    DurableState durable; // without the list of members: copying it twice a step would cost more than the step
    Role role = Role::passive;
    NodeId leader = NodeId::none;
    Instant lease_until{};
    bool record_in_force = false; // a configuration of the own term was stored by a majority
    bool gate_open = false;
    Term gate_term = Term::none;
    SyncRule sync_in_effect;
    bool sync_known = false;
};

// Called with the number and text of a broken invariant; must not return normally in the server
// (throw, fence, exit 1).  Default: std::abort, for tests.
using InvariantHandler = void (*)(const char *text);
void set_invariant_handler(InvariantHandler handler);

void check_state(const CoreView &view);
void check_step(const CoreView &before, const CoreView &after);

} // namespace pg_ha
