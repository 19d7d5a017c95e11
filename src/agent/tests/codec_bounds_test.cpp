// SPDX-License-Identifier: PostgreSQL
//
// The bounds of the codec, one by one: a message is accepted at the limit and refused one beyond it.
#include "agent/codec.hpp"
#include "wire.pb.h"

#include <gtest/gtest.h>

#include <limits>

namespace pg_ha {
namespace {

class Bounds : public ::testing::Test {
protected:
    Bounds() { message_.set_from(1); }
    bool accepted() const { return decode_message(message_.SerializeAsString()).has_value(); }
    wire::Configuration &configuration() {
        wire::Configuration &out = *message_.mutable_heartbeat()->mutable_configuration();
        if (out.sync_quorum() == 0)
            out.set_sync_quorum(1);
        return out;
    }
    wire::Message message_;
};

TEST_F(Bounds, SenderMustBeNamed) {
    message_.mutable_stand_now();
    EXPECT_TRUE(accepted());
    message_.set_from(0);
    EXPECT_FALSE(accepted());
}

TEST_F(Bounds, TextIsLimited) {
    message_.mutable_heartbeat()->mutable_self()->set_reason(std::string(200, 'r'));
    EXPECT_TRUE(accepted());
    message_.mutable_heartbeat()->mutable_self()->set_reason(std::string(201, 'r'));
    EXPECT_FALSE(accepted());
}

TEST_F(Bounds, NamesAndHostsCannotBreakOutOfAConnectionString) {
    wire::Member &member = *message_.mutable_join_request()->mutable_self();
    member.set_id(7);
    member.set_name("n1");
    member.mutable_postgres()->set_host("10.0.0.1");
    EXPECT_TRUE(accepted());
    for (const std::string bad : {"a b", "h'x", "h\\", "h\n", "a,b", "h=1"}) {
        member.mutable_postgres()->set_host(bad);
        EXPECT_FALSE(accepted()) << bad;
    }
    member.mutable_postgres()->set_host("fe80::1%eth0");
    EXPECT_TRUE(accepted());
    for (const std::string bad : {"a b", "a\"", "a.b"}) {
        member.set_name(bad);
        EXPECT_FALSE(accepted()) << bad;
    }
    member.set_name(std::string(64, 'n'));
    EXPECT_FALSE(accepted());
    member.set_name("n1");
    member.mutable_peer()->set_port(65536);
    EXPECT_FALSE(accepted());
}

TEST_F(Bounds, EnumerationsAreChecked) {
    message_.mutable_heartbeat()->mutable_self()->set_role(7);
    EXPECT_TRUE(accepted());
    message_.mutable_heartbeat()->mutable_self()->set_role(8);
    EXPECT_FALSE(accepted());
    message_.clear_heartbeat();
    message_.mutable_vote_reply()->set_refusal(9);
    EXPECT_TRUE(accepted());
    message_.mutable_vote_reply()->set_refusal(10);
    EXPECT_FALSE(accepted());
    message_.clear_vote_reply();
    message_.mutable_rejected()->set_why(5);
    EXPECT_TRUE(accepted());
    message_.mutable_rejected()->set_why(6);
    EXPECT_FALSE(accepted());
    message_.clear_rejected();
    wire::Rumours &rumours = *message_.mutable_heartbeat()->mutable_rumours();
    rumours.add_member(1);
    rumours.add_incarnation(1);
    rumours.add_refutations(1);
    rumours.add_accuser(1);
    rumours.add_state(2);
    EXPECT_TRUE(accepted());
    rumours.set_state(0, 3);
    EXPECT_FALSE(accepted());
}

// The core subtracts it from its own clock.
TEST_F(Bounds, TimesFitTheClock) {
    const std::uint64_t last = std::numeric_limits<std::int64_t>::max();
    for (const std::uint64_t sent : {last, last + 1, std::numeric_limits<std::uint64_t>::max()}) {
        message_.mutable_heartbeat()->mutable_configuration()->set_sync_quorum(1);
        message_.mutable_heartbeat()->set_sent_ns(sent);
        EXPECT_EQ(sent == last, accepted()) << sent;
        message_.clear_heartbeat();
        message_.mutable_heartbeat_reply()->set_sent_ns(sent);
        EXPECT_EQ(sent == last, accepted()) << sent;
        message_.clear_heartbeat_reply();
    }
}

TEST_F(Bounds, NoConfigurationIsNewerThanItsSendersTerm) {
    message_.set_term(3);
    configuration().set_version_term(3);
    EXPECT_TRUE(accepted());
    configuration().set_version_term(4);
    EXPECT_FALSE(accepted());
    message_.clear_heartbeat();
    message_.mutable_vote_reply()->mutable_configuration()->set_sync_quorum(1);
    message_.mutable_vote_reply()->mutable_configuration()->set_version_term(3);
    EXPECT_TRUE(accepted());
    message_.mutable_vote_reply()->mutable_configuration()->set_version_term(4);
    EXPECT_FALSE(accepted());
}

TEST_F(Bounds, OneBodyPerMessage) {
    EXPECT_FALSE(accepted());
    message_.mutable_stand_now();
    EXPECT_TRUE(accepted());
    message_.mutable_resign();
    EXPECT_FALSE(accepted());
}

TEST_F(Bounds, CountsAreLimited) {
    for (std::size_t i = 0; i < members_max; ++i)
        message_.mutable_heartbeat()->add_table();
    EXPECT_TRUE(accepted());
    message_.mutable_heartbeat()->add_table();
    EXPECT_FALSE(accepted());

    message_.clear_heartbeat();
    for (std::size_t i = 0; i < members_max; ++i)
        message_.mutable_heartbeat_reply()->add_table();
    EXPECT_TRUE(accepted());
    message_.mutable_heartbeat_reply()->add_table();
    EXPECT_FALSE(accepted());
    message_.clear_heartbeat_reply();
    wire::Rumours &rumours = *message_.mutable_heartbeat()->mutable_rumours();
    rumours.add_member(1);
    EXPECT_FALSE(accepted()) << "columns of different length";
    for (int i = 0; i < 65; ++i) {
        rumours.add_member(1);
        rumours.add_incarnation(1);
        rumours.add_refutations(1);
        rumours.add_state(1);
        rumours.add_accuser(1);
    }
    rumours.mutable_member()->RemoveLast();
    EXPECT_FALSE(accepted());

    message_.clear_heartbeat();
    wire::Lineage &lineage = *message_.mutable_heartbeat()->mutable_lineage();
    lineage.add_timeline(1);
    EXPECT_FALSE(accepted()) << "columns of different length";
    for (std::size_t i = 0; i <= lineage_entries_max; ++i) {
        lineage.add_timeline(1);
        lineage.add_end(1);
    }
    lineage.add_end(1);
    EXPECT_FALSE(accepted());

    message_.clear_heartbeat();
    for (std::size_t i = 1; i <= members_max + 1; ++i)
        configuration().add_members()->set_id(i);
    EXPECT_FALSE(accepted());
}

TEST_F(Bounds, MembersAndSyncSetAscendStrictly) {
    configuration().add_members()->set_id(1);
    configuration().add_members()->set_id(2);
    EXPECT_TRUE(accepted());
    configuration().add_members()->set_id(2);
    EXPECT_FALSE(accepted()) << "a member named twice would be counted twice";

    message_.clear_heartbeat();
    configuration().add_sync_set(2);
    configuration().add_sync_set(1);
    EXPECT_FALSE(accepted());

    message_.clear_heartbeat();
    configuration().set_sync_quorum(33);
    EXPECT_FALSE(accepted());
}

} // namespace
} // namespace pg_ha
