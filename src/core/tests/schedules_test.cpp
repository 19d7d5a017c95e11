// SPDX-License-Identifier: PostgreSQL
//
// Schedules that once broke a rule, each as short as it can be told: one node, and what the others and
// PostgreSQL say to it in an unlucky order.  Whole clusters are the business of the scenarios and of
// the simulator.
#include "schedule.hpp"

// ---- who may acknowledge -------------------------------------------------------------------------------

// A voter that is not in S yet wins: commits that wait for "w of S" must count it, or the next election,
// which asks only S, would not see them.
TEST_F(Schedule, AWinnerOutsideTheSyncSetEntersItBeforeItAcknowledges) {
    disk.configuration.sync = {{id(1), id(3)}, 2};
    start(2);
    hear(1, 1, primary_heartbeat(1, 1));
    hear(1, 1, Resign{false});
    pass(milliseconds(8));
    win(2);
    ASSERT_EQ(role(), Role::promoting);
    EXPECT_TRUE(contains(node->durable().configuration.sync.set, id(2)));
    EXPECT_EQ(node->durable().configuration.sync.quorum, 2);
}

// The last commits of the weaker rule may be newer than what was known of PostgreSQL when the stronger
// rule came into effect.
TEST_F(Schedule, ARaisedQuorumIsRecordedForCommitsUpToALookTakenAfterwards) {
    disk.configuration.sync.quorum = 1;
    start_as_primary();
    for (unsigned n : {2u, 3u})
        answer(n, 1);
    answer(2, 1);
    const SyncRule raised{disk.configuration.sync.set, 2};
    ASSERT_FALSE(all<ApplySync>().empty());
    ASSERT_EQ(all<ApplySync>().back().rule, raised);
    local.position = position(1, 2000); // acknowledged with w = 1, not sampled yet
    LocalState behind = local;
    behind.in_recovery = true;
    behind.streaming = true;
    behind.position = position(1, 1000);
    step(SyncInEffect{raised});
    answer(2, 1, behind);
    answer(3, 1, behind);
    EXPECT_EQ(node->durable().configuration.sync.quorum, 1) << "nobody but the primary has the WAL up to 2000";
    sample();
    answer(2, 1, behind);
    EXPECT_EQ(node->durable().configuration.sync.quorum, 1);
    behind.position = local.position;
    answer(2, 1, behind);
    EXPECT_EQ(node->durable().configuration.sync.quorum, 2);
}

// A promotion that was asked for in an earlier term finishes late: its timeline is not this term's.
TEST_F(Schedule, APromotionOfAnEarlierTermDoesNotOpenALaterOne) {
    start(2);
    hear(1, 1, primary_heartbeat(1, 1));
    hear(1, 1, Resign{false});
    pass(milliseconds(8));
    win(2);
    ASSERT_EQ(role(), Role::promoting);
    hear(3, 3, HeartbeatReply{now, false, {term(1), 1}, report(3, 3)}); // term 3 has begun, and fails
    hear(3, 3, VoteRequest{true, term(4), position(1, 1), {}, {term(1), 1}});
    pass(seconds(1));
    for (int i = 0; i < 20 && role() == Role::standby; ++i) {
        hear(3, 3, VoteReply{true, term(4), false, Refusal::stale_term, local.position, {}});
        pass(milliseconds(100));
        win(raw(node->durable().term) + 1);
    }
    ASSERT_EQ(role(), Role::promoting);
    ASSERT_GT(raw(node->durable().term), 2u);
    open(2);
    EXPECT_EQ(role(), Role::deposed);
}

// Elected again, it would open on the timeline of the earlier term, and the cluster would wait for another election.
TEST_F(Schedule, WhoIsStillPromotedForAnEarlierTermVotesButDoesNotStand) {
    start(2);
    hear(1, 1, primary_heartbeat(1, 1));
    hear(1, 1, Resign{false});
    pass(milliseconds(8));
    win(2);
    ASSERT_EQ(all<Promote>().size(), 1u);
    local.opening = true;
    hear(3, 3, VoteReply{false, term(2), false, Refusal::stale_term, local.position, {}}); // deposed
    hear(3, 3, HeartbeatReply{now, false, {term(1), 1}, report(3, 3)});
    sample();
    ASSERT_EQ(role(), Role::standby);
    out.clear();
    pass(seconds(10));
    EXPECT_TRUE(sent<VoteRequest>().empty());
    EXPECT_NE(node->status(now).reason.find("promoted for an earlier term"), std::string::npos);
    EXPECT_NE(node->forced_failover(now).obstacle.find("promoted for an earlier term"), std::string::npos);
    hear(1, 3, request(false, 4, local.position));
    ASSERT_FALSE(sent<VoteReply>().empty());
    EXPECT_TRUE(sent<VoteReply>().back().granted);
    step(PromotionFailed{"not within 60 s"});
    local.opening = false; // PostgreSQL has not seen it
    sample();
    pass(seconds(10));
    EXPECT_FALSE(sent<VoteRequest>().empty());
}

