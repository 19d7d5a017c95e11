// SPDX-License-Identifier: PostgreSQL
//
// A member with failover_priority 0 that has WAL which nobody else has: it refuses its vote to all who lack that WAL,
// so without it as stand-in there would be no primary until a person came.  It leads until another has what it has.
#include "schedule.hpp"

#include <algorithm>

namespace {

class StandIn : public Schedule {
protected:
    // n3 must not become primary; n1, the primary, is gone.
    void without_primary(unsigned self) {
        disk.configuration.members[2].priority = 0;
        settings.priority = self == 3 ? 0 : 100;
        start(self);
        pass(settings.lease_duration);
        hear(1, 1, Resign{false});
        wait(milliseconds(0));
    }
    // The other voter, n2 or n3, is there all the time; n3 has more WAL.
    void wait(Duration time) {
        const unsigned other = disk.self == id(3) ? 2 : 3;
        for (const Instant until = now + time;; pass(milliseconds(10))) {
            Heartbeat h;
            h.self = report(other, 1);
            h.self.local.position = position(1, other == 2 ? 900 : 1100);
            hear(other, 1, h);
            if (now >= until)
                return;
        }
    }
    void elect_stand_in() {
        local.position = position(1, 1 << 30);
        without_primary(3);
        while (sent<VoteRequest>().empty())
            wait(milliseconds(10));
        hear(2, 1, VoteReply{true, term(2), true, Refusal::none, position(1, 900), {}});
        hear(2, 2, VoteReply{false, term(2), true, Refusal::none, position(1, 900), {}});
        ASSERT_EQ(role(), Role::promoting);
        open(2);
    }
    void streams(std::uint64_t behind) { // n2, from n3; n1 is back as well
        LocalState theirs;
        theirs.position_known = theirs.streaming = true;
        theirs.position = position(2, raw(local.position.lsn) - behind);
        theirs.replayed = theirs.position.lsn;
        answer(2, 2, theirs);
        theirs.position = position(2, raw(local.position.lsn) - (128 << 20)); // and far behind
        answer(1, 2, theirs);
        for (const ApplySync &asked : all<ApplySync>())
            step(SyncInEffect{asked.rule});
    }
};

TEST_F(StandIn, StandsAfterTheOthersWhenOneOfThemLacksItsWal) {
    without_primary(3);
    wait(milliseconds(400));
    EXPECT_TRUE(sent<VoteRequest>().empty());
    wait(milliseconds(400));
    EXPECT_EQ(sent<VoteRequest>().size(), 2u);
}

TEST_F(StandIn, NeverStandsWhereNobodyLacksItsWal) {
    local.position = position(1, 900);
    without_primary(3);
    wait(seconds(10));
    EXPECT_TRUE(sent<VoteRequest>().empty());
}

TEST_F(StandIn, IsNotGivenWayTo) {
    without_primary(2);
    pass(milliseconds(20));
    ASSERT_FALSE(sent<VoteRequest>().empty());
    hear(3, 1, VoteReply{true, term(2), false, Refusal::position_behind, position(1, 1100), {}});
    EXPECT_TRUE(sent<StandNow>().empty()) << "the other voters may be enough";
}

TEST_F(StandIn, IsGivenTheVote) {
    without_primary(2);
    hear(3, 1, request(true, 2, position(1, 1100)));
    ASSERT_EQ(sent<VoteReply>().size(), 1u);
    EXPECT_TRUE(sent<VoteReply>()[0].granted);
}

TEST_F(StandIn, HandsOverToTheFirstThatHasItsWal) {
    elect_stand_in();
    streams(64 << 20);
    pass(milliseconds(300));
    streams(64 << 20);
    EXPECT_TRUE(sent<Resign>().empty());
    EXPECT_EQ(role(), Role::primary);
    for (int i = 0; i < 10 && sent<Resign>().empty(); ++i) {
        streams(0);
        pass(milliseconds(100));
    }
    ASSERT_FALSE(sent<Resign>().empty());
    EXPECT_EQ(sent<Resign>()[0].successor, id(2));
    EXPECT_EQ(role(), Role::deposed);
}

TEST_F(StandIn, StaysPrimaryWhileAPauseLasts) {
    disk.configuration.paused = true;
    without_primary(3);
    step(StandByOrder{});
    pass(milliseconds(1));
    ASSERT_EQ(sent<VoteRequest>().size(), 2u) << "the operator calls it where the WAL is";
    hear(2, 1, VoteReply{true, term(2), true, Refusal::none, position(1, 900), {}});
    hear(2, 2, VoteReply{false, term(2), true, Refusal::none, position(1, 900), {}});
    open(2);
    for (int i = 0; i < 10; ++i) {
        streams(0);
        pass(milliseconds(100));
    }
    EXPECT_TRUE(sent<Resign>().empty());
    EXPECT_EQ(role(), Role::primary);
}

TEST_F(StandIn, APrimaryWhosePriorityBecomesZeroHandsOver) {
    start_as_primary();
    settings.priority = 0;
    node->reconfigure(settings);
    for (int i = 0; i < 10 && role() == Role::primary; ++i) {
        LocalState theirs;
        theirs.position_known = theirs.streaming = true;
        theirs.position = local.position;
        theirs.replayed = local.position.lsn;
        answer(2, 1, theirs);
        answer(3, 1, theirs);
        pass(milliseconds(100));
    }
    EXPECT_EQ(role(), Role::deposed);
}

// -- where the settings of now are not those of the record

TEST_F(StandIn, WhoIsNamedAsSuccessorLeadsWhateverItsPriorityHasBecome) {
    settings.priority = 0; // not recorded yet: the primary could not know
    start(3);
    hear(1, 1, primary_heartbeat(1, 1));
    hear(1, 1, Resign{false, id(3)});
    hear(1, 1, StandNow{});
    pass(milliseconds(50));
    EXPECT_EQ(sent<VoteRequest>().size(), 2u) << "otherwise nobody may be left to stand";
}

TEST_F(StandIn, StandsWhereACandidateLacksItsWalWhateverTheRecordSays) {
    disk.configuration.members[1].priority = 0; // raised since, which nobody can record without a primary
    without_primary(3);
    wait(seconds(3));
    EXPECT_TRUE(sent<VoteRequest>().empty());
    hear(2, 1, request(true, 2, position(1, 900)));
    ASSERT_FALSE(sent<VoteReply>().back().granted);
    wait(seconds(1));
    EXPECT_EQ(sent<VoteRequest>().size(), 2u);
}

TEST_F(StandIn, OfACandidateThatHasItsWalItTakesNoNotice) {
    disk.configuration.members[1].priority = 0;
    local.position = position(1, 900);
    without_primary(3);
    hear(2, 1, request(true, 2, position(1, 900)));
    wait(seconds(3));
    EXPECT_TRUE(sent<VoteRequest>().empty());
}

TEST_F(StandIn, TheLastPrimaryOfAPausedClusterComesBackAsPrimary) {
    disk.configuration.paused = true;
    disk.configuration.recorded_by = id(3);
    local.position = position(1, 900); // as much as n2
    without_primary(3);
    wait(seconds(3));
    EXPECT_GE(sent<VoteRequest>().size(), 2u) << "nobody else stands while a pause lasts";
}

// -- a successor that does not come to an end

class StandInThatIsKept : public StandIn {
protected:
    unsigned given_up() const {
        const std::vector<Note> notes = all<Note>();
        return static_cast<unsigned>(std::count_if(notes.begin(), notes.end(), [](const Note &note) {
            return note.reason.find("given up") != std::string::npos;
        }));
    }
    void lead_for(Duration time, bool third_has_replayed) { // n2 never replays the last byte
        settings.synchronous = disk.configuration.synchronous = false;
        disk.configuration.sync = {};
        start_as_primary();
        settings.priority = 0;
        node->reconfigure(settings);
        for (const Instant until = now + time; now < until && role() == Role::primary; pass(milliseconds(100))) {
            LocalState theirs;
            theirs.position_known = theirs.streaming = true;
            theirs.position = local.position;
            theirs.replayed = static_cast<Lsn>(raw(local.position.lsn) - 1);
            answer(2, 1, theirs);
            if (third_has_replayed)
                theirs.replayed = local.position.lsn;
            answer(3, 1, theirs);
        }
    }
};

TEST_F(StandInThatIsKept, TriesMoreAndMoreSeldom) {
    lead_for(seconds(150), false);
    EXPECT_EQ(role(), Role::primary);
    EXPECT_EQ(given_up(), 4u) << "at once, then after 10, 20 and 40 leases";
}

TEST_F(StandInThatIsKept, TriesAnotherOneNext) {
    lead_for(seconds(60), true);
    EXPECT_EQ(given_up(), 1u);
    ASSERT_FALSE(sent<Resign>().empty());
    EXPECT_EQ(sent<Resign>()[0].successor, id(3));
}

// -- what people read

TEST_F(StandIn, SaysThatNobodyMayLead) {
    disk.configuration.members[1].priority = 0;
    local.position = position(1, 900);
    without_primary(3);
    hear(2, 2, request(true, 3, local.position)); // a new term, in which nobody leads
    hear(2, 2, VoteReply{true, term(3), false, Refusal::none, local.position, {}});
    wait(seconds(3));
    EXPECT_EQ(node->status(now).failover_reason,
              "there is no primary: nobody who is heard may lead, because of failover_priority 0: n2, n3");
}

TEST_F(StandIn, SaysWhyNoOrderMakesItThePrimary) {
    disk.configuration.paused = true;
    local.position = position(1, 900);
    without_primary(3);
    EXPECT_EQ(node->status(now).failover_reason, "elections are paused and there is no primary: this node has "
                                                 "failover_priority 0, and no WAL that others lack");
}

} // namespace
