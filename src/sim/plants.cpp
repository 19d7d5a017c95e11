// SPDX-License-Identifier: PostgreSQL
//
// Names of the planted defects.
#include "plants.hpp"

#include <algorithm>
#include <stdexcept>

namespace pg_ha::sim {

namespace {

const Plant nothing;

constexpr Plant in_fakes(const char *name, Sabotage sabotage) {
    return {name, sabotage, Bug::none};
}

#ifdef PG_HA_PLANTED
constexpr Plant in_core(const char *name, Bug bug) {
    return {name, Sabotage::none, bug};
}
#endif

} // namespace

const std::vector<Plant> &plants() {
    static const std::vector<Plant> all = {
#ifdef PG_HA_PLANTED
        in_core("vote_not_stored", Bug::vote_not_stored),
        in_core("send_after_failed_save", Bug::send_after_failed_save),
        in_core("second_vote", Bug::second_vote),
        in_core("vote_with_open_gate", Bug::vote_with_open_gate),
        in_core("position_before_gate", Bug::position_before_gate),
        in_core("restarted_believed", Bug::restarted_believed),
        in_core("lsn_without_timeline", Bug::lsn_without_timeline),
        in_core("priority_beats_lsn", Bug::priority_beats_lsn),
        in_core("sync_set_not_asked", Bug::sync_set_not_asked),
        in_core("diverged_streams", Bug::diverged_streams),
        in_core("rejoin_undiverged", Bug::rejoin_undiverged),
        in_core("rejoin_by_any_lineage", Bug::rejoin_by_any_lineage),
        in_core("no_stand_in", Bug::no_stand_in),
        in_core("timeline_reused", Bug::timeline_reused),
        in_core("lease_from_receipt", Bug::lease_from_receipt),
        in_core("lease_without_promise", Bug::lease_without_promise),
        in_core("no_drift_margin", Bug::no_drift_margin),
        in_core("no_check_quorum", Bug::no_check_quorum),
        in_core("no_prevote", Bug::no_prevote),
        in_core("stands_while_opening", Bug::stands_while_opening),
        in_core("promise_broken", Bug::promise_broken),
        in_core("restarted_votes_at_once", Bug::restarted_votes_at_once),
        in_core("evidence_in_async", Bug::evidence_in_async),
        in_core("old_resignation_counts", Bug::old_resignation_counts),
        in_core("lower_w_in_postgres_first", Bug::lower_w_in_postgres_first),
        in_core("rules_not_compared", Bug::rules_not_compared),
        in_core("raise_w_in_record_first", Bug::raise_w_in_record_first),
        in_core("raise_w_without_catch_up", Bug::raise_w_without_catch_up),
        in_core("nobody_is_lost", Bug::nobody_is_lost),
        in_core("leave_in_record_first", Bug::leave_in_record_first),
        in_core("loosen_before_in_force", Bug::loosen_before_in_force),
        in_core("enter_not_caught_up", Bug::enter_not_caught_up),
        in_core("first_record_unsafe", Bug::first_record_unsafe),
        in_core("winner_outside_sync_set", Bug::winner_outside_sync_set),
        in_core("settled_at_once", Bug::settled_at_once),
        in_core("change_before_in_force", Bug::change_before_in_force),
        in_core("learner_counted", Bug::learner_counted),
        in_core("handover_without_wait", Bug::handover_without_wait),
        in_core("pause_ignored", Bug::pause_ignored),
        in_core("echo_ignored", Bug::echo_ignored),
        in_core("stale_incarnation_heard", Bug::stale_incarnation_heard),
        in_core("cloned_identity_heard", Bug::cloned_identity_heard),
        in_core("lag_ignored", Bug::lag_ignored),
#endif
        in_fakes("gate_stays_open", Sabotage::gate_stays_open),
        in_fakes("votes_forgotten", Sabotage::votes_forgotten),
        in_fakes("lost_state_keeps_identity", Sabotage::lost_state_keeps_identity),
        in_fakes("lease_ignored", Sabotage::lease_ignored),
        in_fakes("lease_not_rechecked", Sabotage::lease_not_rechecked),
        in_fakes("half_rewound_opens", Sabotage::half_rewound_opens),
        in_fakes("stale_position", Sabotage::stale_position),
        in_fakes("waiters_released", Sabotage::waiters_released),
        in_fakes("released_on_demotion", Sabotage::released_on_demotion),
        in_fakes("never_heals", Sabotage::never_heals),
    };
    return all;
}

const Plant &find_plant(const std::string &name) {
    const auto found = std::find_if(plants().begin(), plants().end(), [&](const Plant &p) { return name == p.name; });
    if (found == plants().end())
        throw std::invalid_argument("no such planted defect in this program: " + name);
    return *found;
}

const Plant &plant_of(const Options &options) {
    const auto found = std::find_if(plants().begin(), plants().end(), [&](const Plant &p) {
        return p.sabotage == options.sabotage && p.bug == options.bug;
    });
    return found == plants().end() ? nothing : *found;
}

void plant([[maybe_unused]] Bug bug) {
#ifdef PG_HA_PLANTED
    planted_bugs = bit_of(bug);
#endif
}

} // namespace pg_ha::sim
