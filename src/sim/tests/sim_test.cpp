// SPDX-License-Identifier: PostgreSQL
//
// The simulator under test: some hundred seeds hold every promise, the same seed always goes the same
// way, and each planted defect is noticed.  The last part keeps the rest honest: checkers that cannot
// see a broken fake would not see a broken core.
#include "sim/plants.hpp"
#include "sim/runner.hpp"

#include <algorithm>
#include <gtest/gtest.h>

namespace {

using namespace pg_ha::sim;

class Simulation : public testing::Test {
protected:
    static void SetUpTestSuite() { catch_broken_invariants(); }
};

struct Counter : TraceSink {
    std::size_t lines = 0;
    void line(const std::string &) override { lines++; }
};

std::string story(const ManyVerdicts &result) {
    std::string text;
    for (const auto &[options, verdict] : result.violations)
        text += "sim --seed " + std::to_string(options.seed) + " --verbose: " + verdict.violation + "\n" +
                describe(options);
    return text;
}

TEST_F(Simulation, HoldsItsPromisesInManySeeds) {
    ManySeeds plan;
    plan.count = 500;
    const ManyVerdicts result = run_many(plan);
    EXPECT_EQ(result.seeds, plan.count);
    EXPECT_TRUE(result.violations.empty()) << story(result);
    EXPECT_GT(result.total.failovers, plan.count) << "so calm a run proves nothing";
    EXPECT_GT(result.total.acknowledged, 100 * plan.count);
    EXPECT_GT(result.total.rewinds, plan.count / 10);
    EXPECT_LT(result.total.liveness_skipped, plan.count / 20) << "too many clusters beyond help";
}

// Seeds that broke a promise once, each by a defect of its own.  A change of the simulator may lead a seed another
// way, so what it has taught is a test of the core or a rule of the fakes as well; the name says which.
struct Regression {
    const char *name;
    std::uint64_t seed;
};
constexpr Regression regressions[] = {
    {"AfterAFailedSaveTheSyncRuleIsTold", 1},
    {"RecordMakesAVoterOfWhoHasNotSeenIt", 84},
    {"OldResignationOfAPrimaryThatCameBack", 336},
    {"SecondSaveOfAStepFails", 582},
    {"PreVotesOnSlowLinks", 1085},
    {"NewIdentityKnowsNoLivingSeed", 1479},
    {"NewIdentitiesKnowOnlyEachOther", 1561},
    {"TwoOfFiveIdentitiesLost", 3912},
    {"ReadBeforeTheNewRuleWasInEffect", 114123},
    {"QuestionDroppedByAFailedSave", 216553},
    {"HistoriesComparedByAnOldSample", 524733},
    {"OldCopyThatKnowsOnlyDeadIdentities", 226}, // Schedule.AnOldRecordIsShownToAPrimaryThatItDoesNotName
    {"CascadeFromAServerThatWasPutBack", 257},   // Postgres::accept
    {"FollowsWhoWasPromotedByHand", 4053},       // Postgres::accept, server/gate.cpp
    {"OnlyTheDataVoterLostBesideTwoWitnesses", 10737}, // World::could_elect
    {"DeadLearnerHeardAfterAStall", 17166},            // Schedule.WhoWasHeardButDoesNotAnswerBecomesNoVoter
    {"RewoundBesideATimelineMadeByHand", 72394},       // Checkers::rejoin_asked
    {"ConfirmationsThatDoNotGetThrough", 10202}, // scenarios/unheard_confirmations.txt
    {"ConfirmationsOfBothDoNotGetThrough", 30364}, // the same, with three hosts
    {"SaveThatFailedAndYetIsStored", 46689},     // Sync.AFailedSaveThatMayBeStoredLoosensNothing
    {"ACopyThatFollowsAnOlderPrimaryUntilItIsRefused", 2019126}, // the checker took the original's term for the copy's
    {"WholeOnlyWhenNoChangeIsUnderWay", 2077816},               // World::obstacle
    {"TwoCandidatesThatSplitTheVotesAgainAndAgain", 22811},     // Schedule.OnlyOneOfThoseAheadIsToldToStand
    {"WorkersActByWhatTheyFailedToSave", 17390},                // World::quorum_survives
    {"RemovedAndThenPutBack", 7000123},                         // Schedule.ARemovedMemberComesBackAsSomebodyElse
    {"RemovedAndKnowsNobodyAnyMore", 7003735},                  // Schedule.ARemovedMemberIsToldWhenItAnswersThePrimary
    {"ElectedWhileItsRulesWereUnderWay", 8060712},              // Schedule.AWinnerWaitsForTheRulesThatAreUnderWay
    {"ALateLookAfterTheClockStoodStill", 8023641},              // Checkers::enters_sync_set
    {"RemovedAndTheNewPrimaryIsAStranger", 8075562},            // Schedule.ARemovedMemberIsShownWhoTheMembersAre
    {"LastPrimaryThatDiedBeforeItSpoke", 10043640},             // Checkers::stands
    {"HangingStreamsLookedWellUnderANewRule", 8313001},         // Sync.StreamsThatHangDoNotLookWellUnderANewRule
    {"AdmittedAndTheNextSaveFailed", 12047119},                 // Identities.AnAdmissionThatWasStoredCounts...
    {"OnlyWhoMustNotLeadHasTheCommits", 15500152},              // StandIn.StandsAfterTheOthersWhenOneOfThemLacksItsWal
    {"AStandInWhoseWorkerStartsAgain", 15612541},               // StandIn.APrimaryWhosePriorityBecomesZeroHandsOver
    {"HandedOverWhileTheOthersHadToBeRewound", 18084348},       // Operator.ASwitchoverCountsOnNobodyWhoMayHaveToBeRewound
    {"PutBackAndPromotedByHandToTheTermsNumber", 15016106},     // Postgres::accept
    {"CloneOfALaterTermHeardByAnOlderPrimary", 18097012},       // Schedule.WalOfALaterTermIsNotRewoundToAnOlderPrimary
    {"CascadeEndsWhereItsUpstreamIsPromoted", 18100044},        // Postgres::pump
    {"HandedOverInAStepThatCouldNotBeSaved", 18082038},         // Operator.ASwitchoverBegunInAStepThatCouldNotBeSavedIsVoid
    {"FollowsAfterAPromotionThatFailed", 17007843},             // Postgres::finish_promotion
    {"HandedOverToOneThatHadJustDied", 15806627},               // Operator.ASwitchoverWaitsForAWordOfTheSuccessor
    {"HeardLateAfterAStandstill", 11298},        // Sync.WhoWasHeardLateIsNotLetIn
};

class Regressions : public testing::TestWithParam<Regression> {};

TEST_P(Regressions, HoldsItsPromises) {
    catch_broken_invariants();
    const Verdict verdict = run_seed(draw_options(GetParam().seed));
    EXPECT_EQ(verdict.outcome, Outcome::good) << "seed " << GetParam().seed << ": " << verdict.violation;
}

INSTANTIATE_TEST_SUITE_P(Seeds, Regressions, testing::ValuesIn(regressions),
                         [](const auto &info) { return std::string(info.param.name); });

TEST_F(Simulation, RepeatsASeedBitForBit) {
    for (std::uint64_t seed = 1; seed <= 20; seed++) {
        const Verdict once = run_seed(draw_options(seed)), again = run_seed(draw_options(seed));
        EXPECT_EQ(once.trace_hash, again.trace_hash) << "seed " << seed;
        EXPECT_EQ(once.statistics.acknowledged, again.statistics.acknowledged) << "seed " << seed;
    }
}

TEST_F(Simulation, GoesTheSameWayWhenItIsTraced) {
    for (std::uint64_t seed = 1; seed <= 5; seed++) {
        Counter counter;
        counter.everything = true;
        EXPECT_EQ(run_seed(draw_options(seed)).trace_hash, run_seed(draw_options(seed), &counter).trace_hash);
        EXPECT_GT(counter.lines, 100u);
    }
}

TEST_F(Simulation, DrawsOnlySettingsThatAServerWouldAccept) {
    for (std::uint64_t seed = 1; seed <= 2000; seed++) {
        const Options options = draw_options(seed);
        pg_ha::Settings settings;
        settings.node_name = "n1";
        settings.heartbeat_interval = pg_ha::Duration{options.heartbeat};
        settings.lease_duration = pg_ha::Duration{options.lease};
        const auto errors = pg_ha::validate(settings);
        EXPECT_TRUE(errors.empty()) << "seed " << seed << ": " << errors.front().message;
    }
}

class PlantedDefect : public testing::TestWithParam<Sabotage> {};

TEST_P(PlantedDefect, IsNoticed) {
    catch_broken_invariants();
    ManySeeds plan;
    plan.count = 150;
    plan.sabotage = GetParam();
    plan.keep_going = true;
    const Outcome expected = GetParam() == Sabotage::never_heals ? Outcome::stuck : Outcome::unsafe;
    bool noticed = false;
    for (; !noticed && plan.first < 6000; plan.first += plan.count) { // some defects need a rare moment
        const ManyVerdicts result = run_many(plan);
        noticed = std::any_of(result.violations.begin(), result.violations.end(),
                              [&](const auto &found) { return found.second.outcome == expected; });
    }
    EXPECT_TRUE(noticed) << "it went unnoticed in " << plan.first << " seeds";
}

INSTANTIATE_TEST_SUITE_P(Fakes, PlantedDefect,
                         testing::Values(Sabotage::gate_stays_open, Sabotage::votes_forgotten,
                                         Sabotage::lost_state_keeps_identity, Sabotage::lease_ignored,
                                         Sabotage::lease_not_rechecked, Sabotage::stale_position, Sabotage::half_rewound_opens,
                                         Sabotage::waiters_released, Sabotage::released_on_demotion,
                                         Sabotage::never_heals),
                         [](const auto &info) {
                             Options options;
                             options.sabotage = info.param;
                             return std::string(plant_of(options).name);
                         });

// ---- the WAL tree ------------------------------------------------------------------------------------

using pg_ha::Timeline;

TEST(WalTree, KnowsWhatAHistoryContains) {
    WalTree wal;
    const BranchId root = wal.create(Timeline{1}, {}, 0, 0);
    const BranchId left = wal.create(Timeline{2}, {root, 1000}, 1, 0);
    const BranchId right = wal.create(Timeline{3}, {root, 800}, 2, 0);
    EXPECT_TRUE(wal.contains({left, 1200}, {root, 1000}));
    EXPECT_FALSE(wal.contains({left, 1200}, {root, 1001}));
    EXPECT_FALSE(wal.contains({right, 1200}, {root, 900}));
    EXPECT_FALSE(wal.contains({right, 1200}, {left, 1100}));
    EXPECT_TRUE(wal.contains({left, 1200}, {left, 1200}));
    EXPECT_EQ(wal.at({left, 1200}, 1000), (WalPoint{root, 1000})) << "the fork's byte belongs to the parent";
    EXPECT_EQ(wal.at({left, 1200}, 1001), (WalPoint{left, 1001}));
    const pg_ha::Lineage lineage = wal.lineage({left, 1200});
    ASSERT_EQ(lineage.size(), 2u);
    EXPECT_EQ(raw(lineage[0].end), 1000u);
    EXPECT_EQ(raw(lineage[1].timeline), 2u);
}

} // namespace
