// SPDX-License-Identifier: PostgreSQL
//
// The core: one function.  step(event, now) -> outputs, plus next_deadline().  No clock, socket,
// thread, file or randomness of its own; the same object code runs in the server, the witness and
// the simulator.
//
// A Node composes the parts and owns no rule itself: election.hpp (terms, votes), lease.hpp (how
// long a primary may acknowledge), quorum.hpp (counting), membership.hpp (changes of the
// configuration), member_table.hpp and gossip.hpp (who lives), invariants.hpp (the law).
#pragma once

#include "event.hpp"
#include "settings.hpp"
#include "status.hpp"

#include <memory>

namespace pg_ha {

class Node {
public:
    // state: as read from the state file, or fresh (self and node_name set, the rest empty).
    // The caller has raised and stored state.incarnation before (agent: begin_run).
    // local: PostgreSQL as it is now.  seed: for election jitter and the instance.
    Node(const Settings &settings, const DurableState &state, const LocalState &local, std::uint64_t seed, Instant now);
    ~Node();
    Node(Node &&) noexcept;
    Node &operator=(Node &&) noexcept;

    // Outputs to carry out after construction (gate closed, lease expired, peers).
    Outputs start(Instant now);
    // now never runs backwards between calls.
    Outputs step(const Event &event, Instant now);
    // When a Tick is wanted; never if there is nothing to wait for.
    Instant next_deadline() const;
    // New settings from a reload.  Name and kind can't change.
    void reconfigure(const Settings &settings);

    Status status(Instant now) const;
    ForcedFailover forced_failover(Instant now) const;
    // Why this command would do nothing now; empty: it would be carried out.
    std::string obstacle(const Command &command, Instant now) const;
    const DurableState &durable() const;
    Instance instance() const;
    // Of clusters too large for a whole Status of each node.
    std::vector<Doubted> doubts(Instant now) const;
    Liveness liveness(NodeId member, Instant now) const;
    const MemberReport *report(NodeId member) const; // the newest known; null: none

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

} // namespace pg_ha
