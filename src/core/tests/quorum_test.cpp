// SPDX-License-Identifier: PostgreSQL
//
// The counting functions against deliberately dumb ones that try every subset.
#include "core/quorum.hpp"

#include <gtest/gtest.h>

using namespace pg_ha;

namespace {

NodeId id(unsigned n) { return static_cast<NodeId>(n); }

std::vector<NodeId> members_of(unsigned bits) {
    std::vector<NodeId> set;
    for (unsigned n = 0; n < 5; ++n)
        if (bits >> n & 1)
            set.push_back(id(n + 1));
    return set;
}

// Every group of w members of `write` shares one with every group that `record` lets elect?
bool meet_by_trying(const SyncRule &write, const SyncRule &record) {
    for (unsigned a = 0; a < 32; ++a)
        for (unsigned b = 0; b < 32; ++b) {
            std::size_t acks = 0, answers = 0;
            for (NodeId n : members_of(a))
                acks += contains(write.set, n);
            for (NodeId n : members_of(b))
                answers += contains(record.set, n);
            const bool acknowledges = acks == members_of(a).size() && acks >= write.quorum;
            const bool elects = answers == members_of(b).size() && answers + record.quorum >= record.set.size() + 1;
            if (acknowledges && elects && (a & b) == 0)
                return false;
        }
    return true;
}

} // namespace

TEST(Quorum, RulesMeetExactlyWhenEveryPairOfGroupsDoes) {
    for (unsigned s = 1; s < 32; ++s)
        for (unsigned r = 1; r < 32; ++r)
            for (std::uint16_t w = 1; w <= members_of(s).size(); ++w)
                for (std::uint16_t q = 1; q <= members_of(r).size(); ++q) {
                    const SyncRule write{members_of(s), w}, record{members_of(r), q};
                    if (rules_meet(write, record)) {
                        EXPECT_TRUE(meet_by_trying(write, record)) << s << " " << w << " " << r << " " << q;
                    }
                    if (s == r) {
                        EXPECT_EQ(rules_meet(write, record), meet_by_trying(write, record)) << s << " " << w << " " << q;
                    }
                }
}

TEST(Quorum, AnElectionNeedsAMajorityAndItsShareOfTheSyncSet) {
    Configuration c;
    for (unsigned n = 1; n <= 3; ++n)
        c.members.push_back({id(n), "n" + std::to_string(n), MemberKind::data, true, {}, {}, 100});
    c.sync = {members_of(0b111), 2};
    EXPECT_FALSE(wins_election(c, {id(1)}));
    EXPECT_TRUE(wins_election(c, {id(1), id(2)}));
    c.sync = {members_of(0b111), 1}; // one flush was enough: all three must be asked
    EXPECT_FALSE(wins_election(c, {id(1), id(2)}));
    EXPECT_TRUE(wins_election(c, {id(1), id(2), id(3)}));
    EXPECT_FALSE(wins_election(c, {id(1), id(7)})) << "strangers do not count";
}

TEST(Quorum, TheMajorityInstantIsTheOneThatAMajorityHasReached) {
    Configuration c;
    for (unsigned n = 1; n <= 5; ++n)
        c.members.push_back({id(n), "n" + std::to_string(n), MemberKind::data, n != 5, {}, {}, 100});
    const auto at = [](int s) { return Instant{std::chrono::seconds(s)}; };
    std::map<NodeId, Instant> reached{{id(2), at(5)}, {id(3), at(7)}, {id(5), at(99)}};
    EXPECT_EQ(majority_instant(c, reached, id(1), at(10)), at(5)) << "3 of the 4 voters; the learner does not count";
    reached.erase(id(2));
    EXPECT_EQ(majority_instant(c, reached, id(1), at(10)), long_ago);
}
