// SPDX-License-Identifier: PostgreSQL
//
// A primary and its sync set: when sessions may be let in, who leaves S and who comes back, and what
// commits wait for meanwhile.
#include "schedule.hpp"

#include "core/stream_watch.hpp"

namespace {

class Sync : public Schedule {
protected:
    // n1 is gone, n2 is elected with the vote of n3 and has opened on timeline 2.
    void fail_over() {
        start(2);
        hear(1, 1, primary_heartbeat(1, 1));
        hear(1, 1, Resign{false});
        pass(milliseconds(8));
        win(2);
        open(2);
    }
    LocalState standby_at(std::uint64_t lsn) {
        LocalState state = local;
        state.in_recovery = state.streaming = true;
        state.position = position(2, lsn);
        return state;
    }
};

} // namespace

// ---- letting sessions in ---------------------------------------------------------------------------------

// What the winner has and nobody else does may vanish with it: who reads it must not have seen it before.
TEST_F(Sync, SessionsAreHeldUntilTheSyncSetHasWhatTheySee) {
    fail_over();
    step(SyncInEffect{node->durable().configuration.sync});
    answer(3, 2, standby_at(1000)); // has stored the record; still reads what was before
    ASSERT_TRUE(has_lease());
    EXPECT_TRUE(all<Settled>().empty());
    answer(3, 2, standby_at(1100));
    EXPECT_EQ(all<Settled>().size(), 1u);
    answer(3, 2, standby_at(1200));
    EXPECT_EQ(all<Settled>().size(), 1u);
}

TEST_F(Sync, WalsendersSayFirstThatTheSyncSetHasIt) {
    fail_over();
    step(SyncInEffect{node->durable().configuration.sync});
    answer(3, 2, standby_at(1000));
    step(Sampled{local, {}, static_cast<Lsn>(1099)});
    EXPECT_TRUE(all<Settled>().empty());
    step(Sampled{local, {}, static_cast<Lsn>(1100)});
    EXPECT_EQ(all<Settled>().size(), 1u);
}

// They may have been asked by a rule that wanted fewer.
TEST_F(Sync, WhatWasConfirmedUnderAnEarlierRuleDoesNotCount) {
    fail_over();
    answer(3, 2, standby_at(1000));
    step(Sampled{local, {}, static_cast<Lsn>(1100)});
    step(SyncInEffect{node->durable().configuration.sync});
    EXPECT_TRUE(all<Settled>().empty());
    step(Sampled{local, {}, static_cast<Lsn>(1100)});
    EXPECT_EQ(all<Settled>().size(), 1u);
}

TEST_F(Sync, WithoutARecordInForceNobodyIsLetIn) {
    fail_over();
    step(SyncInEffect{node->durable().configuration.sync});
    step(Sampled{local, {}, static_cast<Lsn>(1100)});
    EXPECT_TRUE(all<Settled>().empty());
}

TEST_F(Sync, AsynchronousModeHoldsNobody) {
    settings.synchronous = disk.configuration.synchronous = false;
    disk.configuration.sync = {};
    fail_over();
    answer(3, 2, standby_at(1000));
    EXPECT_EQ(all<Settled>().size(), 1u);
}

TEST_F(Sync, AWorkerThatResumesItsTermLetsSessionsInAgain) {
    start_as_primary();
    EXPECT_TRUE(all<Settled>().empty());
    answer(2, 1);
    EXPECT_EQ(all<Settled>().size(), 1u);
}

// The term that deposed it could not be stored, so it leads on in its term, in the same process.
TEST_F(Sync, APrimaryThatWasDeposedInVainStillLetsSessionsIn) {
    start_as_primary();
    ASSERT_TRUE(all<Settled>().empty());
    // Not by hear(): of this step nothing behind the save is carried out.
    (void)node->step(Received{{cluster, id(2), disk.self, static_cast<Incarnation>(1), term(2), primary_heartbeat(2, 2)}}, now);
    ASSERT_EQ(role(), Role::deposed);
    step(PersistFailed{});
    ASSERT_EQ(role(), Role::primary);
    out.clear();
    LocalState standby = standby_at(999);
    standby.position.timeline = static_cast<Timeline>(1);
    answer(2, 1, standby);
    EXPECT_TRUE(all<Settled>().empty());
    answer(2, 1);
    EXPECT_EQ(all<Settled>().size(), 1u);
}

