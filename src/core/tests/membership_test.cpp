// SPDX-License-Identifier: PostgreSQL
//
// Random walks through next_step(): each step is elementary, keeps writes and elections meeting at
// both of its halves, and the walk ends where it should.
#include "core/membership.hpp"
#include "core/quorum.hpp"

#include <gtest/gtest.h>

#include <random>

using namespace pg_ha;

namespace {

NodeId id(unsigned n) { return static_cast<NodeId>(n); }

Member data(unsigned n, bool voter) {
    return {id(n), "n" + std::to_string(n), MemberKind::data, voter, {"h", 1}, {"h", 2}, 100};
}

Member witness(unsigned n) {
    return {id(n), "w" + std::to_string(n), MemberKind::witness, false, {"h", 1}, {}, 0};
}

Configuration alone() {
    Configuration c;
    c.members = {data(1, true)};
    c.sync = {{id(1)}, 1};
    return c;
}

// Applies steps until none is left; checks both halves of each.
Configuration settle(Configuration c, const MembershipFacts &facts) {
    for (int i = 0; i < 100; ++i) {
        const auto step = next_step(c, facts);
        if (!step)
            return c;
        const SyncRule &before = c.sync, &after = step->next.sync;
        if (step->postgres_first) {
            EXPECT_TRUE(rules_meet(after, before)) << step->reason;
        } else if (!after.set.empty()) {
            EXPECT_TRUE(rules_meet(before, after) || before.set.empty()) << step->reason;
        }
        const auto voters = [](const Configuration &x) { return static_cast<int>(x.voter_count()); };
        EXPECT_LE(std::abs(voters(step->next) - voters(c)), 1) << step->reason;
        if (voters(step->next) != voters(c)) {
            EXPECT_EQ(before, after) << "voters and sync rule never change in one step";
        }
        c = step->next;
    }
    ADD_FAILURE() << "no end";
    return c;
}

} // namespace

TEST(Membership, TheSecondServerStaysALearnerUntilAThirdComes) {
    MembershipFacts facts;
    facts.self = id(1);
    facts.caught_up = {id(1), id(2)};
    facts.applicants[id(2)] = data(2, false);
    Configuration two = settle(alone(), facts);
    EXPECT_EQ(two.voter_count(), 1u);
    EXPECT_EQ(two.sync, (SyncRule{{id(1)}, 1}));

    facts.applicants[id(3)] = data(3, false);
    facts.caught_up.insert(id(3));
    Configuration three = settle(two, facts);
    EXPECT_EQ(three.voter_count(), 3u);
    EXPECT_EQ(three.sync, (SyncRule{{id(1), id(2), id(3)}, 2}));
}

TEST(Membership, AWitnessMakesTwoServersThreeVotersAndNeverCountsForACommit) {
    MembershipFacts facts;
    facts.self = id(1);
    facts.caught_up = {id(1), id(2)};
    facts.applicants[id(2)] = witness(2);
    Configuration c = settle(alone(), facts);
    EXPECT_EQ(c.voter_count(), 1u) << "a witness alone would only take the majority from the one server";
    facts.applicants[id(3)] = data(3, false);
    facts.caught_up.insert(id(3));
    c = settle(c, facts);
    EXPECT_EQ(c.voter_count(), 3u);
    EXPECT_EQ(c.sync, (SyncRule{{id(1), id(3)}, 2}));
}

TEST(Membership, DataNodesVoteBeforeWitnessesAndOutnumberThem) {
    MembershipFacts facts;
    facts.self = id(1);
    facts.caught_up = {id(1), id(2), id(3), id(4), id(5)};
    facts.applicants = {{id(2), witness(2)}, {id(3), witness(3)}, {id(4), data(4, false)}, {id(5), data(5, false)}};
    Configuration c = settle(alone(), facts);
    EXPECT_EQ(c.voter_count(), 5u) << "three data nodes and two witnesses";
    facts.applicants = {{id(2), witness(2)}, {id(4), data(4, false)}, {id(5), data(5, false)}};
    facts.caught_up = {id(1), id(2), id(4), id(5)};
    c = settle(alone(), facts);
    EXPECT_EQ(c.voter_count(), 3u);
    EXPECT_FALSE(c.is_voter(id(2))) << "three data nodes need no witness";
    facts.applicants = {{id(2), witness(2)}, {id(3), witness(3)}, {id(4), data(4, false)}};
    facts.caught_up = {id(1), id(2), id(3), id(4)};
    c = settle(alone(), facts);
    EXPECT_EQ(c.voter_count(), 3u) << "two witnesses can't outvote two data nodes";
    EXPECT_TRUE(c.is_voter(id(4)));
}

TEST(Membership, ADeadIdentityIsReplacedByANewOneOfTheSameName) {
    MembershipFacts facts;
    facts.self = id(1);
    facts.caught_up = {id(1), id(2), id(3)};
    facts.applicants = {{id(2), data(2, false)}, {id(3), data(3, false)}};
    Configuration c = settle(alone(), facts);

    Member again = data(4, false);
    again.name = "n3";
    facts.applicants = {{id(4), again}};
    facts.replaced = {id(3)};
    facts.caught_up = {id(1), id(2), id(4)};
    c = settle(c, facts);
    EXPECT_EQ(c.find(id(3)), nullptr);
    ASSERT_NE(c.find(id(4)), nullptr);
    EXPECT_TRUE(c.find(id(4))->voter);
    EXPECT_EQ(c.sync, (SyncRule{{id(1), id(2), id(4)}, 2}));
}

TEST(Membership, SwitchingToAsynchronousModeAndBackLoosensAndTightensInOrder) {
    MembershipFacts facts;
    facts.self = id(1);
    facts.caught_up = {id(1), id(2), id(3)};
    facts.applicants = {{id(2), data(2, false)}, {id(3), data(3, false)}};
    Configuration c = settle(alone(), facts);
    facts.synchronous = false;
    c = settle(c, facts);
    EXPECT_TRUE(c.sync.set.empty());
    facts.synchronous = true;
    c = settle(c, facts);
    EXPECT_EQ(c.sync, (SyncRule{{id(1), id(2), id(3)}, 2}));
}

TEST(Membership, RandomWalksKeepEveryStepSafe) {
    for (unsigned seed = 1; seed <= 300; ++seed) {
        SCOPED_TRACE("seed " + std::to_string(seed));
        std::mt19937 random(seed);
        MembershipFacts facts;
        facts.self = id(1);
        facts.caught_up = {id(1)};
        Configuration c = alone();
        unsigned fresh = 2;
        for (int round = 0; round < 8; ++round) {
            if (random() % 2 && c.members.size() < 7) {
                facts.applicants[id(fresh)] = data(fresh, false);
                ++fresh;
            }
            facts.synchronous = random() % 8 != 0;
            facts.caught_up = {id(1)};
            for (unsigned n = 2; n < fresh; ++n)
                if (random() % 4)
                    facts.caught_up.insert(id(n));
            facts.replaced.clear();
            if (c.members.size() > 2 && random() % 3 == 0) {
                facts.replaced.insert(c.members.back().id);
                facts.applicants.erase(c.members.back().id);
            }
            c = settle(c, facts);
            EXPECT_TRUE(c.is_voter(id(1)));
        }
    }
}
