// SPDX-License-Identifier: PostgreSQL
//
// Gossip by itself: probes, suspicion, refutation, local health, and how often news is passed on.
#include "core/gossip.hpp"

#include <gtest/gtest.h>

#include <algorithm>

using namespace pg_ha;

namespace {

NodeId id(unsigned n) { return static_cast<NodeId>(n); }
Life life(unsigned refutations) { return {static_cast<Incarnation>(1), refutations}; }
Rumour suspicion(unsigned member, unsigned accuser, unsigned refutations = 0) {
    return {id(member), life(refutations), Liveness::suspect, id(accuser)};
}

// Node 1 of 100.
struct One : ::testing::Test {
    Gossip gossip{1};
    std::set<NodeId> silent; // answer nobody; all others answer at once
    std::set<NodeId> asked;  // helpers, of indirect probes
    bool helpers_answer = true;

    One() {
        Configuration c;
        for (unsigned n = 1; n <= 100; ++n)
            c.members.push_back({id(n), "n" + std::to_string(n), MemberKind::data, n <= 5, {}, {}, 100});
        gossip.set_members(c, id(1), static_cast<Incarnation>(1));
    }
    void round(bool late = false) {
        const Gossip::Round round = gossip.next_round(late, 8);
        for (const NodeId target : round.probe) {
            gossip.probing(target, life(0));
            if (!silent.contains(target))
                gossip.heard(target);
        }
        for (const auto &[helper, target] : round.ask) {
            asked.insert(helper);
            if (helpers_answer && !silent.contains(helper))
                gossip.helper_answered(target, !silent.contains(target));
        }
    }
    void rounds(unsigned count) {
        for (unsigned i = 0; i < count; ++i)
            round();
    }
    unsigned rounds_until_unreachable(unsigned member) {
        for (unsigned n = 0; n < 200; ++n, round())
            if (gossip.liveness(id(member)) == Liveness::unreachable)
                return n;
        return 200;
    }
    bool tells(const Rumour &rumour) {
        const std::vector<Rumour> told = gossip.rumours_for(id(99), 12);
        return std::find(told.begin(), told.end(), rumour) != told.end();
    }
};

} // namespace

TEST(NewsQueue, LeastOftenPassedOnFirstThenNewest) {
    NewsQueue queue;
    for (unsigned n : {1, 2, 3})
        queue.add(id(n));
    EXPECT_EQ(queue.first(2), (std::vector{id(3), id(2)}));
    queue.passed_on(id(3), 2);
    EXPECT_EQ(queue.first(3), (std::vector{id(2), id(1), id(3)}));
    queue.passed_on(id(3), 2);
    EXPECT_FALSE(queue.contains(id(3))) << "passed on as often as it may be";
    queue.passed_on(id(1), 2);
    queue.add(id(1));
    EXPECT_EQ(queue.first(9), (std::vector{id(1), id(2)})) << "anew";
}

TEST(RandomCycle, ReachesEverybodyOnceInARound) {
    RandomCycle cycle;
    cycle.reset({id(1), id(2), id(3), id(4), id(5)});
    std::uint64_t state = 7;
    for (int i = 0; i < 10; ++i) {
        std::set<NodeId> seen;
        for (int n = 0; n < 5; ++n)
            seen.insert(cycle.next([&](std::size_t bound) { return ((state = state * 6364136223846793005u + 1) >> 33) % bound; }));
        EXPECT_EQ(seen.size(), 5u);
    }
}

TEST_F(One, IsAtScaleBeyondSeventeen) {
    EXPECT_TRUE(gossip.at_scale());
    Configuration c;
    for (unsigned n = 1; n <= 17; ++n)
        c.members.push_back({id(n), "n", MemberKind::data, true, {}, {}, 100});
    gossip.set_members(c, id(1), static_cast<Incarnation>(1));
    EXPECT_FALSE(gossip.at_scale());
}

TEST_F(One, WhoAnswersIsNotSuspected) {
    rounds(500);
    EXPECT_TRUE(gossip.doubts().empty());
    EXPECT_TRUE(asked.empty());
}

