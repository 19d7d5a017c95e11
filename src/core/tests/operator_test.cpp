// SPDX-License-Identifier: PostgreSQL
//
// What operators ask: a switchover ends the term only when the successor has all WAL, and is given up without a
// trace otherwise; a pause stops elections of all but the last primary; only who is gone can be removed.
#include "schedule.hpp"

namespace {

class Operator : public Schedule {
protected:
    // All three here and streaming, the record in force.
    void lead() {
        start_as_primary();
        now += milliseconds(1);
        step(Tick{});
        all_answer();
        ASSERT_TRUE(has_lease());
        out.clear();
    }
    void all_answer(std::uint64_t behind = 0) {
        LocalState theirs;
        theirs.position_known = theirs.streaming = true;
        theirs.position = position(1, raw(local.position.lsn) - behind);
        theirs.replayed = theirs.position.lsn;
        answer(2, 1, theirs);
        answer(3, 1, theirs);
    }
    void order(const Command &command) { step(command); }
    std::string obstacle(const Command &command) { return node->obstacle(command, now); }
    bool fenced() const {
        for (auto output = out.rbegin(); output != out.rend(); ++output)
            if (const auto *lease = std::get_if<SetLease>(&*output))
                return lease->until == long_ago;
        return false;
    }
};

TEST_F(Operator, ASwitchoverEndsTheTermWhenTheSuccessorHasAllWal) {
    lead();
    order(Switchover{id(2)});
    EXPECT_TRUE(fenced());
    EXPECT_EQ(role(), Role::primary);
    EXPECT_TRUE(sent<Resign>().empty());
    local.position = position(1, 1100); // a commit that was under way
    sample();
    local.position = position(1, 1200); // what is no commit
    sample();
    all_answer(200);
    EXPECT_TRUE(sent<Resign>().empty()) << "n2 lacks the last 100 bytes";
    all_answer(100);
    ASSERT_EQ(sent<Resign>().size(), 2u);
    EXPECT_EQ(sent<Resign>()[0].successor, id(2));
    EXPECT_EQ(sent<StandNow>().size(), 1u);
    EXPECT_EQ(role(), Role::deposed);
    EXPECT_TRUE(all<Demote>().empty()) << "its vote may be needed";
    hear(2, 2, request(false, 2, local.position));
    ASSERT_EQ(sent<VoteReply>().size(), 1u);
    EXPECT_TRUE(sent<VoteReply>()[0].granted);
    pass(milliseconds(100));
    EXPECT_EQ(all<Demote>().size(), 1u);
}

TEST_F(Operator, ASwitchoverWaitsForAWordOfTheSuccessor) {
    lead(); // idle: all have said before that they have everything
    const Instant before = now;
    now += milliseconds(10);
    order(Switchover{id(2)});
    sample();
    MemberReport self = report(2, 1);
    self.local.replayed = self.local.position.lsn;
    hear(2, 1, HeartbeatReply{before, true, node->durable().configuration.version, self});
    EXPECT_TRUE(sent<Resign>().empty()) << "it may have died since";
    all_answer();
    EXPECT_EQ(sent<Resign>().size(), 2u);
}

TEST_F(Operator, ASwitchoverBegunInAStepThatCouldNotBeSavedIsVoid) {
    lead();
    order(Switchover{id(2)});
    out.clear(); // dropped: so PostgreSQL still has its lease, and acknowledges
    step(PersistFailed{disk});
    ASSERT_FALSE(all<SetLease>().empty());
    EXPECT_EQ(all<SetLease>()[0].until, long_ago);
    EXPECT_TRUE(has_lease()) << "it goes on as primary";
    sample();
    all_answer();
    EXPECT_TRUE(sent<Resign>().empty());
}

TEST_F(Operator, ASwitchoverCountsOnNobodyWhoMayHaveToBeRewound) {
    lead();
    LocalState streaming;
    streaming.position_known = streaming.streaming = true;
    streaming.position = local.position = position(3, 5000);
    streaming.replayed = static_cast<Lsn>(5000);
    sample();
    answer(2, 1, streaming);
    EXPECT_EQ(obstacle(Switchover{id(2)}), "not enough voters besides this server follow it to elect a successor") << "n3 is on timeline 1";
    answer(3, 1, streaming);
    EXPECT_EQ(obstacle(Switchover{id(2)}), "");
}

TEST_F(Operator, ASwitchoverThatTakesTooLongIsGivenUp) {
    lead();
    order(Switchover{id(2)});
    local.position = position(1, 1100);
    for (int i = 0; i < 40; ++i) {
        pass(milliseconds(100));
        all_answer(100);
    }
    EXPECT_TRUE(sent<Resign>().empty());
    EXPECT_EQ(role(), Role::primary);
    EXPECT_TRUE(has_lease());
    EXPECT_NE(node->status(now).reason.find("given up"), std::string::npos);
}

TEST_F(Operator, ASwitchoverIsRefusedWhereItCannotSucceed) {
    lead();
    EXPECT_EQ(obstacle(Switchover{id(1)}), "n1 is the primary already");
    EXPECT_EQ(obstacle(Switchover{id(9)}), "node 9 is no member");
    EXPECT_EQ(obstacle(Switchover{}), "");
    LocalState slow;
    slow.position_known = slow.streaming = true;
    slow.position = local.position = position(1, 64 << 20);
    slow.replayed = static_cast<Lsn>(1 << 20);
    sample();
    answer(2, 1, slow);
    EXPECT_EQ(obstacle(Switchover{id(2)}), "n2 has 66060288 bytes of WAL to replay");
    all_answer();
    order(Switchover{id(3)});
    EXPECT_EQ(obstacle(Switchover{id(2)}), "a switchover to n3 is under way");
}

TEST_F(Operator, TheOthersLetTheSuccessorStandFirst) {
    start(2);
    hear(1, 1, Resign{false, id(3)});
    pass(milliseconds(400));
    EXPECT_TRUE(sent<VoteRequest>().empty());
    pass(seconds(2));
    EXPECT_FALSE(sent<VoteRequest>().empty()) << "the successor has died meanwhile";
}

TEST_F(Operator, APauseIsRecordedAndEnded) {
    lead();
    order(SetPaused{true});
    all_answer();
    EXPECT_TRUE(disk.configuration.paused);
    all_answer();
    order(SetPaused{false});
    EXPECT_FALSE(disk.configuration.paused);
}

TEST_F(Operator, WhilePausedOnlyTheLastPrimaryStands) {
    disk.configuration.paused = true;
    start(2);
    hear(1, 1, Resign{false});
    pass(seconds(5));
    EXPECT_TRUE(sent<VoteRequest>().empty());
    EXPECT_EQ(obstacle(StandByOrder{}), "not enough voters are heard for an election");
    Heartbeat h;
    h.self = report(3, 1);
    h.self.local.position = position(1, 1500);
    hear(3, 1, h);
    EXPECT_EQ(obstacle(StandByOrder{}), "n3 has more WAL: call it there");
    h.self = report(3, 1);
    hear(3, 1, h);
    order(StandByOrder{});
    pass(milliseconds(1));
    EXPECT_FALSE(sent<VoteRequest>().empty());
    disk.configuration.recorded_by = id(2);
    out.clear();
    start(2);
    pass(seconds(5));
    EXPECT_FALSE(sent<VoteRequest>().empty()) << "it was the primary of this term, and comes back";
}

// n2 of a paused cluster without a primary is told to stand; n3 was last known to have no more WAL.
class Order : public Operator {
protected:
    void tell() {
        disk.configuration.paused = true;
        start(2);
        hear(1, 1, Resign{false});
        Heartbeat h;
        h.self = report(3, 1);
        hear(3, 1, h);
        out.clear();
        order(StandByOrder{});
        ASSERT_TRUE(asks());
    }
    bool asks(Duration within = seconds(2)) { // for pre-votes
        out.clear();
        for (const Instant until = now + within; now < until && sent<VoteRequest>().empty();)
            pass(milliseconds(1));
        return !sent<VoteRequest>().empty();
    }
    void refuse(Refusal why, Position at) { hear(3, 1, VoteReply{true, term(2), false, why, at, {}}); }
    OrderStatus state() const { return node->status(now).order; }
};

TEST_F(Order, EndsWithTheNameOfTheServerThatHasMoreWal) {
    tell();
    refuse(Refusal::position_behind, position(1, 1500));
    EXPECT_TRUE(state().holds) << "half a record, perhaps, that its recovery gives up";
    ASSERT_TRUE(asks());
    refuse(Refusal::position_behind, position(1, 1500));
    EXPECT_FALSE(state().holds);
    EXPECT_EQ(state().ended, "n3 has more WAL (up to 1/0/5DC, here up to 1/0/3E8)");
    EXPECT_EQ(state().ahead, id(3));
    EXPECT_FALSE(asks(seconds(70))) << "nobody waits for an election any more";
    EXPECT_EQ(role(), Role::standby);
    hear(3, 1, VoteReply{true, term(2), true, Refusal::none, local.position, {}});
    EXPECT_EQ(role(), Role::standby) << "an answer that comes too late";
}

TEST_F(Order, IsTriedAgainAfterBallotsLostByChance) {
    tell();
    ASSERT_TRUE(asks()) << "no answer";
    refuse(Refusal::promised, position(1, 1000));
    hear(1, 1, VoteReply{true, term(2), false, Refusal::just_restarted, position(1, 1000), {}});
    EXPECT_TRUE(state().holds);
    EXPECT_NE(node->status(now).reason.find("n1 refuses"), std::string::npos) << node->status(now).reason;
    ASSERT_TRUE(asks());
    refuse(Refusal::position_behind, position(1, 900)); // asked before n2 had all its WAL
    EXPECT_TRUE(state().holds);
    ASSERT_TRUE(asks());
    win(2);
    EXPECT_EQ(role(), Role::promoting);
    EXPECT_FALSE(state().holds);
    EXPECT_EQ(state().ended, "");
}

TEST_F(Order, EndsByItself) {
    tell();
    pass(seconds(59));
    EXPECT_TRUE(state().holds);
    pass(seconds(2));
    EXPECT_FALSE(state().holds);
    EXPECT_FALSE(asks(seconds(10)));
}

TEST_F(Order, EndsWhenAPrimaryIsHeard) {
    tell();
    hear(3, 2, primary_heartbeat(3, 2));
    EXPECT_FALSE(state().holds);
    EXPECT_FALSE(asks(seconds(10)));
}

TEST_F(Order, IsNotForWhoLacksTooMuchOfAnAsynchronousPrimary) {
    disk.configuration.synchronous = settings.synchronous = false;
    disk.configuration.sync = SyncRule{};
    settings.max_lag_on_failover = 100;
    tell();
    refuse(Refusal::position_behind, position(1, 1000)); // n3 lacks it, too, and has heard of it
    EXPECT_TRUE(state().holds);
    hear(1, 1, VoteReply{true, term(2), false, Refusal::position_behind, position(1, 1000), {}});
    EXPECT_FALSE(state().holds);
    EXPECT_NE(state().ended.find("max_lag_on_failover"), std::string::npos) << state().ended;
    Heartbeat late = primary_heartbeat(1, 1);
    late.lineage_confirmed = static_cast<Lsn>(2000);
    hear(1, 1, late, 2);
    hear(1, 1, Resign{false}, 2);
    EXPECT_NE(obstacle(StandByOrder{}).find("max_lag_on_failover"), std::string::npos);
}

TEST_F(Operator, ASuccessorStandsWhilePaused) {
    disk.configuration.paused = true;
    start(2);
    hear(1, 1, Resign{false, id(2)});
    hear(1, 1, StandNow{});
    pass(milliseconds(1));
    EXPECT_FALSE(sent<VoteRequest>().empty());
}

TEST_F(Operator, OnlyWhoIsGoneIsRemoved) {
    lead();
    EXPECT_NE(obstacle(RemoveMember{id(3)}).find("stop it first"), std::string::npos);
    EXPECT_EQ(obstacle(RemoveMember{id(1)}), "n1 is the primary: switch over first");
    for (int i = 0; i < 100; ++i) { // n3 falls silent, and leaves the sync set
        pass(milliseconds(100));
        LocalState theirs;
        theirs.position_known = theirs.streaming = true;
        theirs.position = local.position;
        theirs.replayed = local.position.lsn;
        answer(2, 1, theirs);
        if (!all<ApplySync>().empty())
            step(SyncInEffect{all<ApplySync>().back().rule});
    }
    ASSERT_EQ(obstacle(RemoveMember{id(3)}), "");
    order(RemoveMember{id(3)});
    EXPECT_EQ(disk.configuration.find(id(3)), nullptr);
}

} // namespace
