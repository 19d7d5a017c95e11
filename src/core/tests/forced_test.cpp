// SPDX-License-Identifier: PostgreSQL
//
// A failover that an operator forces: what stands in its way, that it is stored before anybody hears of
// it, and that the old primary, if it was the only voter, asks before it acknowledges anything again.
#include "core/node.hpp"

#include <gtest/gtest.h>

using namespace pg_ha;
using std::chrono::milliseconds;
using std::chrono::seconds;

namespace {

constexpr ClusterId cluster{1, 2};
constexpr NodeId self{1}, other{2}, third{3};

template <class T> const T *first(const Outputs &outputs) {
    for (const Output &output : outputs)
        if (const auto *found = std::get_if<T>(&output))
            return found;
    return nullptr;
}

Member member(NodeId id, MemberKind kind, bool voter) {
    return {id, "n" + std::to_string(raw(id)), kind, voter, {"h", 1}, {"h", 2}, 100};
}

// Node 1 of a pair: by default the standby, a learner, long after the primary fell silent.
class Forced : public testing::Test {
protected:
    Settings settings;
    DurableState disk;
    LocalState local;
    Instant now{seconds(1000)};
    std::unique_ptr<Node> node;

    void SetUp() override {
        settings.cluster = cluster;
        settings.node_name = "n1";
        disk.self = self;
        disk.node_name = "n1";
        disk.incarnation = static_cast<Incarnation>(1);
        disk.term = static_cast<Term>(3);
        disk.configuration.cluster = cluster;
        disk.configuration.lease = settings.lease_duration;
        disk.configuration.version = {disk.term, 7};
        disk.configuration.members = {member(self, MemberKind::data, false), member(other, MemberKind::data, true)};
        disk.configuration.sync = {{other}, 1};
        local.position_known = true;
        local.position = {static_cast<Timeline>(3), static_cast<Lsn>(1000)};
    }

    Outputs start() {
        node = std::make_unique<Node>(settings, disk, local, 1, now);
        return node->start(now);
    }

    Outputs step(const Event &event) {
        Outputs all = node->step(event, now);
        if (first<CloseGate>(all))
            for (Output &output : node->step(GateClosed{local}, now))
                all.push_back(std::move(output));
        return all;
    }

    Outputs receive(NodeId from, Term term, Body body) {
        return step(Received{{cluster, from, self, static_cast<Incarnation>(1), term, std::move(body)}});
    }

    Heartbeat heartbeat(NodeId from, Role role, Position position = {}) {
        Heartbeat heartbeat;
        heartbeat.sent = now;
        heartbeat.leader = role == Role::primary ? from : NodeId::none;
        heartbeat.config_version = disk.configuration.version;
        heartbeat.self.id = from;
        heartbeat.self.incarnation = static_cast<Incarnation>(1);
        heartbeat.self.sequence = static_cast<std::uint64_t>(now.time_since_epoch().count());
        heartbeat.self.role = role;
        heartbeat.self.term = disk.term;
        heartbeat.self.local.position = position;
        heartbeat.self.local.position_known = position.lsn != Lsn::none;
        return heartbeat;
    }

    std::string obstacle() { return node->forced_failover(now).obstacle; }

    // The only voter, writable, with a learner.
    void be_the_old_primary() {
        disk.configuration.members[0].voter = true;
        disk.configuration.members[1].voter = false;
        disk.configuration.sync = {{self}, 1};
        disk.voted_for = self;
        local.in_recovery = false;
    }
    Instant lease_after(const Event &event) {
        const Outputs outputs = step(event);
        const SetLease *lease = first<SetLease>(outputs);
        return lease ? lease->until : long_ago;
    }
    HeartbeatReply reply(bool follows) {
        HeartbeatReply reply;
        reply.sent = now;
        reply.follows = follows;
        reply.self.id = other;
        return reply;
    }
};

} // namespace