// Asked in time, and told to promote while the votes were counted.
TEST_F(Schedule, TheGateShowsThatAPromotionIsStillUnderWay) {
    start(2);
    hear(1, 1, Resign{false});
    pass(milliseconds(8));
    ASSERT_FALSE(sent<VoteRequest>().empty());
    local.opening = true;
    hear(3, 1, VoteReply{true, term(2), true, Refusal::none, local.position, {}});
    EXPECT_EQ(role(), Role::standby);
    EXPECT_EQ(raw(node->durable().term), 1u);
}

TEST_F(Schedule, ALeaseGoesOnWhileALaterRecordIsOnItsWay) {
    start_as_primary();
    answer(2, 1);
    ASSERT_TRUE(has_lease());
    out.clear();
    hear(9, 1, JoinRequest{{id(9), "n9", MemberKind::data, false, {"h", 1}, {"h", 2}, 100}, 0});
    ASSERT_NE(node->durable().configuration.find(id(9)), nullptr);
    EXPECT_TRUE(has_lease());
    EXPECT_TRUE(all<SetLease>().empty());
}

// The member that the higher quorum needs dies before it is recorded: PostgreSQL must not wait for it for ever.
TEST_F(Schedule, ARaisedQuorumIsGivenUpWhenItsMemberDies) {
    disk.configuration.sync = {{id(1), id(2)}, 1};
    start_as_primary();
    answer(2, 1);
    answer(2, 1);
    const SyncRule raised{{id(1), id(2)}, 2};
    ASSERT_FALSE(all<ApplySync>().empty());
    ASSERT_EQ(all<ApplySync>().back().rule, raised);
    out.clear();
    for (int i = 0; i < 20; ++i) { // only node 3 is left
        pass(milliseconds(200));
        answer(3, 1);
    }
    ASSERT_FALSE(all<ApplySync>().empty());
    EXPECT_EQ(all<ApplySync>().front().rule, (SyncRule{{id(1), id(2)}, 1}));
    step(SyncInEffect{raised}); // late: the step that was given up is not taken up again by it
    EXPECT_EQ(node->durable().configuration.sync, (SyncRule{{id(1), id(2)}, 1}));
    step(SyncInEffect{{{id(1), id(2)}, 1}});
    EXPECT_EQ(all<ApplySync>().back().rule, (SyncRule{{id(1)}, 1}));
    sample();
    step(SyncInEffect{{{id(1)}, 1}});
    sample();
    answer(3, 1);
    answer(3, 1);
    step(SyncInEffect{{{id(1)}, 1}});
    answer(3, 1);
    EXPECT_EQ(node->durable().configuration.sync, (SyncRule{{id(1), id(3)}, 1})) << "and node 3 takes its place";
}

// ---- elections --------------------------------------------------------------------------------------------

// Simulator seed 22811: who waited for answers that couldn't come met the same rival at the same moments again.
TEST_F(Schedule, ACandidateThatCannotWinAnyMoreStandsAgainSoon) {
    start(2);
    hear(1, 1, Resign{false});
    pass(milliseconds(8));
    hear(3, 1, VoteReply{true, term(2), true, Refusal::none, local.position, {}});
    ASSERT_EQ(role(), Role::candidate);
    hear(3, 2, VoteReply{false, term(2), false, Refusal::already_voted, local.position, {}});
    EXPECT_EQ(role(), Role::candidate) << "n1 may still vote";
    hear(1, 2, VoteReply{false, term(2), false, Refusal::already_voted, local.position, {}});
    EXPECT_EQ(role(), Role::standby);
    out.clear();
    pass(milliseconds(100));
    EXPECT_GE(sent<VoteRequest>().size(), 2u);
}