TEST_F(One, WhoAnswersNeitherUsNorOurHelpersIsSuspected) {
    silent = {id(7)};
    gossip.probing(id(7), life(0));
    rounds(4);
    EXPECT_EQ(gossip.liveness(id(7)), Liveness::alive);
    EXPECT_GE(asked.size(), 9u) << "three others in each round";
    round();
    EXPECT_EQ(gossip.liveness(id(7)), Liveness::suspect);
    EXPECT_TRUE(tells(suspicion(7, 1)));
}

TEST_F(One, WhoAnswersAHelperIsNotSuspected) {
    silent = {id(7)};
    gossip.probing(id(7), life(0));
    rounds(2);
    gossip.helper_answered(id(7), true);
    silent.clear();
    rounds(10);
    EXPECT_TRUE(gossip.doubts().empty());
}

TEST_F(One, ASuspicionEndsByTheVerdictSoonerTheMoreAccuse) {
    ASSERT_FALSE(gossip.told(suspicion(7, 20), life(0), false));
    EXPECT_EQ(gossip.liveness(id(7)), Liveness::suspect);
    const unsigned alone = rounds_until_unreachable(7);
    for (unsigned accuser : {20, 21, 22, 23})
        gossip.told(suspicion(8, accuser), life(0), false);
    const unsigned four = rounds_until_unreachable(8);
    EXPECT_EQ(alone, 2 * four);
    EXPECT_GE(four, 25u) << "5 s at the default interval: longer than a node stalls, and a refutation spreads";
    EXPECT_TRUE(tells({id(8), life(0), Liveness::unreachable, id(1)}));
}

TEST_F(One, TheSameAccuserTwiceIsOne) {
    for (int i = 0; i < 9; ++i)
        gossip.told(suspicion(7, 20), life(0), false);
    for (unsigned accuser : {20, 21, 22, 23})
        gossip.told(suspicion(8, accuser), life(0), false);
    EXPECT_GT(rounds_until_unreachable(7), 35u);
}

TEST_F(One, HearingAMemberEndsTheDoubtHere) {
    gossip.told(suspicion(7, 20), life(0), false);
    gossip.heard(id(7));
    EXPECT_EQ(gossip.liveness(id(7)), Liveness::alive);
    gossip.told(suspicion(7, 21), life(0), true);
    EXPECT_EQ(gossip.liveness(id(7)), Liveness::alive) << "just heard";
    gossip.told(suspicion(7, 21), life(0), false);
    EXPECT_EQ(gossip.liveness(id(7)), Liveness::suspect) << "that was long ago";
}

TEST_F(One, ARefutationEndsTheDoubtAndVoidsOlderOnes) {
    gossip.told(suspicion(7, 20), life(0), false);
    EXPECT_TRUE(gossip.told({id(7), life(1), Liveness::alive, NodeId::none}, life(0), false));
    EXPECT_EQ(gossip.liveness(id(7)), Liveness::alive);
    EXPECT_TRUE(tells({id(7), life(1), Liveness::alive, NodeId::none}));
    gossip.told(suspicion(7, 21), life(1), false);
    EXPECT_EQ(gossip.liveness(id(7)), Liveness::alive);
    gossip.told({id(7), life(0), Liveness::unreachable, id(20)}, life(1), false);
    EXPECT_EQ(gossip.liveness(id(7)), Liveness::alive);
    gossip.told(suspicion(7, 21, 1), life(1), false);
    EXPECT_EQ(gossip.liveness(id(7)), Liveness::suspect) << "the new life is doubted in turn";
}

TEST_F(One, AMemberThatComesBackIsAliveAgain) {
    gossip.told({id(7), life(3), Liveness::unreachable, id(20)}, life(3), false);
    EXPECT_EQ(gossip.liveness(id(7)), Liveness::unreachable);
    gossip.lives(id(7), {static_cast<Incarnation>(2), 0});
    EXPECT_EQ(gossip.liveness(id(7)), Liveness::alive);
}

