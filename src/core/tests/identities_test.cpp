// SPDX-License-Identifier: PostgreSQL
//
// Schedules that once broke a rule, as in schedules_test.cpp: who is a member, and as whom.  Removed members, old
// copies, records that somebody missed, and servers whose WAL was made by hand.
#include "schedule.hpp"

namespace {

class Identities : public Schedule {};

} // namespace

// ---- membership --------------------------------------------------------------------------------------------

// Simulator seed 8075562: of those it knows nobody is the primary, and the primary does not know it.
TEST_F(Identities, ARemovedMemberIsShownWhoTheMembersAre) {
    start(2);
    Heartbeat h;
    h.self = report(9, 1);
    hear(9, 1, h); // removed; its configuration is older than ours
    ASSERT_EQ(sent<Heartbeat>().size(), 1u);
    ASSERT_TRUE(sent<Heartbeat>()[0].configuration);
    Heartbeat shown = sent<Heartbeat>()[0];
    out.clear();
    shown.configuration->version.index = 7;
    std::erase_if(shown.configuration->members, [](const Member &m) { return m.id == id(2); }); // now it is us
    shown.configuration->members.push_back({id(8), "n8", MemberKind::data, true, {"h", 1}, {"h", 2}, 100});
    shown.self = report(3, 1);
    hear(3, 1, shown);
    ASSERT_EQ(all<SetPeers>().size(), 1u);
    EXPECT_EQ(all<SetPeers>()[0].members.size(), 4u);
    EXPECT_EQ(disk.configuration, three_voters()) << "that is for the primary to say";
}

// Simulator seed 7000123: a removed member is put back to an earlier time, when nobody remembers it any more.  Its old
// identity must not vote a second time (I1).
TEST_F(Identities, ARemovedMemberComesBackAsSomebodyElse) {
    disk.voted_for = id(1);
    start(2);
    hear(1, 1, Rejected{Rejection::not_member, disk.incarnation});
    EXPECT_EQ(role(), Role::joining);
    EXPECT_NE(node->durable().self, id(2));
    EXPECT_EQ(node->durable().voted_for, NodeId::none);
    EXPECT_EQ(node->durable().configuration, Configuration{});
}

// Simulator seed 7003735: whoever it knows has another identity by now, so it asks nobody who could tell it.
TEST_F(Identities, ARemovedMemberIsToldWhenItAnswersThePrimary) {
    start_as_primary();
    now += milliseconds(1);
    step(Tick{});
    answer(2, 1);
    answer(3, 1);
    out.clear();
    hear(9, 1, HeartbeatReply{now, false, {term(1), 1}, report(9, 1)});
    ASSERT_EQ(sent<Rejected>().size(), 1u);
    EXPECT_EQ(sent<Rejected>()[0].why, Rejection::not_member);
}

// I2: whoever remembers is enough.  Even a primary gives way: its commits might be counted twice.
TEST_F(Identities, AnOldCopyLosesItsIdentityByAnyonesWord) {
    for (const Rejection why : {Rejection::stale_incarnation, Rejection::cloned_identity}) {
        disk.configuration = three_voters();
        start(2);
        hear(3, 0, Rejected{why, disk.incarnation, static_cast<Instance>(raw(node->instance()) ^ 2)});
        EXPECT_EQ(role(), Role::standby) << "another run is meant";
        hear(3, 0, Rejected{why, disk.incarnation, node->instance()});
        EXPECT_EQ(role(), Role::joining);
        EXPECT_NE(disk.self, id(2));
        EXPECT_EQ(disk.configuration, Configuration{});
    }
}

// Simulator seed 12047119: admitted while PostgreSQL was open by hand.  The admission was stored, that the WAL is
// nobody's was not: the node waited to be admitted for ever, and nobody had anything to tell it.
TEST_F(Identities, AnAdmissionThatWasStoredCountsAlthoughTheNextSaveFailed) {
    for (const unsigned known_term : {0u, 1u}) {
        disk = DurableState{};
        disk.term = term(known_term);
        disk.incarnation = static_cast<Incarnation>(7);
        local.in_recovery = false;
        local.position = position(2, 1000);
        start(2);
        ASSERT_EQ(role(), Role::joining);
        Heartbeat admission = primary_heartbeat(1, 1);
        admission.configuration = three_voters();
        admission.config_version = admission.configuration->version;
        std::optional<DurableState> stored;
        for (const Output &output : node->step(Received{{cluster, id(1), id(2), static_cast<Incarnation>(1), term(1), admission}}, now))
            if (const auto *persist = std::get_if<Persist>(&output); persist && persist->state.configuration.find(id(2)))
                stored = persist->state;
        ASSERT_TRUE(stored);
        ASSERT_EQ(node->durable().configuration, Configuration{}) << "that save is the one that fails";
        step(PersistFailed{stored});
        sample();
        EXPECT_EQ(role(), Role::deposed);
        EXPECT_EQ(disk.by_hand, static_cast<Timeline>(2));
        EXPECT_EQ(disk.configuration, Configuration{});
    }
}