// PostgreSQL says only once that it has opened.
TEST_F(Sync, ASaveThatFailsAsPostgresOpensDoesNotLeaveItPromoting) {
    settings.synchronous = false; // so a change of the record is due as soon as it leads
    start(2);
    hear(1, 1, primary_heartbeat(1, 1));
    hear(1, 1, Resign{false});
    pass(milliseconds(8));
    win(2);
    ASSERT_EQ(role(), Role::promoting);
    step(SyncInEffect{node->durable().configuration.sync});
    answer(3, 2);
    local.in_recovery = false;
    local.position = position(2, raw(local.position.lsn) + 100);
    const std::uint64_t saves = node->durable().saves;
    (void)node->step(Promoted{local, {{static_cast<Timeline>(2), Lsn::none}}}, now);
    ASSERT_GT(node->durable().saves, saves);
    step(PersistFailed{});
    EXPECT_EQ(role(), Role::primary);
    out.clear();
    for (int i = 0; i < 10 && all<Settled>().empty(); ++i) { // step by step of the record
        answer(3, 2);
        step(SyncInEffect{node->durable().configuration.sync});
    }
    EXPECT_EQ(all<Settled>().size(), 1u);
}

// ---- what PostgreSQL waits for -----------------------------------------------------------------------------

// Found by the simulator: commits that wait here would be released by the successor's rule, seen by readers of
// this server, and then vanish.
TEST_F(Sync, ADeposedPrimaryKeepsTheRuleItHad) {
    start_as_primary();
    answer(2, 1);
    out.clear();
    Heartbeat of_successor = primary_heartbeat(2, 2);
    of_successor.configuration = three_voters();
    of_successor.configuration->version = {term(2), 2};
    of_successor.configuration->sync = {{id(2)}, 1};
    hear(2, 2, of_successor);
    ASSERT_EQ(role(), Role::deposed);
    EXPECT_EQ(node->durable().configuration.sync, (SyncRule{{id(2)}, 1}));
    EXPECT_TRUE(all<ApplySync>().empty());
}

// The record on its disk may be one that nobody else has seen: PostgreSQL's old rule stays until it is in force.
TEST_F(Sync, APrimaryThatResumesItsTermLoosensNothingBeforeItsRecordIsInForce) {
    disk.configuration.sync.quorum = 1;
    disk.voted_for = id(1);
    local.in_recovery = false;
    start(1);
    EXPECT_TRUE(all<ApplySync>().empty());
    answer(2, 1);
    ASSERT_FALSE(all<ApplySync>().empty());
    EXPECT_EQ(all<ApplySync>().front().rule.quorum, 1);
}

// Found by the simulator: a raised w whose save was reported as failed was on disk all the same.  After a restart it
// was shown to voters, who asked fewer of S than the commits made by the lower w needed.
TEST_F(Sync, AFailedSaveThatMayBeStoredLoosensNothing) {
    disk.configuration.sync.quorum = 1;
    start_as_primary();
    for (int i = 0; i < 10 && all<ApplySync>().empty(); ++i) {
        pass(milliseconds(200));
        answer(2, 1);
        answer(3, 1);
    }
    ASSERT_EQ(all<ApplySync>().size(), 1u);
    ASSERT_EQ(all<ApplySync>().front().rule.quorum, 2);
    step(SyncInEffect{all<ApplySync>().front().rule});
    sample();
    answer(2, 1);
    ASSERT_EQ(disk.configuration.sync.quorum, 2);
    out.clear();
    step(PersistFailed{});
    EXPECT_TRUE(all<ApplySync>().empty()) << "perhaps the record that asks for more is the one on disk";
    pass(milliseconds(400));
    ASSERT_FALSE(all<Persist>().empty());
    EXPECT_EQ(all<Persist>().front().state.configuration.sync.quorum, 1);
    ASSERT_FALSE(all<ApplySync>().empty());
    EXPECT_EQ(all<ApplySync>().front().rule.quorum, 1);
}