// The same seed: two of the same WAL, told at the same moment, split the votes each time.
TEST_F(Schedule, OnlyOneOfThoseAheadIsToldToStand) {
    start(2);
    hear(1, 1, Resign{false});
    const VoteReply ahead{true, term(2), false, Refusal::position_behind, position(1, 2000), {}};
    for (int ballot = 1; ballot <= 4; ++ballot) {
        for (int i = 0; i < 100 && sent<VoteRequest>().empty(); ++i)
            pass(milliseconds(10));
        ASSERT_FALSE(sent<VoteRequest>().empty());
        out.clear();
        hear(3, 1, ahead);
        hear(1, 1, ahead);
        EXPECT_EQ(sent<StandNow>().size(), 1u) << "ballot " << ballot;
        out.clear();
    }
}

// A rewound server whose WAL ends before what its data files need would end itself when it is promoted.
TEST_F(Schedule, WhoseWalIsTooShortForItsDataVotesButDoesNotStand) {
    local.promotable = false;
    start(2);
    hear(1, 1, Resign{false});
    pass(seconds(5));
    EXPECT_TRUE(sent<VoteRequest>().empty());
    hear(3, 2, request(false, 2, local.position));
    ASSERT_EQ(sent<VoteReply>().size(), 1u);
    EXPECT_TRUE(sent<VoteReply>()[0].granted);
    local.promotable = true;
    sample();
    pass(seconds(5));
    EXPECT_FALSE(sent<VoteRequest>().empty());
}

// Rewound to n3, which died before anybody had the WAL that its files had got there: n1 leads, and has the WAL, too, that
// lies here, but not what the files need.  Recovery would end the server where n1's timeline begins.
TEST_F(Schedule, WhoseDataNeedsWalThatWasLostIsClonedAnew) {
    disk.term = term(2);
    local.promotable = false;
    local.needed = position(2, 1500);
    follow_with(position(2, 1000), 3, {{static_cast<Timeline>(1), static_cast<Lsn>(500)},
                                       {static_cast<Timeline>(2), static_cast<Lsn>(1200)},
                                       {static_cast<Timeline>(3), Lsn::none}});
    EXPECT_TRUE(all<OpenGate>().empty());
    ASSERT_EQ(all<Rejoin>().size(), 1u);
    EXPECT_TRUE(all<Rejoin>().back().data_ahead);
    EXPECT_EQ(all<Rejoin>().back().own, local.position);
}

// A clone of the primary of term 5 is heard first by that of term 4, which is cut off and admits it.
TEST_F(Schedule, WalOfALaterTermIsNotRewoundToAnOlderPrimary) {
    disk.term = term(4);
    follow_with(position(5, 1500), 4, {{static_cast<Timeline>(1), static_cast<Lsn>(500)}, {static_cast<Timeline>(4), Lsn::none}});
    EXPECT_TRUE(all<OpenGate>().empty());
    EXPECT_TRUE(all<Rejoin>().empty());
}

TEST_F(Schedule, WhoseDataNeedsWalThatItsPrimaryHasFollows) {
    disk.term = term(2);
    local.promotable = false;
    local.needed = position(2, 1200);
    follow_with(position(2, 1000), 3, {{static_cast<Timeline>(2), static_cast<Lsn>(1200)}, {static_cast<Timeline>(3), Lsn::none}});
    EXPECT_FALSE(all<OpenGate>().empty());
    EXPECT_TRUE(all<Rejoin>().empty());
}

// Simulator seed 8060712: elected while PostgreSQL was told looser rules that its primary had recorded one after the other.
TEST_F(Schedule, AWinnerWaitsForTheRulesThatAreUnderWay) {
    start(2);
    step(SyncInEffect{disk.configuration.sync});
    const SyncRule recorded = disk.configuration.sync;
    for (const unsigned quorum : {1u, 2u}) { // lowered, and raised again before anything is in effect
        Heartbeat h = primary_heartbeat(1, 1);
        h.configuration = disk.configuration;
        h.configuration->version.index++;
        h.configuration->sync = quorum == 1 ? SyncRule{{id(1)}, 1} : recorded;
        h.config_version = h.configuration->version;
        hear(1, 1, h);
    }
    ASSERT_EQ(disk.configuration.sync, recorded);
    hear(1, 1, Resign{false});
    pass(milliseconds(8));
    win(2);
    open(2);
    hear(3, 2, HeartbeatReply{now, true, disk.configuration.version, report(3, 2)});
    EXPECT_FALSE(has_lease()) << "some processes may wait for nobody";
    step(SyncInEffect{recorded});
    EXPECT_TRUE(has_lease());
}

