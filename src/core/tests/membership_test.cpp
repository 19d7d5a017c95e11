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
Configuration settle(Configuration c, MembershipFacts facts) {
    for (NodeId id : facts.caught_up)
        if (!facts.lost.contains(id))
            facts.ready.insert(id);
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

// ---- lost members ------------------------------------------------------------------------------------------

namespace {

// `data_nodes` data voters, all in S, and so many witnesses.
Configuration ready(unsigned data_nodes, unsigned witnesses = 0) {
    Configuration c;
    for (unsigned n = 1; n <= data_nodes + witnesses; ++n) {
        c.members.push_back(data(n, true));
        if (n > data_nodes)
            c.members.back().kind = MemberKind::witness;
        else
            c.sync.set.push_back(id(n));
    }
    c.sync.quorum = static_cast<std::uint16_t>(majority(data_nodes));
    return c;
}

MembershipFacts seen_by_first(const Configuration &c, std::set<unsigned> lost = {}) {
    MembershipFacts facts;
    facts.self = id(1);
    for (const Member &member : c.members)
        if (lost.contains(static_cast<unsigned>(raw(member.id))))
            facts.lost[member.id] = "not heard for 2.0 s";
        else
            facts.caught_up.insert(member.id);
    return facts;
}

} // namespace

TEST(LostMembers, LeaveOneByOneAndTheQuorumFollows) {
    EXPECT_EQ(settle(ready(3), seen_by_first(ready(3), {3})).sync, (SyncRule{{id(1), id(2)}, 2}));
    EXPECT_EQ(settle(ready(3), seen_by_first(ready(3), {2, 3})).sync, (SyncRule{{id(1)}, 1}));
    EXPECT_EQ(settle(ready(2, 1), seen_by_first(ready(2, 1), {2})).sync, (SyncRule{{id(1)}, 1}));
    EXPECT_EQ(settle(ready(5), seen_by_first(ready(5), {5})).sync, (SyncRule{{id(1), id(2), id(3), id(4)}, 3}));
    EXPECT_EQ(settle(ready(5), seen_by_first(ready(5), {4, 5})).sync, (SyncRule{{id(1), id(2), id(3)}, 2}));
}

TEST(LostMembers, OfTwoTheQuorumGoesToTheRecordFirstAndThenTheMember) {
    Configuration c = ready(2, 1);
    const MembershipFacts facts = seen_by_first(c, {2});
    auto step = next_step(c, facts);
    ASSERT_TRUE(step);
    EXPECT_FALSE(step->postgres_first);
    EXPECT_EQ(step->next.sync, (SyncRule{{id(1), id(2)}, 1}));
    EXPECT_EQ(step->reason, "write quorum lowered to 1: n2 is not heard for 2.0 s");
    step = next_step(step->next, facts);
    ASSERT_TRUE(step);
    EXPECT_TRUE(step->postgres_first);
    EXPECT_EQ(step->next.sync, (SyncRule{{id(1)}, 1}));
    EXPECT_EQ(step->reason, "sync set loses n2: not heard for 2.0 s");
}

TEST(LostMembers, ComeBackOnlyWhenReady) {
    Configuration c = ready(2, 1);
    c.sync = {{id(1)}, 1};
    MembershipFacts facts = seen_by_first(c);
    facts.ready = {id(1)}; // n2 streams, but not for long enough
    EXPECT_FALSE(next_step(c, facts));
    EXPECT_EQ(settle(c, facts).sync, (SyncRule{{id(1), id(2)}, 2}));
}

// The operator's word: a commit is on so many standbys, or it waits.
TEST(LostMembers, AreKeptAsFarAsTheOperatorDemands) {
    Configuration c = ready(3);
    MembershipFacts facts = seen_by_first(c, {2, 3});
    facts.min_sync_standbys = 1;
    EXPECT_EQ(settle(c, facts).sync, (SyncRule{{id(1), id(2)}, 2}));
    facts = seen_by_first(c, {3});
    facts.min_sync_standbys = 2;
    EXPECT_EQ(settle(c, seen_by_first(c, {3})).sync.quorum, 2);
    c.sync.quorum = 3;
    EXPECT_EQ(settle(c, facts).sync, (SyncRule{{id(1), id(2), id(3)}, 3}));
}

// It may leave as soon as another one stands in for it, and not before.
TEST(LostMembers, AreReplacedBeforeTheyLeave) {
    Configuration c = ready(3);
    c.sync = {{id(1), id(2)}, 2};
    MembershipFacts facts = seen_by_first(c, {2});
    facts.min_sync_standbys = 1;
    facts.ready = facts.caught_up;
    for (int i = 0; i < 10; ++i)
        if (const auto step = next_step(c, facts)) {
            c = step->next;
            EXPECT_GE(c.sync.set.size(), 2u);
            EXPECT_GE(c.sync.quorum, 2);
        }
    EXPECT_EQ(c.sync, (SyncRule{{id(1), id(3)}, 2}));
}

TEST(LostMembers, RandomLossesAndReturnsKeepEveryStepSafe) {
    for (unsigned seed = 1; seed <= 500; ++seed) {
        SCOPED_TRACE("seed " + std::to_string(seed));
        std::mt19937 random(seed);
        Configuration c = ready(2 + random() % 4, random() % 2);
        const auto data_nodes = static_cast<unsigned>(c.sync.set.size());
        const unsigned min_sync_standbys = random() % 3;
        for (int round = 0; round < 12; ++round) {
            std::set<unsigned> lost;
            for (unsigned n = 2; n <= data_nodes; ++n)
                if (random() % 3 == 0)
                    lost.insert(n);
            MembershipFacts facts = seen_by_first(c, lost);
            facts.min_sync_standbys = min_sync_standbys;
            c = settle(c, facts);
            EXPECT_TRUE(contains(c.sync.set, id(1)));
            EXPECT_GE(c.sync.quorum, majority(c.sync.set.size()));
            EXPECT_GE(c.sync.set.size(), std::min(min_sync_standbys + 1, data_nodes));
        }
    }
}

// ---- a winner's first rule ------------------------------------------------------------------------------------

namespace {

std::set<NodeId> members_of(unsigned bits) {
    std::set<NodeId> set;
    for (unsigned n = 1; bits >> (n - 1); ++n)
        if (bits >> (n - 1) & 1)
            set.insert(id(n));
    return set;
}

SyncRule rule(unsigned bits, unsigned quorum) {
    const std::set<NodeId> set = members_of(bits);
    return {{set.begin(), set.end()}, static_cast<std::uint16_t>(quorum)};
}

unsigned counted(const SyncRule &r, const std::set<NodeId> &ids) {
    return static_cast<unsigned>(std::count_if(r.set.begin(), r.set.end(), [&](NodeId n) { return ids.contains(n); }));
}

} // namespace

// Every old rule of up to five members, every group that could vote, every one of them that could have the
// winner's WAL: so many of the new S have every commit that each later election asks one of them.
TEST(FirstRule, EveryElectionStillSeesWhatWasAcknowledged) {
    constexpr unsigned winner = 1;
    unsigned left_out = 0;
    for (unsigned set = 1; set < 32; ++set)
        for (unsigned quorum = 1; quorum <= static_cast<unsigned>(__builtin_popcount(set)); ++quorum)
            for (unsigned answered = 0; answered < 32; answered += 2) // the winner is the first
                for (unsigned equal = answered;; equal = (equal - 1) & answered) {
                    const SyncRule before = rule(set, quorum);
                    const std::set<NodeId> voted = members_of(answered | winner);
                    if (counted(before, voted) + quorum >= before.set.size() + 1) {
                        const SyncRule after = first_rule(before, id(winner), voted, members_of(equal), 0);
                        ASSERT_TRUE(contains(after.set, id(winner)));
                        if (after.set.size() < before.set.size()) {
                            ++left_out;
                            // Those known to have everything; the others perhaps have nothing.
                            ASSERT_GE(counted(after, members_of(equal | winner)), after.quorum);
                            ASSERT_GE(after.quorum, majority(after.set.size()));
                        } else {
                            ASSERT_EQ(after.quorum, quorum);
                        }
                    }
                    if (equal == 0)
                        break;
                }
    EXPECT_GT(left_out, 0u);
}

TEST(FirstRule, OfTwoTheSurvivorWritesOnAlone) {
    EXPECT_EQ(first_rule(rule(3, 2), id(2), {id(2), id(9)}, {id(9)}, 0), (SyncRule{{id(2)}, 1}));
}

TEST(FirstRule, TheOperatorsMinimumStays) {
    EXPECT_EQ(first_rule(rule(3, 2), id(2), {id(2), id(9)}, {id(9)}, 1), rule(3, 2));
}

// Of three, two are enough for the old rule: who is slow to answer is not put out for that.
TEST(FirstRule, WhoIsNotNeededStays) {
    EXPECT_EQ(first_rule(rule(7, 2), id(2), {id(2), id(3)}, {id(3)}, 0), rule(7, 2));
}
