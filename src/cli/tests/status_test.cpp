// SPDX-License-Identifier: PostgreSQL
//
// Whether a cluster is called healthy.  What could not be read never is.
#include "cli/clone_source.hpp"
#include "cli/status.hpp"

#include <gtest/gtest.h>

using namespace pg_ha::cli;

namespace {

using Cell = std::optional<std::string>;

View healthy() {
    View view;
    view.asked = "db2";
    view.cluster = Answer({"primary_name", "quorum", "failover_possible", "failover_reason", "lease_left", "term"},
                          {{Cell("db1"), Cell("t"), Cell("t"), std::nullopt, std::nullopt, Cell("4")}});
    view.members = Answer({"name", "kind", "role", "liveness", "is_primary", "streaming", "voter", "reason", "rejoin_percent"},
                          {{Cell("db1"), Cell("data"), Cell("primary"), Cell("alive"), Cell("t"), Cell("f"), Cell("t"), Cell(""), {}},
                           {Cell("db2"), Cell("data"), Cell("standby"), Cell("alive"), Cell("f"), Cell("t"), Cell("t"), Cell(""), Cell("40")},
                           {Cell("w"), Cell("witness"), Cell("standby"), Cell("alive"), Cell("f"), Cell("f"), Cell("t"), Cell(""), {}}});
    return view;
}

// The same with one cell changed.
Answer with(const Answer &answer, std::size_t changed, const std::string &column, Cell value) {
    std::vector<std::vector<Cell>> rows;
    for (std::size_t row = 0; row < answer.rows(); row++) {
        rows.emplace_back();
        for (const std::string &name : answer.columns())
            rows.back().push_back(row == changed && name == column ? value : answer.get(row, name));
    }
    return Answer(answer.columns(), rows);
}

ExitStatus member_with(std::size_t row, const std::string &column, Cell value) {
    View view = healthy();
    view.members = with(view.members, row, column, value);
    return judge(view).status;
}
ExitStatus cluster_with(const std::string &column, Cell value) {
    View view = healthy();
    view.cluster = with(view.cluster, 0, column, value);
    return judge(view).status;
}

} // namespace

TEST(Judge, Healthy) {
    EXPECT_EQ(judge(healthy()).status, exit_done);
    EXPECT_TRUE(judge(healthy()).problems.empty());
}

TEST(Judge, Degraded) {
    EXPECT_EQ(member_with(1, "liveness", "suspect"), exit_failed);
    EXPECT_EQ(member_with(1, "liveness", std::nullopt), exit_failed);
    EXPECT_EQ(member_with(1, "streaming", "f"), exit_failed);
    EXPECT_EQ(member_with(2, "liveness", "unreachable"), exit_failed) << "the witness";
    EXPECT_EQ(cluster_with("failover_possible", "f"), exit_failed);
    EXPECT_EQ(cluster_with("failover_possible", std::nullopt), exit_failed);
}

TEST(Judge, NoPrimary) {
    EXPECT_EQ(member_with(0, "is_primary", "f"), exit_no_primary);
    EXPECT_EQ(member_with(0, "liveness", "unreachable"), exit_no_primary);
    EXPECT_EQ(cluster_with("quorum", "f"), exit_no_primary);
    EXPECT_EQ(cluster_with("lease_left", "00:00:00"), exit_no_primary);
    View empty;
    EXPECT_EQ(judge(empty).status, exit_no_primary) << "nothing was read";
}

TEST(FormatStatus, ShowsWhatItDoesNotKnow) {
    const std::string text = format_status(healthy(), judge(healthy()));
    EXPECT_TRUE(text.starts_with("healthy: primary db1, term 4")) << text;
    EXPECT_NE(text.find("db2: rejoin_percent 40"), std::string::npos) << "columns of a newer server";
}

TEST(MembersOf, ReadsTheView) {
    const Answer answer({"name", "kind", "is_primary", "streaming", "liveness", "peer_host", "peer_port", "postgres_host", "postgres_port"},
                        {{Cell("db1"), Cell("data"), Cell("t"), Cell("f"), Cell("alive"), Cell("h"), Cell("7432"), Cell("h"), Cell("5432")},
                         {Cell("w"), Cell("witness"), Cell("f"), Cell("f"), Cell("unreachable"), Cell("v"), Cell("7433"), {}, {}}});
    const auto members = members_of(answer);
    ASSERT_EQ(members.size(), 2u);
    EXPECT_TRUE(members[0].data && members[0].primary && !members[0].gone);
    EXPECT_EQ(members[0].postgres, (pg_ha::Endpoint{"h", 5432}));
    EXPECT_TRUE(!members[1].data && members[1].gone);
}
