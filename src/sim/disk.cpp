// SPDX-License-Identifier: PostgreSQL
//
// How saves go wrong: refused, refused and yet stored, slow, or survived by nobody; with the echo or without.
#include "disk.hpp"
#include "world.hpp"

#include <algorithm>
#include <utility>

namespace pg_ha::sim {

void Disk::write(const DurableState &state) {
    before_ = std::exchange(state_, state);
    host_.postgres.echo = Echo{state.self, state.saves};
}

// As the state file does: an echo that a crash has left behind is brought up to date first.
void Disk::write_state_only(const DurableState &state) {
    if (state_)
        host_.postgres.echo = Echo{state_->self, state.saves - 1};
    before_ = std::exchange(state_, state);
}

bool Disk::save(const DurableState &state) {
    World &world = host_.world;
    if (host_.doomed())
        return false;
    const Options &options = world.options;
    const bool calm = !world.faults_on;
    if (!calm && world.now() < full_until)
        return false;
    const bool dies = !calm && world.random.chance(options.save_crashes);
    const bool fails = !dies && !calm && world.random.chance(options.save_fails);
    if (dies || fails) {
        const std::int64_t reached = world.random.below(3);
        if (dies)
            host_.doom(Doom::kill_all);
        else
            world.trace(host_, "state file: save fails");
        if (reached == 1) // it is there after all, but nobody knows
            write_state_only(state);
        else if (reached == 2)
            write(state);
        return false;
    }
    if (!calm && world.random.chance(options.save_stalls))
        host_.stall(world.random.exponential(options.lease / 4));
    write(state);
    world.checkers.saved(host_, state);
    world.election.saved(host_, state);
    return true;
}

StateCondition Disk::condition() const {
    return state_ ? judge(*state_, host_.postgres.echo) : StateCondition::missing;
}

const DurableState *Disk::usable() const {
    return condition() == StateCondition::valid ? &*state_ : nullptr;
}

void Disk::note_lost() {
    if (state_ && std::find(lost_.begin(), lost_.end(), state_->self) == lost_.end())
        lost_.push_back(state_->self);
}

void Disk::lose() {
    note_lost();
    host_.world.election.identity_lost();
    state_.reset();
    before_.reset();
}

bool Disk::lose_newest_save() {
    if (!state_ || !before_ || before_->self != state_->self || before_->saves >= state_->saves ||
        host_.postgres.echo != Echo{state_->self, state_->saves})
        return false;
    host_.world.election.identity_lost();
    note_lost();
    state_ = *std::exchange(before_, std::nullopt);
    return true;
}

void Disk::restarted() {
    if (state_ && host_.world.options.sabotage == Sabotage::votes_forgotten)
        state_->voted_for = NodeId::none;
}

} // namespace pg_ha::sim
