// SPDX-License-Identifier: PostgreSQL
//
// The state directory of one host.  What save() returned true for survives every crash; a save that
// failed may or may not have reached the disk; and the process may die in the middle of one.  The echo of
// each save lies in the data directory (Postgres::echo), and the two part when either is replaced.
#pragma once

#include "agent/ports.hpp"
#include "agent/state_echo.hpp"
#include "scheduler.hpp"

#include <optional>
#include <vector>

namespace pg_ha::sim {

class Host;

class Disk final : public StateStore {
public:
    explicit Disk(Host &host) : host_(host) {}

    bool save(const DurableState &state) override;
    void write(const DurableState &state); // with its echo, without any chance of failing
    const std::optional<DurableState> &state() const { return state_; }
    // What the server goes on with when it starts; nothing: under a new identity.
    const DurableState *usable() const;
    StateCondition condition() const;
    void lose(); // the state directory is gone, or of no use any more
    void note_lost(); // it is there, but whoever starts with it is not who it was
    bool lose_newest_save(); // false: there is no older one
    void put_back(const DurableState &copy) { state_ = copy; }
    Time full_until = 0;
    const std::vector<NodeId> &lost_identities() const { return lost_; } // oldest first
    void restarted(); // a new process reads the state

private:
    void write_state_only(const DurableState &state);

    Host &host_;
    std::optional<DurableState> state_;
    std::optional<DurableState> before_; // the other slot
    std::vector<NodeId> lost_;
};

} // namespace pg_ha::sim