// Its voters refuse a candidate that lags too far, if they know; it knows as well.
TEST_F(Schedule, InAsynchronousModeWhoLagsTooFarDoesNotStand) {
    disk.configuration.synchronous = settings.synchronous = false;
    disk.configuration.sync = {};
    settings.max_lag_on_failover = 1000;
    start(2);
    Heartbeat h = primary_heartbeat(1, 1);
    h.lineage_confirmed = static_cast<Lsn>(100000);
    hear(1, 1, h);
    hear(1, 1, Resign{false});
    pass(seconds(20));
    EXPECT_TRUE(sent<VoteRequest>().empty());
}

// A voter whose disk needs longer than the first rounds wait.
TEST_F(Schedule, ACandidateWaitsLongerForASlowDisk) {
    start(2);
    hear(1, 1, primary_heartbeat(1, 1));
    hear(1, 1, Resign{false});
    std::vector<std::pair<Instant, unsigned>> late; // votes, and the terms they are for
    for (int i = 0; i < 3000 && role() != Role::promoting; ++i) {
        out.clear();
        pass(milliseconds(2));
        for (const VoteRequest &asked : sent<VoteRequest>())
            if (asked.pre)
                hear(3, raw(asked.term) - 1, VoteReply{true, asked.term, true, Refusal::none, local.position, {}});
        for (const VoteRequest &asked : sent<VoteRequest>())
            if (!asked.pre)
                late.emplace_back(now + milliseconds(600), raw(asked.term));
        if (!late.empty() && late.front().first <= now) {
            hear(3, late.front().second, VoteReply{false, term(late.front().second), true, Refusal::none, local.position, {}});
            late.erase(late.begin());
        }
    }
    EXPECT_EQ(role(), Role::promoting);
}

// A record of the candidate's own term exists: somebody else has won that term.  By a record that has
// fewer voters, old votes could make a second winner.  Found by models/membership.pml.
TEST_F(Schedule, ACandidateShownARecordOfItsOwnTermHasLost) {
    start(2);
    hear(1, 1, primary_heartbeat(1, 1));
    hear(1, 1, Resign{false});
    pass(milliseconds(8));
    hear(3, 1, VoteReply{true, term(2), true, Refusal::none, local.position, {}});
    ASSERT_EQ(role(), Role::candidate);
    Configuration fewer = three_voters();
    fewer.version = {term(2), 5};
    std::erase_if(fewer.members, [](const Member &m) { return m.id == id(1); });
    fewer.sync.set = {id(2), id(3)};
    Heartbeat shows;
    shows.sent = now;
    shows.leader = id(1);
    shows.config_version = fewer.version;
    shows.configuration = fewer;
    shows.self = report(3, 2);
    hear(3, 2, shows);
    hear(3, 2, VoteReply{false, term(2), true, Refusal::none, local.position, {}});
    EXPECT_NE(role(), Role::promoting);
}

// Found by the small worlds: a voter that is ahead but reaches no majority itself must not stop those who do.
TEST_F(Schedule, ACandidateGivesWayToOneThatIsAheadOnlyTwice) {
    start(2);
    hear(1, 1, primary_heartbeat(1, 1));
    const Position ahead = position(1, 2000);
    for (int lost = 0; lost < 3; ++lost) {
        out.clear();
        while (sent<VoteRequest>().empty())
            pass(milliseconds(10));
        hear(1, 1, VoteReply{true, term(2), false, Refusal::position_behind, ahead, {}});
        EXPECT_EQ(sent<StandNow>().size(), 1u);
        hear(3, 1, VoteReply{true, term(2), true, Refusal::none, local.position, {}});
        EXPECT_EQ(raw(node->durable().term), lost < 2 ? 1u : 2u);
    }
}

TEST_F(Schedule, WhoIsAloneSaysForWhomItWaits) {
    start(2);
    pass(seconds(5));
    ASSERT_FALSE(all<Note>().empty());
    const std::string waits = "waits: there is no primary, and no majority of the voters: missing n1, n3";
    EXPECT_EQ(all<Note>().back().reason, waits);
    EXPECT_EQ(node->status(now).reason, waits);
    out.clear();
    pass(seconds(5));
    EXPECT_TRUE(all<Note>().empty()) << "it is said once";
}

// ---- promises ---------------------------------------------------------------------------------------------

// A call to stand that was meant for the process before this one must not shorten the wait after a restart.
TEST_F(Schedule, ARestartedVoterDoesNotStandWhenToldToWithinItsOldPromise) {
    disk.configuration.synchronous = false;
    disk.configuration.sync = {};
    start(2);
    hear(3, 1, StandNow{});
    pass(milliseconds(500));
    EXPECT_TRUE(sent<VoteRequest>().empty());
}

