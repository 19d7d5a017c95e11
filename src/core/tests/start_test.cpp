// SPDX-License-Identifier: PostgreSQL
//
// How a node begins, what a reload may change, and the words that people read.
#include "core/node.hpp"
#include "core/quorum.hpp"

#include <gtest/gtest.h>

using namespace pg_ha;
using std::chrono::milliseconds;
using std::chrono::seconds;

namespace {

constexpr NodeId self{1};

template <class T> const T *first(const Outputs &outputs) {
    for (const Output &output : outputs)
        if (const auto *found = std::get_if<T>(&output))
            return found;
    return nullptr;
}

// The only voter of its cluster, PostgreSQL writable: what a server of a cluster of one starts as.
class Alone : public testing::Test {
protected:
    Settings settings;
    DurableState disk;
    LocalState local;
    Instant now{seconds(1000)};

    void SetUp() override {
        settings.cluster = {1, 2};
        settings.node_name = "n1";
        Configuration c;
        c.cluster = settings.cluster;
        c.version = {Term{3}, 1};
        c.lease = settings.lease_duration;
        c.members = {{self, "n1", MemberKind::data, true, {"h", 1}, {"h", 2}, 100}};
        c.sync = {{self}, 1};
        disk = {self, "n1", Incarnation{2}, Term{3}, NodeId::none, c};
        local = {false, true, {Timeline{3}, Lsn{1000}}, Lsn{1000}, false, 0};
    }
    Node make() { return Node(settings, disk, local, 1, now); }
};

TEST_F(Alone, BeginsANewTermByItsOwnVote) {
    Node node = make();
    const Outputs out = node.start(now);
    EXPECT_EQ(node.status(now).role, Role::primary);
    EXPECT_EQ(node.durable().term, Term{4});
    EXPECT_EQ(node.durable().voted_for, self);
    EXPECT_EQ(node.durable().configuration.version.term, Term{4});
    ASSERT_TRUE(first<Persist>(out));
    EXPECT_EQ(first<Persist>(out)->state.term, Term{4});
}

TEST_F(Alone, DoesNotForgetThatItIsAMemberWhenItsFirstSaveFails) {
    Node node = make();
    node.start(now);
    node.step(PersistFailed{}, now);
    EXPECT_EQ(node.durable(), disk);
    EXPECT_EQ(node.status(now).role, Role::deposed) << "fenced, and restarts as a standby";
    EXPECT_EQ(node.status(now).lease_until, long_ago);
}

TEST_F(Alone, AReloadChangesTimingButNotWhoItIs) {
    Node node = make();
    node.start(now);
    Settings changed = settings;
    changed.node_name = "other";
    changed.kind = MemberKind::witness;
    changed.cluster = {7, 7};
    changed.heartbeat_interval = milliseconds(50);
    node.reconfigure(changed);
    now = node.next_deadline();
    node.step(Tick{}, now);
    EXPECT_EQ(node.next_deadline(), now + milliseconds(50));
    // Still its old cluster: a message for the other one is not for this node.
    EXPECT_TRUE(node.step(Received{{{7, 7}, NodeId{2}, self, Incarnation{1}, Term{9}, JoinRequest{}}}, now).empty());
}

TEST_F(Alone, RefusesANewMemberWhenTheClusterIsFull) {
    for (unsigned n = 2; n <= 32; ++n)
        disk.configuration.members.push_back(
            {NodeId{n}, "n" + std::to_string(n), MemberKind::data, false, {"h", 1}, {"h", 2}, 100});
    Node node = make();
    node.start(now);
    const Member applicant{NodeId{40}, "n40", MemberKind::data, false, {"h", 1}, {"h", 2}, 100};
    const Outputs out =
        node.step(Received{{settings.cluster, applicant.id, self, Incarnation{1}, Term{0}, JoinRequest{applicant, 0}}}, now);
    ASSERT_TRUE(first<Send>(out));
    const auto *rejected = std::get_if<Rejected>(&first<Send>(out)->body);
    ASSERT_TRUE(rejected);
    EXPECT_EQ(rejected->why, Rejection::cluster_full);
}

TEST(Words, ArePrintedAsPeopleExpect) {
    EXPECT_EQ(to_string(ClusterId{0x12, 0xABC}), "00000000000000120000000000000abc");
    EXPECT_STREQ(to_string(Liveness::alive), "alive");
    EXPECT_STREQ(to_string(Liveness::suspect), "suspect");
    EXPECT_STREQ(to_string(Liveness::unreachable), "unreachable");
    EXPECT_STREQ(to_string(Refusal::not_eligible), "candidate may not become primary");
    EXPECT_STREQ(to_string(Refusal::not_voter), "does not vote");
}

TEST(Words, ATooShortHeartbeatIntervalIsNamed) {
    Settings settings;
    settings.node_name = "n1";
    settings.heartbeat_interval = milliseconds(5);
    ASSERT_EQ(validate(settings).size(), 1u);
    EXPECT_EQ(validate(settings)[0].message, "heartbeat interval is too short");
}

TEST(Words, NobodyIsNoMajority) {
    EXPECT_EQ(majority_instant(Configuration{}, {}, self, Instant{seconds(5)}), long_ago);
}

} // namespace