TEST_F(Identities, APrimaryThatIsAnOldCopyIsFencedAndRestarts) {
    start_as_primary();
    hear(2, 1, Rejected{Rejection::stale_incarnation, disk.incarnation, node->instance()});
    EXPECT_EQ(role(), Role::deposed);
    EXPECT_NE(disk.self, id(1));
    pass(milliseconds(500));
    EXPECT_EQ(all<Demote>().size(), 1u);
}

TEST_F(Identities, WhoSpeaksAsAnOldCopyIsToldAndNotHeard) {
    start(2);
    Received restored{{cluster, id(3), id(2), static_cast<Incarnation>(6), term(5), Heartbeat{}}};
    Received real = restored;
    real.message.incarnation = static_cast<Incarnation>(4);
    real.message.saves = 9;
    real.message.term = term(1);
    std::get<Heartbeat>(real.message.body).self = report(3, 1);
    step(real);
    out.clear();
    restored.message.instance = static_cast<Instance>(77);
    step(restored);
    step(restored);
    ASSERT_EQ(sent<Rejected>().size(), 2u);
    EXPECT_EQ(sent<Rejected>()[0].why, Rejection::stale_incarnation);
    EXPECT_EQ(sent<Rejected>()[0].instance, static_cast<Instance>(77));
    EXPECT_EQ(all<Note>().size(), 1u) << "loud, but once";
    EXPECT_EQ(node->durable().term, term(1));
}

// Weeks may pass without an election.  A copy of the data directory has to be told from the real one all the same.
TEST_F(Identities, TheStateIsSavedAgainNowAndThen) {
    start(2);
    const std::uint64_t before = disk.saves;
    pass(std::chrono::minutes(6));
    EXPECT_GE(disk.saves, before + 2);
}

// A record so old, perhaps of a copy, that nobody it names is left.  The primary that hears of it can send its own
// record, or say that the copy is one.
TEST_F(Identities, AnOldRecordIsShownToAPrimaryThatItDoesNotName) {
    start(2);
    out.clear();
    Heartbeat h;
    h.leader = id(9);
    h.self = report(9, 5);
    hear(9, 5, h);
    ASSERT_EQ(sent<HeartbeatReply>().size(), 1u);
    EXPECT_FALSE(sent<HeartbeatReply>()[0].follows);
    EXPECT_EQ(sent<HeartbeatReply>()[0].config_version, (Version{term(1), 1}));
    EXPECT_EQ(node->durable().term, term(1));
}

// The primary and one more have died; what is left knows each other only by a record that this voter missed.
TEST_F(Identities, AVoterLearnsOfAMissedRecordFromItsPeers) {
    start(3);
    Configuration five = disk.configuration;
    five.version.index = 7;
    for (unsigned n : {4u, 5u})
        five.members.push_back({id(n), "n" + std::to_string(n), MemberKind::data, true, {"h", 1}, {"h", 2}, 100});
    Heartbeat h;
    h.config_version = five.version;
    h.configuration = five;
    h.self = report(4, 1);
    hear(4, 1, h);
    EXPECT_EQ(node->durable().configuration, five);
    pass(settings.lease_duration * 2);
    out.clear();
    hear(4, 5, request(true, 5, position(1, 5000)));
    ASSERT_EQ(sent<VoteReply>().size(), 1u);
    EXPECT_TRUE(sent<VoteReply>()[0].granted);
}

// The way back: a removed node's own old record does not make it a member again.
TEST_F(Identities, ARemovedNodeIsToldSoWhateverRecordItShows) {
    start_as_primary();
    now += milliseconds(1);
    step(Tick{});
    out.clear();
    Heartbeat h;
    h.configuration = disk.configuration;
    h.configuration->members.push_back({id(9), "n9", MemberKind::data, true, {"h", 1}, {"h", 2}, 100});
    h.self = report(9, 1);
    hear(9, 1, h);
    EXPECT_TRUE(sent<Rejected>().empty()) << "the record that removed it may still come to nothing";
    answer(2, 1);
    hear(9, 1, h);
    ASSERT_EQ(sent<Rejected>().size(), 1u);
    EXPECT_EQ(sent<Rejected>()[0].why, Rejection::not_member);
}

// An old copy of a primary, of a time before this node was admitted, cannot tell.
TEST_F(Identities, AMemberDoesNotBelieveARecordOlderThanItsOwn) {
    disk.configuration.version.index = 9;
    start(2);
    Heartbeat h = primary_heartbeat(1, 1);
    h.config_version = {term(1), 1};
    hear(1, 1, h);
    hear(1, 1, Rejected{Rejection::not_member, disk.incarnation, node->instance()});
    EXPECT_EQ(role(), Role::standby);
    EXPECT_EQ(disk.self, id(2));
}

TEST_F(Identities, WhoPassesARequestOnIsNotTheOneRejected) {
    start_as_primary();
    out.clear();
    hear(2, 1, JoinRequest{{id(9), "n1", MemberKind::data, false, {"h", 1}, {"h", 2}, 100}, 0});
    EXPECT_TRUE(sent<Rejected>().empty());
}

