// SPDX-License-Identifier: PostgreSQL
//
// What a node of a large cluster sends: bounded per round, and everybody in turn.
#include "core/node.hpp"

#include <gtest/gtest.h>

#include <map>

using namespace pg_ha;

namespace {

constexpr ClusterId cluster{1, 2};

struct Traffic {
    std::size_t rounds = 0;
    std::size_t most_in_a_round = 0;
    std::map<NodeId, std::size_t> heartbeats;
};

// Node 1 of `members`, the first `voters` of which vote, ticks for so many rounds.
Traffic watch(std::size_t members, std::size_t voters, bool as_primary, std::size_t rounds) {
    DurableState state;
    state.self = static_cast<NodeId>(1);
    state.node_name = "n1";
    state.term = static_cast<Term>(1);
    state.voted_for = as_primary ? state.self : NodeId::none;
    state.configuration.cluster = cluster;
    state.configuration.version = {state.term, 1};
    for (std::size_t n = 1; n <= members; ++n)
        state.configuration.members.push_back({static_cast<NodeId>(n), "n" + std::to_string(n), MemberKind::data, n <= voters,
                                               {"h", 1}, {"h", 2}, 100});
    Settings settings;
    settings.cluster = cluster;
    settings.node_name = "n1";
    LocalState local;
    local.in_recovery = !as_primary;
    local.position = {static_cast<Timeline>(1), static_cast<Lsn>(1000)};
    Instant now{std::chrono::seconds(100)};
    Node node(settings, state, local, 1, now);
    node.start(now);
    Traffic traffic;
    while (traffic.rounds < rounds) {
        now = std::max(now, node.next_deadline());
        std::size_t sent = 0;
        for (const Output &output : node.step(Tick{}, now))
            if (const auto *send = std::get_if<Send>(&output); send && std::holds_alternative<Heartbeat>(send->body)) {
                ++traffic.heartbeats[send->to];
                ++sent;
            }
        traffic.rounds += sent > 0;
        traffic.most_in_a_round = std::max(traffic.most_in_a_round, sent);
    }
    return traffic;
}

} // namespace

TEST(LargeCluster, UpToSeventeenMembersEverybodyIsHeardInEveryRound) {
    for (bool as_primary : {true, false})
        for (const auto &[id, count] : watch(17, 3, as_primary, 10).heartbeats)
            EXPECT_EQ(count, 10u) << raw(id);
}

TEST(LargeCluster, BeyondThatARoundIsBoundedAndReachesEverybodyInTurn) {
    const Traffic primary = watch(32, 5, true, 40), standby = watch(32, 5, false, 40);
    EXPECT_EQ(primary.most_in_a_round, 12u);
    EXPECT_EQ(standby.most_in_a_round, 8u);
    EXPECT_EQ(primary.heartbeats.size(), 31u);
    EXPECT_EQ(standby.heartbeats.size(), 31u);
    for (const auto &[id, count] : primary.heartbeats)
        EXPECT_GE(count, raw(id) <= 5 ? 40u : 11u) << "node " << raw(id);
    for (const auto &[id, count] : standby.heartbeats)
        EXPECT_GE(count, 10u) << "node " << raw(id);
}