TEST_F(One, WhoIsAccusedRefutesEachAccusationOnce) {
    EXPECT_TRUE(gossip.accused(life(0)));
    EXPECT_EQ(gossip.refutations(), 1u);
    EXPECT_TRUE(tells({id(1), life(1), Liveness::alive, NodeId::none}));
    EXPECT_FALSE(gossip.accused(life(0))) << "refuted already";
    EXPECT_TRUE(gossip.accused(life(1)));
    EXPECT_EQ(gossip.refutations(), 2u);
    EXPECT_FALSE(gossip.accused({static_cast<Incarnation>(0), 9})) << "that was the process before";
}

TEST_F(One, WhoIsDoubtedIsToldSoFirst) {
    gossip.told(suspicion(7, 20), life(0), false);
    for (int i = 0; i < 100; ++i)
        gossip.rumours_for(id(50), 12);
    EXPECT_TRUE(gossip.rumours_for(id(50), 12).empty());
    const std::vector<Rumour> told = gossip.rumours_for(id(7), 12);
    ASSERT_EQ(told.size(), 1u);
    EXPECT_EQ(told[0].state, Liveness::suspect);
}

TEST_F(One, ARumourIsPassedOnACertainNumberOfTimes) {
    gossip.told(suspicion(7, 20), life(0), false);
    unsigned times = 0;
    while (!gossip.rumours_for(id(50), 12).empty())
        ++times;
    EXPECT_EQ(times, gossip.times_passed_on());
    EXPECT_EQ(times, 14u); // 2 log2 of 100, rounded up
}

TEST_F(One, ANodeWhoseHelpersAreSilentTooBlamesItself) {
    for (unsigned n = 2; n <= 100; ++n)
        silent.insert(id(n));
    rounds(10);
    const std::size_t suspected_early = gossip.doubts().size();
    EXPECT_GT(gossip.health(), 0u);
    rounds(40);
    EXPECT_EQ(gossip.health(), 8u);
    EXPECT_LE(gossip.doubts().size(), suspected_early + 10) << "it suspects ever more slowly";
    silent.clear();
    rounds(20);
    EXPECT_EQ(gossip.health(), 0u);
}

TEST_F(One, LateTicksMakeANodeSlowToSuspect) {
    for (int i = 0; i < 3; ++i)
        round(true);
    silent = {id(7)};
    gossip.probing(id(7), life(0));
    for (int i = 0; i < 6; ++i)
        round(true);
    EXPECT_EQ(gossip.liveness(id(7)), Liveness::alive);
}

TEST_F(One, AHelperRemembersWhoAskedAndForgetsInTime) {
    EXPECT_TRUE(gossip.relay(id(20), id(7)));
    EXPECT_EQ(gossip.heard(id(7)), std::vector{id(20)});
    EXPECT_TRUE(gossip.heard(id(7)).empty());
    EXPECT_TRUE(gossip.relay(id(20), id(7)));
    EXPECT_TRUE(gossip.next_round(false, 8).deny.empty());
    EXPECT_EQ(gossip.next_round(false, 8).deny.size(), 1u);
    EXPECT_TRUE(gossip.heard(id(7)).empty());
    for (unsigned i = 0; i < 64; ++i)
        EXPECT_TRUE(gossip.relay(id(20), id(7)));
    EXPECT_FALSE(gossip.relay(id(20), id(7))) << "no more than that";
}

TEST_F(One, WhoIsNoMemberAnyMoreIsForgotten) {
    gossip.told(suspicion(7, 20), life(0), false);
    gossip.changed(id(8));
    Configuration c;
    for (unsigned n = 11; n <= 100; ++n)
        c.members.push_back({id(n), "n", MemberKind::data, true, {}, {}, 100});
    gossip.set_members(c, id(11), static_cast<Incarnation>(1));
    EXPECT_TRUE(gossip.doubts().empty());
    EXPECT_TRUE(gossip.newest_rows(9).empty());
    EXPECT_TRUE(gossip.rumours_for(id(50), 12).empty());
}