TEST_F(Forced, TermVoteAndConfigurationAreStoredAtOnceBeforeAnythingIsSentOrPromoted) {
    start();
    now += seconds(3);
    ASSERT_EQ(obstacle(), "");
    const Outputs outputs = step(ForceFailover{});
    std::size_t persisted = 0, sent = 0, promoted = 0;
    for (const Output &output : outputs) {
        if (const auto *persist = std::get_if<Persist>(&output)) {
            ++persisted;
            EXPECT_EQ(sent + promoted, 0u);
            const DurableState &state = persist->state;
            EXPECT_GE(raw(state.term), 3u + 16u);
            EXPECT_EQ(state.voted_for, self);
            EXPECT_EQ(state.configuration.version, (Version{state.term, 8}));
            EXPECT_TRUE(state.configuration.is_voter(self));
            EXPECT_EQ(state.configuration.voter_count(), 1u);
            ASSERT_NE(state.configuration.find(other), nullptr) << "it stays a member, so that it is told";
            EXPECT_EQ(state.configuration.sync, (SyncRule{{self}, 1}));
        }
        sent += std::holds_alternative<Send>(output);
        promoted += std::holds_alternative<Promote>(output);
    }
    EXPECT_EQ(persisted, 1u);
    EXPECT_EQ(promoted, 1u);
    EXPECT_TRUE(std::holds_alternative<CloseGate>(outputs.front())) << "the gate is shut first";
    ASSERT_NE(first<Note>(outputs), nullptr);
    EXPECT_NE(first<Note>(outputs)->reason.find("FORCED FAILOVER"), std::string::npos);
}

TEST_F(Forced, AStateFileThatCannotBeWrittenLeavesEverythingAsItWas) {
    start();
    now += seconds(3);
    step(ForceFailover{});
    step(PersistFailed{});
    EXPECT_EQ(node->durable().term, disk.term);
    EXPECT_EQ(node->durable().configuration, disk.configuration);
    EXPECT_EQ(node->status(now).role, Role::standby);
}

TEST_F(Forced, OnlyAStandbyThatKnowsItsPositionAndHasWaitedOneLeaseTakesOver) {
    start();
    EXPECT_NE(obstacle().find("started less than one lease ago"), std::string::npos);
    EXPECT_EQ(first<Persist>(step(ForceFailover{})), nullptr);
    now += seconds(3);
    local.position_known = false;
    step(Sampled{local, {}});
    EXPECT_NE(obstacle().find("own WAL"), std::string::npos);
    EXPECT_EQ(first<Persist>(step(ForceFailover{})), nullptr);
    settings.kind = MemberKind::witness;
    start();
    now += seconds(3);
    EXPECT_NE(obstacle().find("no data node"), std::string::npos);
}

TEST_F(Forced, APrimaryThatIsHeardIsNotDeposed) {
    start();
    now += seconds(3);
    receive(other, disk.term, heartbeat(other, Role::primary, {static_cast<Timeline>(3), static_cast<Lsn>(1000)}));
    EXPECT_NE(obstacle().find("heard n2"), std::string::npos) << obstacle();
    now += milliseconds(1900);
    EXPECT_NE(obstacle(), "");
    EXPECT_EQ(first<Persist>(step(ForceFailover{})), nullptr);
    now += milliseconds(200);
    EXPECT_EQ(obstacle(), "");
}

TEST_F(Forced, APrimaryThatOnlyOthersHearIsNotDeposed) {
    disk.configuration.members.push_back(member(third, MemberKind::witness, true));
    start();
    now += seconds(3);
    Heartbeat from_witness = heartbeat(third, Role::standby);
    from_witness.table = {heartbeat(other, Role::primary, local.position).self};
    receive(other, disk.term, heartbeat(other, Role::primary, local.position));
    now += seconds(3);
    EXPECT_EQ(obstacle(), "");
    from_witness.table[0].sequence += 1'000'000'000'000;
    from_witness.sent = now;
    receive(third, disk.term, from_witness);
    EXPECT_NE(obstacle().find("n2 is the primary"), std::string::npos) << obstacle();
}

TEST_F(Forced, ANodeWithMoreWalIsNotPassedOver) {
    disk.configuration.members.push_back(member(third, MemberKind::data, false));
    start();
    now += seconds(3);
    receive(third, disk.term, heartbeat(third, Role::standby, {static_cast<Timeline>(3), static_cast<Lsn>(1001)}));
    EXPECT_NE(obstacle().find("n3 has more WAL"), std::string::npos) << obstacle();
    now += milliseconds(1);
    receive(third, disk.term, heartbeat(third, Role::standby, {static_cast<Timeline>(2), static_cast<Lsn>(9999)}));
    EXPECT_EQ(obstacle(), "") << "an older timeline is less";
}

