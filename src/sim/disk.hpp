// SPDX-License-Identifier: PostgreSQL
//
// The state directory of one host.  What save() returned true for survives every crash; a save that
// failed may or may not have reached the disk; and the process may die in the middle of one.
#pragma once

#include "agent/ports.hpp"

#include <optional>
#include <vector>

namespace pg_ha::sim {

class Host;

class Disk final : public StateStore {
public:
    explicit Disk(Host &host) : host_(host) {}

    bool save(const DurableState &state) override;
    const std::optional<DurableState> &state() const { return state_; }
    void write(const DurableState &state) { state_ = state; } // without any chance of failing
    void lose(); // the state directory is gone
    const std::vector<NodeId> &lost_identities() const { return lost_; } // oldest first
    void restarted(); // a new process reads the state

private:
    Host &host_;
    std::optional<DurableState> state_;
    std::vector<NodeId> lost_;
};

} // namespace pg_ha::sim
