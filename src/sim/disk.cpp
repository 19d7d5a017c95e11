// SPDX-License-Identifier: PostgreSQL
//
// How saves go wrong: refused, refused and yet stored, slow, or survived by nobody.
#include "disk.hpp"
#include "world.hpp"

namespace pg_ha::sim {

bool Disk::save(const DurableState &state) {
    World &world = host_.world;
    if (host_.doomed())
        return false;
    const Options &options = world.options;
    const bool calm = !world.faults_on;
    if (!calm && world.random.chance(options.save_crashes)) {
        host_.doom(Doom::kill_all);
        if (world.random.chance(0.5))
            return false;
    } else if (!calm && world.random.chance(options.save_fails)) {
        world.trace(host_, "state file: save fails");
        if (world.random.chance(0.5))
            state_ = state; // it is there after all, but nobody knows
        return false;
    } else if (!calm && world.random.chance(options.save_stalls)) {
        host_.stall(world.random.exponential(options.lease / 4));
    }
    state_ = state;
    if (host_.doomed())
        return false;
    world.checkers.saved(host_, state);
    world.election.saved(host_, state);
    return true;
}

void Disk::lose() {
    if (state_)
        lost_.push_back(state_->self);
    host_.world.election.identity_lost();
    state_.reset();
}

void Disk::restarted() {
    if (state_ && host_.world.options.sabotage == Sabotage::votes_forgotten)
        state_->voted_for = NodeId::none;
}

} // namespace pg_ha::sim