// Found by the simulator: what a standby had sent was read only after this machine had stood still, when the standby
// was gone.  What it says by itself may be old; an answer is younger than the question.
TEST_F(Sync, WhoWasHeardLateIsNotLetIn) {
    disk.configuration.sync = {{id(1), id(2)}, 2};
    start_as_primary();
    const auto seconds_pass = [&](bool n3_answers) {
        for (int i = 0; i < 25; ++i) {
            pass(milliseconds(200));
            local.position = position(1, raw(local.position.lsn) + 1);
            step(Sampled{local, {}, local.position.lsn});
            answer(2, 1);
            if (n3_answers) {
                answer(3, 1);
                continue;
            }
            Heartbeat by_itself;
            by_itself.sent = now;
            by_itself.leader = id(1);
            by_itself.config_version = node->durable().configuration.version;
            by_itself.self = report(3, 1);
            hear(3, 1, by_itself);
        }
    };
    seconds_pass(false);
    EXPECT_EQ(node->durable().configuration.sync.set, (std::vector<NodeId>{id(1), id(2)}));
    seconds_pass(true);
    EXPECT_EQ(node->durable().configuration.sync.set, (std::vector<NodeId>{id(1), id(2), id(3)}));
}

// Found by the simulator: no confirmation got through, both standbys said that they had all WAL.  As soon as PostgreSQL
// had taken over a lower w they counted as well again, so the next step was given up and w raised: commits waited on.
TEST_F(Sync, StreamsThatHangDoNotLookWellUnderANewRule) {
    for (unsigned n = 4; n <= 5; ++n)
        disk.configuration.members.push_back(
            {id(n), "n" + std::to_string(n), MemberKind::data, true, {"h", 1}, {"h", 2}, 100});
    disk.configuration.sync = {{id(1), id(2), id(3), id(4), id(5)}, 3};
    start_as_primary();
    local.position = position(1, raw(local.position.lsn) + 1000); // a commit that nobody confirms
    std::size_t rules_done = 0;
    for (int i = 0; i < 40 && node->durable().configuration.sync.quorum > 1; ++i) {
        pass(milliseconds(200));
        for (unsigned n = 2; n <= 5; ++n)
            answer(n, 1);
        const std::vector<ApplySync> rules = all<ApplySync>();
        for (; rules_done < rules.size(); ++rules_done)
            step(SyncInEffect{rules[rules_done].rule});
        sample();
    }
    EXPECT_EQ(node->durable().configuration.sync.quorum, 1);
    for (const Note &note : all<Note>())
        EXPECT_EQ(note.reason.find("given up"), std::string::npos) << note.reason;
}

// ---- lost and found -------------------------------------------------------------------------------------------

// 3 s down, 5 s up, for five minutes: each time that it is counted when its link breaks, commits stall.
TEST(StreamWatch, AFlappingLinkCostsAFewStallsNotOneEachTime) {
    constexpr Duration patience = seconds(2);
    StreamWatch watch;
    bool counted = true;
    int stalls = 0;
    const Instant begin{seconds(1000)};
    for (Instant now = begin; now < begin + seconds(300); now += milliseconds(200)) {
        if ((now - begin) % seconds(8) >= seconds(3))
            watch.report(true, true, static_cast<Lsn>((now - begin).count()), Lsn::none, now, patience);
        if (counted && watch.overdue(begin, now, patience)) {
            watch.lose(patience);
            counted = false;
            ++stalls;
        }
        counted = counted || watch.steady(now, patience);
    }
    EXPECT_GE(stalls, 1);
    EXPECT_LE(stalls, 3);
}

TEST(StreamWatch, SlowIsNotLostAndHangingIs) {
    constexpr Duration patience = seconds(2);
    StreamWatch slow, hangs, idle;
    const Instant begin{seconds(1000)};
    for (int i = 1; i <= 20; ++i) {
        const Instant now = begin + i * milliseconds(200);
        slow.report(true, false, static_cast<Lsn>(i), static_cast<Lsn>(1000 * i), now, patience);
        hangs.report(true, true, static_cast<Lsn>(1), static_cast<Lsn>(1000 * i), now, patience);
        idle.report(true, true, static_cast<Lsn>(7), static_cast<Lsn>(7), now, patience);
    }
    const Instant end = begin + seconds(4);
    EXPECT_FALSE(slow.overdue(begin, end, patience));
    EXPECT_TRUE(hangs.overdue(begin, end, patience));
    EXPECT_FALSE(idle.overdue(begin, end, patience));
    EXPECT_FALSE(slow.steady(end, patience)) << "commits would wait for it";
    EXPECT_TRUE(idle.steady(end, patience));
    EXPECT_FALSE(hangs.overdue(end, end, patience)) << "who did not listen knows nothing";
}
