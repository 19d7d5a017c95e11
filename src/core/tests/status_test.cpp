// SPDX-License-Identifier: PostgreSQL
//
// What every member tells people about the others: how far a rejoin is, and who could not follow whom.
#include "schedule.hpp"

namespace {

class StatusForPeople : public Schedule {
protected:
    void SetUp() override {
        Schedule::SetUp();
        settings.parameters = {100, 8, 10, 0, 64};
    }
    const MemberStatus &row(const Status &status, unsigned n) {
        for (const MemberStatus &member : status.members)
            if (member.member.id == id(n))
                return member;
        throw std::logic_error("no such member");
    }
    Heartbeat of_primary(const RecoveryParameters &parameters, std::vector<RejoinSeen> rejoins = {}) {
        Heartbeat heartbeat = primary_heartbeat(1, 1);
        heartbeat.self.parameters = parameters;
        heartbeat.self.rejoins = std::move(rejoins);
        return heartbeat;
    }
    static bool says(const std::string &text, const std::string &part) { return text.find(part) != std::string::npos; }
};

} // namespace

TEST_F(StatusForPeople, ARejoinIsShownByThePrimaryAndByTheOthers) {
    start_as_primary();
    step(Sampled{local, {}, Lsn::none, Timeline::none, {{id(3), false, 45, 512}}});
    EXPECT_EQ("is being rewound: 45 % of 512 MB", row(node->status(now), 3).report.reason);
    out.clear();
    pass(seconds(1));
    const auto heartbeats = sent<Heartbeat>();
    ASSERT_FALSE(heartbeats.empty());
    step(Sampled{local, {}});
    EXPECT_FALSE(says(row(node->status(now), 3).report.reason, "rewound")) << "it is over";
}

TEST_F(StatusForPeople, AStandbyShowsWhatThePrimaryTold) {
    start(2);
    hear(1, 1, of_primary(settings.parameters, {{id(3), true, 7, 100}, {id(2), false, 1, 1}}));
    const Status status = node->status(now);
    EXPECT_EQ("is being cloned anew: 7 % of 100 MB", row(status, 3).report.reason);
    EXPECT_FALSE(says(row(status, 2).report.reason, "rewound")) << "this node is here";
    hear(1, 1, of_primary(settings.parameters, {{id(3), false, 0, 0}}));
    EXPECT_EQ("is being rewound", row(node->status(now), 3).report.reason) << "before it is known how much there is";
    hear(3, 1, HeartbeatReply{now, false, disk.configuration.version, report(3, 1)});
    EXPECT_FALSE(says(row(node->status(now), 3).report.reason, "rewound")) << "a member that speaks for itself";
}

TEST_F(StatusForPeople, WhoCannotFollowWhomIsSaidWhileThereIsTime) {
    start(2);
    hear(1, 1, of_primary(settings.parameters));
    EXPECT_EQ("", node->status(now).alarm) << "equal is enough";
    hear(1, 1, of_primary({100, 8, 10, 0, 128}));
    Status status = node->status(now);
    EXPECT_EQ("cannot follow n1: max_locks_per_transaction is 64 here and 128 there: raise it and restart this server", status.alarm);
    EXPECT_TRUE(status.cannot_follow);
    EXPECT_TRUE(says(row(status, 2).report.reason, status.alarm));
    EXPECT_FALSE(says(row(status, 1).report.reason, "follow n2")) << "more is enough";
    hear(1, 1, of_primary({100, 7, 10, 0, 64}));
    status = node->status(now);
    EXPECT_EQ("", status.alarm);
    EXPECT_TRUE(says(row(status, 1).report.reason,
                     "could not follow n2 as primary: max_worker_processes is 7 here and 8 there"));
}

TEST_F(StatusForPeople, ThePrimaryIsToldBeforeItsStandbyTakesOver) {
    start_as_primary();
    pass(milliseconds(300));
    MemberReport other = report(2, 1);
    other.parameters = {200, 8, 10, 0, 64};
    hear(2, 1, HeartbeatReply{now, true, disk.configuration.version, other});
    const Status status = node->status(now);
    EXPECT_EQ("could not follow n2 as primary: max_connections is 100 here and 200 there: raise it and restart this server", status.alarm);
    EXPECT_FALSE(status.cannot_follow);
}

TEST_F(StatusForPeople, WhoNeverLeadsOrSaysNothingRaisesNoAlarm) {
    disk.configuration.members[2].priority = 0;
    start(2);
    MemberReport other = report(3, 1);
    other.parameters = {999, 999, 999, 999, 999};
    hear(3, 1, HeartbeatReply{now, false, disk.configuration.version, other});
    hear(1, 1, of_primary({}));
    const Status status = node->status(now);
    EXPECT_EQ("", status.alarm);
    EXPECT_FALSE(says(row(status, 1).report.reason, "follow n")) << "a server of an older version does not tell";
}

TEST_F(StatusForPeople, AFencedPrimaryOfAPairSaysHowToGoOn) {
    disk.configuration.members.pop_back();
    disk.configuration.sync.set.pop_back();
    start_as_primary();
    for (int i = 0; i < 5; ++i) {
        pass(milliseconds(300));
        answer(2, 1);
    }
    EXPECT_GT(node->status(now).lease_until, now);
    EXPECT_FALSE(says(node->status(now).reason, "gone for good"));
    pass(seconds(5));
    const std::string reason = node->status(now).reason;
    EXPECT_EQ("fenced: no majority of voters answers; if n2 is gone for good, restart this server, wait for one lease, then "
              "SELECT ha_failover(accept_data_loss => true) here", reason);
    EXPECT_EQ(reason, row(node->status(now), 1).report.reason);
    pass(milliseconds(300));
    answer(2, 1);
    EXPECT_FALSE(says(node->status(now).reason, "gone for good")) << "it is back";
}