// A silence of a second is no death: who asks under a member's name meanwhile does not take its place.
TEST_F(Identities, ASilentMemberIsNotReplacedBeforeItIsUnreachable) {
    start_as_primary();
    answer(2, 1);
    answer(3, 1);
    now += milliseconds(1200);
    answer(3, 1);
    out.clear();
    const JoinRequest impostor{{id(9), "n2", MemberKind::data, false, {"h", 1}, {"h", 2}, 100}, 0};
    hear(9, 1, impostor);
    ASSERT_EQ(sent<Rejected>().size(), 1u);
    EXPECT_EQ(sent<Rejected>()[0].why, Rejection::name_in_use);
    now += seconds(2);
    answer(3, 1);
    hear(9, 1, impostor);
    EXPECT_EQ(sent<Rejected>().size(), 1u) << "now it is: its removal begins";
    answer(2, 1);
    answer(3, 1);
    step(SyncInEffect{disk.configuration.sync});
    sample();
    answer(3, 1);
    answer(2, 1);
    EXPECT_NE(node->durable().configuration.find(id(2)), nullptr) << "it was back in time";
}

// A worker that stood still reads what nodes have sent that are dead by now, with their identities.  One of them as
// the second voter: a primary without a lease for good.
TEST_F(Identities, WhoWasHeardButDoesNotAnswerBecomesNoVoter) {
    disk.configuration.sync = {{id(1)}, 1};
    for (unsigned n : {2u, 3u})
        disk.configuration.members[n - 1].voter = false;
    start_as_primary();
    LocalState not_yet = local;
    not_yet.in_recovery = true;
    for (unsigned n : {2u, 3u})
        answer(n, 1, not_yet);
    const Instant asked = now;
    now += seconds(3);
    for (unsigned n : {2u, 3u}) {
        Heartbeat waiting;
        waiting.sent = asked + milliseconds(200);
        waiting.leader = id(1);
        waiting.config_version = disk.configuration.version;
        waiting.self = report(n, 1);
        hear(n, 1, waiting);
        hear(n, 1, HeartbeatReply{asked, true, disk.configuration.version, report(n, 1), {}, {}});
    }
    sample();
    step(Tick{});
    EXPECT_EQ(node->durable().configuration.voter_count(), 1u);
    for (unsigned n : {2u, 3u})
        answer(n, 1);
    EXPECT_EQ(node->durable().configuration.voter_count(), 2u) << "the first on the way to three";
}

// ---- a promotion by hand ---------------------------------------------------------------------------------

TEST_F(Identities, APromotionByHandIsRememberedInTheState) {
    start(2);
    hear(1, 1, primary_heartbeat(1, 1));
    local.in_recovery = false;
    local.position = position(2, 1056);
    sample();
    EXPECT_EQ(node->status(now).role, Role::deposed);
    EXPECT_EQ(raw(disk.by_hand), 2u);
    EXPECT_NE(disk.self, id(2)) << "it has no vote any more";
}

// The primary's timeline 2 contains position 2/1000, by its number; but this server's is another.
TEST_F(Identities, WalMadeByHandIsNeverStreamedOnAndAsksForAClone) {
    disk.by_hand = static_cast<Timeline>(2);
    disk.term = term(2);
    follow_with(position(2, 1000), 2, {{static_cast<Timeline>(1), static_cast<Lsn>(500)}, {static_cast<Timeline>(2), Lsn::none}});
    EXPECT_TRUE(all<OpenGate>().empty());
    ASSERT_EQ(all<Rejoin>().size(), 1u);
    EXPECT_TRUE(all<Rejoin>().back().numbers_shared);
    EXPECT_EQ(all<Rejoin>().back().fork, Position{});
}

TEST_F(Identities, WalMadeByHandBeyondThePrimarysTimelinesIsRewound) {
    disk.by_hand = static_cast<Timeline>(2);
    follow_with(position(2, 1000), 1, {{static_cast<Timeline>(1), Lsn::none}});
    EXPECT_TRUE(all<OpenGate>().empty());
    ASSERT_EQ(all<Rejoin>().size(), 1u);
    EXPECT_FALSE(all<Rejoin>().back().numbers_shared);
}

TEST_F(Identities, WhatTheWalreceiverFindsForeignIsMadeByHand) {
    disk.term = term(2);
    local.position = position(2, 1000);
    start(2);
    Heartbeat heartbeat = primary_heartbeat(1, 2);
    heartbeat.lineage = {{static_cast<Timeline>(1), static_cast<Lsn>(500)}, {static_cast<Timeline>(2), Lsn::none}};
    hear(1, 2, heartbeat);
    ASSERT_EQ(all<OpenGate>().size(), 1u);
    const Sampled seen{local, {}, Lsn::none, static_cast<Timeline>(2)};
    step(seen);
    EXPECT_FALSE(all<CloseGate>().empty());
    EXPECT_EQ(raw(disk.by_hand), 2u);
    const NodeId once = disk.self;
    EXPECT_NE(once, id(2));
    step(seen);
    EXPECT_EQ(disk.self, once) << "it is told once only";
}
