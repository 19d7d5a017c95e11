// SPDX-License-Identifier: PostgreSQL
//
// The small parts: settings, lineage, lease, member table.
#include "core/lease.hpp"
#include "core/member_table.hpp"

#include <gtest/gtest.h>

using namespace pg_ha;
using std::chrono::milliseconds;
using std::chrono::seconds;

namespace {
NodeId id(unsigned n) { return static_cast<NodeId>(n); }
Instant at(int ms) { return Instant{milliseconds(ms)}; }
Position position(unsigned timeline, std::uint64_t lsn) { return {static_cast<Timeline>(timeline), static_cast<Lsn>(lsn)}; }
} // namespace

TEST(Settings, EachBrokenRuleIsNamedOnce) {
    Settings s;
    s.node_name = "n1";
    EXPECT_TRUE(validate(s).empty());
    s.node_name = "N 1";
    s.heartbeat_interval = seconds(1);
    s.lease_duration = milliseconds(100);
    EXPECT_EQ(validate(s).size(), 3u);
    for (const SettingError &e : validate(s))
        EXPECT_FALSE(e.hint.empty());
}

TEST(Settings, NodeNamesAreSafeInSettingsAndFileNames) {
    for (const char *good : {"n1", "london-2", "a_b", "0"})
        EXPECT_TRUE(valid_node_name(good)) << good;
    for (const char *bad : {"", "N1", "-a", "a b", "a\"b", "ä", "a,b"})
        EXPECT_FALSE(valid_node_name(bad)) << bad;
    EXPECT_FALSE(valid_node_name(std::string(64, 'a')));
}

TEST(Lineage, AHistoryContainsAPositionUpToItsFork) {
    const Lineage lineage{{static_cast<Timeline>(1), static_cast<Lsn>(100)},
                          {static_cast<Timeline>(4), static_cast<Lsn>(250)},
                          {static_cast<Timeline>(7), Lsn::none}};
    EXPECT_TRUE(descends_from(position(1, 100), lineage));
    EXPECT_FALSE(descends_from(position(1, 101), lineage)) << "beyond the fork: it would acknowledge what it lacks";
    EXPECT_TRUE(descends_from(position(7, 9999), lineage));
    EXPECT_FALSE(descends_from(position(5, 10), lineage)) << "a timeline that is not in the history";
}

TEST(Lease, CountsFromSendingAndNeedsAMajority) {
    Configuration c;
    for (unsigned n = 1; n <= 3; ++n)
        c.members.push_back({id(n), "n", MemberKind::data, true, {}, {}, 100});
    LeaseTracker leases;
    EXPECT_EQ(leases.until(c, id(1), at(1000), seconds(2)), long_ago);
    leases.answered(id(2), at(900));
    leases.answered(id(2), at(500)); // a late answer does not shorten it
    EXPECT_EQ(leases.until(c, id(1), at(1000), seconds(2)), at(900) + seconds(2) - drift_margin(seconds(2)));
}

TEST(Lease, EndsBeforeAPromiseWithClocksFivePercentApart) {
    for (int ms : {300, 2000, 60000}) {
        const Duration lease = milliseconds(ms);
        const double primary_real = static_cast<double>((lease - drift_margin(lease)).count()) / 0.95; // slow clock
        const double voter_real = static_cast<double>(lease.count()) / 1.05;                           // fast clock
        EXPECT_LT(primary_real, voter_real);
    }
}

TEST(MemberTable, NewsThroughOthersKeepsAMemberFromBeingUnreachable) {
    Settings s;
    MemberTable table;
    MemberReport report;
    report.id = id(2);
    report.incarnation = static_cast<Incarnation>(1);
    report.sequence = 1;
    EXPECT_EQ(table.liveness(id(2), s, at(0)), Liveness::unreachable);
    table.heard(id(2), {report.incarnation}, at(1000));
    table.learn(report, at(1000));
    EXPECT_EQ(table.liveness(id(2), s, at(1500)), Liveness::alive);
    EXPECT_EQ(table.liveness(id(2), s, at(2900)), Liveness::suspect);
    report.sequence = 2;
    table.learn(report, at(3500)); // somebody else brought it
    EXPECT_EQ(table.liveness(id(2), s, at(5000)), Liveness::suspect);
    EXPECT_EQ(table.liveness(id(2), s, at(9000)), Liveness::unreachable);
}

Run run(std::uint64_t incarnation, unsigned instance, std::uint64_t saves) {
    return {static_cast<Incarnation>(incarnation), static_cast<Instance>(instance), saves};
}

TEST(MemberTable, ARunThatBeganWithAStateLeftBehindIsAnOldCopy) {
    MemberTable table;
    EXPECT_EQ(table.heard(id(2), run(5, 11, 5), at(10)), Hearing::accepted);
    EXPECT_EQ(table.heard(id(2), run(5, 11, 9), at(20)), Hearing::accepted) << "it saves as it goes";
    EXPECT_EQ(table.heard(id(2), run(9, 12, 10), at(30)), Hearing::old_copy) << "of the same start, restored later";
    EXPECT_EQ(table.heard(id(2), run(4, 13, 5), at(30)), Hearing::old_copy);
    EXPECT_EQ(table.heard(id(2), run(10, 14, 11), at(40)), Hearing::accepted) << "it was restarted";
    EXPECT_EQ(table.heard(id(2), run(5, 11, 9), at(50)), Hearing::late) << "last words of the run before";
    EXPECT_EQ(table.find(id(2))->heard, at(40)) << "who is not accepted is not alive either";
}

TEST(MemberTable, OfTwoServersWithOneIdentityTheSecondIsRefused) {
    MemberTable table;
    EXPECT_EQ(table.heard(id(2), run(5, 11, 6), at(10)), Hearing::accepted);
    EXPECT_EQ(table.heard(id(2), run(5, 12, 6), at(20)), Hearing::cloned);
    EXPECT_TRUE(table.refused_first(id(2)));
    EXPECT_FALSE(table.refused_first(id(2))) << "said once";
    EXPECT_EQ(table.heard(id(2), run(5, 11, 6), at(30)), Hearing::accepted);
    EXPECT_EQ(table.heard(id(2), run(7, 13, 8), at(40)), Hearing::accepted);
    EXPECT_TRUE(table.refused_first(id(2))) << "and again of another run";
}

TEST(MemberTable, OthersTellHowFarAnIdentityHasCome) {
    MemberTable table;
    MemberReport report;
    report.id = id(2);
    report.incarnation = static_cast<Incarnation>(5);
    report.instance = static_cast<Instance>(11);
    report.saves = 8;
    report.sequence = 1;
    table.learn(report, at(10));
    EXPECT_EQ(table.heard(id(2), run(7, 12, 8), at(20)), Hearing::old_copy);
    report.incarnation = static_cast<Incarnation>(3);
    report.sequence = 100;
    table.learn(report, at(30));
    EXPECT_EQ(table.find(id(2))->report.sequence, 1u) << "what others say of an old copy does not count either";
}

TEST(MemberTable, RowsArePassedOnInTurn) {
    MemberTable table;
    for (unsigned n = 1; n <= 5; ++n) {
        MemberReport report;
        report.id = id(n);
        report.sequence = 1;
        table.learn(report, at(1));
    }
    std::set<NodeId> seen;
    for (int i = 0; i < 4; ++i)
        for (const MemberReport &row : table.some_rows(id(1), id(2), 1))
            seen.insert(row.id);
    EXPECT_EQ(seen, (std::set<NodeId>{id(3), id(4), id(5)}));
}