TEST_F(Forced, VotersThatCanElectAreLeftToDoIt) {
    disk.configuration.members[0].voter = true;
    disk.configuration.members.push_back(member(third, MemberKind::witness, true));
    disk.configuration.sync = {{self, other}, 2};
    start();
    now += seconds(3);
    EXPECT_EQ(obstacle(), "") << "alone it can't";
    EXPECT_NE(node->forced_failover(now).price.find("has every acknowledged commit"), std::string::npos);
    receive(third, disk.term, heartbeat(third, Role::standby));
    EXPECT_NE(obstacle().find("elect a primary by themselves"), std::string::npos) << obstacle();
    // With this node outside of S no vote helps, but an operator may.
    disk.configuration.sync = {{other}, 1};
    start();
    now += seconds(3);
    EXPECT_EQ(node->status(now).failover_reason, "there is no primary, and no majority of the voters: missing n2, n3");
    receive(third, disk.term, heartbeat(third, Role::standby));
    EXPECT_EQ(obstacle(), "");
    EXPECT_NE(node->forced_failover(now).price.find("are lost"), std::string::npos);
    EXPECT_EQ(node->status(now).failover_reason, "there is no primary: nobody who is heard is sure to have every commit: missing n2");
}

// ---- the old primary ---------------------------------------------------------------------------------------

// Where the loss of one voter is enough, the survivor tells the way on; what an election can mend needs none.
TEST_F(Forced, TheSurvivorOfAPairSaysHowToGoOn) {
    disk.configuration.members[0].voter = true;
    disk.configuration.sync = {{self, other}, 2};
    start();
    now += seconds(3);
    const std::string way_on = "if n2 is gone for good, SELECT ha_failover(accept_data_loss => true) here";
    EXPECT_EQ(node->status(now).failover_reason, "there is no primary, and no majority of the voters: missing n2; " + way_on);
    step(Sampled{local, {}});
    step(Tick{});
    EXPECT_EQ(node->status(now).reason, "waits: there is no primary, and no majority of the voters: missing n2; " + way_on);
    EXPECT_EQ(obstacle(), "") << "and that is true";
    receive(other, disk.term, heartbeat(other, Role::standby));
    EXPECT_EQ(node->status(now).failover_reason.find("gone for good"), std::string::npos) << "it is here again";
    disk.configuration.members.push_back(member(third, MemberKind::witness, true));
    start();
    now += seconds(3);
    EXPECT_EQ(node->status(now).failover_reason, "there is no primary, and no majority of the voters: missing n2, n3")
        << "of three some may only be cut off";
}

TEST_F(Forced, ALearnerWhosePrimaryIsLostSaysHowToGoOn) {
    start();
    Heartbeat beat = heartbeat(other, Role::primary, local.position);
    beat.lineage = {{static_cast<Timeline>(3), Lsn::none}};
    receive(other, disk.term, beat);
    EXPECT_EQ(node->status(now).reason, "follows n2");
    now += seconds(5);
    const Status status = node->status(now);
    const std::string way_on = "; if n2 is gone for good, SELECT ha_failover(accept_data_loss => true) here";
    EXPECT_EQ(status.reason, "there is no primary: n2 is not heard" + way_on);
    EXPECT_EQ(status.failover_reason, "automatic failover needs three voters, there is 1: add a server or a witness" + way_on);
    receive(other, disk.term, heartbeat(other, Role::primary, local.position));
    EXPECT_EQ(node->status(now).reason, "follows n2") << "it is back";
}

TEST_F(Forced, TheOnlyVoterAsksTheOtherMembersBeforeItAcknowledges) {
    be_the_old_primary();
    start();
    EXPECT_EQ(lease_after(SyncInEffect{{{self}, 1}}), long_ago);
    now += milliseconds(200);
    EXPECT_EQ(lease_after(Tick{}), long_ago);
    now += milliseconds(1);
    const Outputs outputs = receive(other, disk.term, reply(true));
    ASSERT_NE(first<SetLease>(outputs), nullptr) << "the other one knows of no other primary";
    EXPECT_GT(first<SetLease>(outputs)->until, now);
}

TEST_F(Forced, TheOnlyVoterGoesOnAloneAfterOneLease) {
    be_the_old_primary();
    start();
    step(SyncInEffect{{{self}, 1}});
    now += milliseconds(1800);
    EXPECT_EQ(lease_after(Tick{}), long_ago);
    now += milliseconds(300);
    EXPECT_GT(lease_after(Tick{}), now);
}

TEST_F(Forced, TheOnlyVoterIsDeposedByAnAnswerFromAForcedTerm) {
    be_the_old_primary();
    start();
    step(SyncInEffect{{{self}, 1}});
    now += milliseconds(1);
    receive(other, static_cast<Term>(40), reply(false));
    EXPECT_EQ(node->status(now).role, Role::deposed);
    now += seconds(5);
    EXPECT_EQ(lease_after(Tick{}), long_ago);
}
