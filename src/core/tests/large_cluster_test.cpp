// SPDX-License-Identifier: PostgreSQL
//
// What a node of a large cluster sends and answers: bounded per round, and everybody in turn.
#include "core/node.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>

using namespace pg_ha;

namespace {

constexpr ClusterId cluster{1, 2};

struct Traffic {
    std::size_t rounds = 0;
    std::size_t most_in_a_round = 0;
    std::size_t most_indirect_in_a_round = 0;
    std::size_t most_rows = 0;
    std::map<NodeId, std::size_t> heartbeats;
};

// Node 1 of `members`, the first `voters` of which vote.
struct Subject {
    Instant now{std::chrono::seconds(100)};
    std::unique_ptr<Node> node;
    std::size_t configurations_sent = 0;

    Subject(std::size_t members, std::size_t voters, bool as_primary);
    Outputs tick(std::size_t rounds) {
        Outputs all;
        for (std::size_t i = 0; i < rounds; ++i) {
            now = std::max(now, node->next_deadline());
            const Outputs outputs = node->step(Tick{}, now);
            all.insert(all.end(), outputs.begin(), outputs.end());
        }
        return all;
    }
};

Subject::Subject(std::size_t members, std::size_t voters, bool as_primary) {
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
    settings.members_max = members;
    node = std::make_unique<Node>(settings, state, local, 1, now);
    for (const Output &output : node->start(now))
        if (const auto *send = std::get_if<Send>(&output))
            if (const auto *heartbeat = std::get_if<Heartbeat>(&send->body))
                configurations_sent += heartbeat->configuration.has_value();
}

// It ticks for so many rounds, and nobody answers.
Traffic watch(std::size_t members, std::size_t voters, bool as_primary, std::size_t rounds) {
    Subject subject(members, voters, as_primary);
    Traffic traffic;
    while (traffic.rounds < rounds) {
        std::size_t sent = 0, indirect = 0;
        for (const Output &output : subject.tick(1)) {
            const auto *send = std::get_if<Send>(&output);
            indirect += send && std::holds_alternative<IndirectProbe>(send->body);
            if (const auto *heartbeat = send ? std::get_if<Heartbeat>(&send->body) : nullptr) {
                ++traffic.heartbeats[send->to];
                traffic.most_rows = std::max(traffic.most_rows, heartbeat->table.size());
                ++sent;
            }
        }
        traffic.most_indirect_in_a_round = std::max(traffic.most_indirect_in_a_round, indirect);
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

// Nobody answers here, so these are rounds with as many repeated probes as there can be.
TEST(LargeCluster, BeyondThatARoundIsBoundedAndReachesEverybodyInTurn) {
    for (const std::size_t members : {18, 32, 300}) {
        const Traffic primary = watch(members, 5, true, 1000), standby = watch(members, 5, false, 1000);
        EXPECT_LE(primary.most_in_a_round, 14u) << members;
        EXPECT_LE(standby.most_in_a_round, 11u) << members;
        EXPECT_LE(primary.most_indirect_in_a_round, 15u) << members;
        EXPECT_LE(standby.most_indirect_in_a_round, 15u) << members;
        EXPECT_EQ(primary.heartbeats.size(), members - 1);
        EXPECT_EQ(standby.heartbeats.size(), members - 1);
        for (const auto &[id, count] : primary.heartbeats)
            EXPECT_GE(count, raw(id) <= 5 ? 1000u : 5u) << "node " << raw(id);
    }
}

TEST(LargeCluster, ManyVotersAreServedInTurnBeforeTheOthers) {
    const Traffic primary = watch(300, 31, true, 100);
    for (const auto &[id, count] : primary.heartbeats)
        if (raw(id) <= 31) {
            EXPECT_GE(count, 29u) << "voter " << raw(id);
        }
}


namespace {

Received from(const Node &node, unsigned sender, Version has, Body body) {
    const DurableState &self = node.durable();
    if (auto *heartbeat = std::get_if<Heartbeat>(&body)) {
        heartbeat->config_version = has;
        heartbeat->self.id = static_cast<NodeId>(sender);
        heartbeat->self.incarnation = static_cast<Incarnation>(1);
    }
    return {{cluster, static_cast<NodeId>(sender), self.self, static_cast<Incarnation>(1), self.term, std::move(body)}};
}

std::size_t configurations_to(NodeId to, const Outputs &outputs) {
    std::size_t count = 0;
    for (const Output &output : outputs)
        if (const auto *send = std::get_if<Send>(&output); send && send->to == to)
            if (const auto *heartbeat = std::get_if<Heartbeat>(&send->body))
                count += heartbeat->configuration.has_value();
    return count;
}

} // namespace

TEST(LargeCluster, TheConfigurationGoesAtOnceToWhoShowsAnOlderOneAndToNobodyElse) {
    Subject standby(100, 5, false);
    EXPECT_EQ(standby.configurations_sent, 0u);
    const Version own = standby.node->durable().configuration.version;
    const Outputs to_peer = standby.node->step(from(*standby.node, 7, own, Heartbeat{}), standby.now);
    EXPECT_EQ(configurations_to(static_cast<NodeId>(7), to_peer), 0u);
    const Outputs to_older = standby.node->step(from(*standby.node, 8, Version{}, Heartbeat{}), standby.now);
    EXPECT_EQ(configurations_to(static_cast<NodeId>(8), to_older), 1u);
    std::size_t later = 0;
    for (const Output &output : standby.tick(100))
        if (const auto *send = std::get_if<Send>(&output))
            if (const auto *heartbeat = std::get_if<Heartbeat>(&send->body))
                later += heartbeat->configuration.has_value();
    EXPECT_EQ(later, 0u) << "what it has by now is not known";
    std::size_t sent = 0; // a crowd of them is served over several rounds
    for (unsigned sender = 10; sender < 60; ++sender)
        sent += configurations_to(static_cast<NodeId>(sender),
                                  standby.node->step(from(*standby.node, sender, Version{}, Heartbeat{}), standby.now));
    EXPECT_LE(sent, 4u);
}

TEST(LargeCluster, AMemberThatWasAdmittedButDoesNotKnowItIsTold) {
    Subject primary(100, 5, true);
    const Member member = *primary.node->durable().configuration.find(static_cast<NodeId>(50));
    const Outputs outputs = primary.node->step(from(*primary.node, 50, Version{}, JoinRequest{member, 0}), primary.now);
    EXPECT_EQ(configurations_to(member.id, outputs), 1u);
}

TEST(LargeCluster, AHelperAsksTheTargetAndTellsTheAsker) {
    Subject helper(100, 5, false);
    const auto target = static_cast<NodeId>(40), asker = static_cast<NodeId>(50);
    const Version own = helper.node->durable().configuration.version;
    const auto answers = [&](const Outputs &outputs, bool reached) {
        return std::any_of(outputs.begin(), outputs.end(), [&](const Output &output) {
            const auto *send = std::get_if<Send>(&output);
            const auto *reply = send ? std::get_if<IndirectReply>(&send->body) : nullptr;
            return reply && send->to == asker && reply->target == target && reply->reached == reached;
        });
    };
    const Outputs asked = helper.node->step(from(*helper.node, 50, own, IndirectProbe{target}), helper.now);
    EXPECT_TRUE(std::any_of(asked.begin(), asked.end(), [&](const Output &output) {
        const auto *send = std::get_if<Send>(&output);
        const auto *heartbeat = send ? std::get_if<Heartbeat>(&send->body) : nullptr;
        return heartbeat && send->to == target && heartbeat->wants_reply;
    }));
    EXPECT_FALSE(answers(asked, true));
    EXPECT_TRUE(answers(helper.node->step(from(*helper.node, 40, own, Heartbeat{}), helper.now), true));
    EXPECT_TRUE(answers(helper.node->step(from(*helper.node, 50, own, IndirectProbe{target}), helper.now), true))
        << "it has just been heard";

    helper.tick(5);
    helper.node->step(from(*helper.node, 50, own, IndirectProbe{target}), helper.now);
    EXPECT_TRUE(answers(helper.tick(3), false)) << "it has not answered the helper either";
}

TEST(LargeCluster, ANodeThatHearsNobodyHoldsNobodyToBeAlive) {
    Subject node(100, 5, false);
    const Version own = node.node->durable().configuration.version;
    node.node->step(from(*node.node, 40, own, Heartbeat{}), node.now);
    EXPECT_EQ(node.node->liveness(static_cast<NodeId>(40), node.now), Liveness::alive);
    node.tick(12);
    EXPECT_EQ(node.node->liveness(static_cast<NodeId>(40), node.now), Liveness::unreachable);
}