// Evidence against the last primary is no evidence against oneself.
TEST_F(Schedule, AWinnerForgetsTheEvidenceThatMadeItStand) {
    start(2);
    hear(1, 1, primary_heartbeat(1, 1));
    hear(1, 1, Resign{false});
    pass(milliseconds(8));
    win(2);
    open(2);
    step(SyncInEffect{node->durable().configuration.sync});
    answer(3, 2);
    ASSERT_TRUE(has_lease());
    out.clear();
    hear(1, 2, request(true, 3, local.position)); // was frozen, has not heard of the heartbeats yet
    ASSERT_EQ(sent<VoteReply>().size(), 1u);
    EXPECT_EQ(sent<VoteReply>()[0].refusal, Refusal::promised);
    hear(1, 2, request(false, 3, local.position));
    EXPECT_EQ(role(), Role::primary);
}

// Asynchronous mode: the bound on lost WAL counts from the last primary, also after a round that elected nobody.
TEST_F(Schedule, TheBoundOnLostWalOutlivesAnElectionThatFailed) {
    disk.configuration.synchronous = false;
    disk.configuration.sync = {};
    settings.max_lag_on_failover = 1000;
    start(2);
    Heartbeat h = primary_heartbeat(1, 1);
    h.lineage_confirmed = static_cast<Lsn>(100000);
    hear(1, 1, h);
    hear(1, 1, Resign{false});
    hear(3, 2, HeartbeatReply{now, false, {term(1), 1}, report(3, 2)});
    hear(3, 2, VoteRequest{false, term(2), position(1, 100000), {}, {term(1), 1}}); // granted, but it dies
    ASSERT_EQ(node->durable().term, term(2));
    out.clear();
    hear(3, 2, VoteRequest{true, term(3), position(1, 1000), {}, {term(1), 1}});
    ASSERT_EQ(sent<VoteReply>().size(), 1u);
    EXPECT_EQ(sent<VoteReply>()[0].refusal, Refusal::position_behind);
}

// The primary was given a longer lease than this voter's own setting: the promise has to last as long.
TEST_F(Schedule, AVoterPromisesAtLeastTheLeaseThatThePrimaryRecorded) {
    settings.lease_duration = milliseconds(500);
    disk.configuration.lease = seconds(2);
    start(2);
    pass(seconds(3));
    hear(1, 1, primary_heartbeat(1, 1));
    now += milliseconds(1500);
    out.clear();
    hear(3, 1, request(true, 2, local.position));
    ASSERT_EQ(sent<VoteReply>().size(), 1u);
    EXPECT_EQ(sent<VoteReply>()[0].refusal, Refusal::promised);
}

// Found by the small worlds: a primary heard by the one node that reaches a majority kept it from standing for ever.
TEST_F(Schedule, APrimaryThatHearsNoMajorityAsksForNoPromise) {
    start_as_primary();
    step(Tick{});
    answer(2, 1);
    pass(settings.lease_duration - milliseconds(100));
    EXPECT_FALSE(sent<Heartbeat>().back().asks_nothing);
    pass(milliseconds(400));
    EXPECT_TRUE(sent<Heartbeat>().back().asks_nothing);
    EXPECT_EQ(all<SetLease>().back().until, long_ago);

    // An answer to a heartbeat that asked for nothing is no promise; the answer to the next one is.
    const Instant asked = sent<Heartbeat>().back().sent;
    out.clear();
    hear(2, 1, HeartbeatReply{asked, true, node->durable().configuration.version, report(2, 1)});
    EXPECT_TRUE(all<SetLease>().empty());
    ASSERT_FALSE(sent<Heartbeat>().empty());
    EXPECT_FALSE(sent<Heartbeat>().back().asks_nothing);
    now += milliseconds(1);
    pass(settings.heartbeat_interval);
    answer(2, 1);
    ASSERT_FALSE(all<SetLease>().empty());
    EXPECT_GT(all<SetLease>().back().until, now);
}

TEST_F(Schedule, APrimaryThatAsksForNoPromiseHoldsNobodyBack) {
    start(2);
    hear(1, 1, primary_heartbeat(1, 1));
    for (int i = 0; i < 15; ++i) {
        pass(milliseconds(200));
        Heartbeat heartbeat = primary_heartbeat(1, 1);
        heartbeat.asks_nothing = true;
        hear(1, 1, heartbeat);
    }
    ASSERT_FALSE(sent<VoteRequest>().empty());
    out.clear();
    hear(3, 1, request(true, 2, local.position));
    EXPECT_TRUE(sent<VoteReply>().back().granted);
}
