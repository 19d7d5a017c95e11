// SPDX-License-Identifier: PostgreSQL
//
// A short run of what `make gossip-scale` measures, with bounds; and two planted defects that break them.
#include "sim/gossip/experiment.hpp"

#include "core/planted.hpp"

#include <gtest/gtest.h>

using namespace pg_ha;
using namespace pg_ha::gossip_scale;

namespace {

Figures run(std::size_t members, const Conditions &conditions, double hours, std::size_t kills, std::size_t changes,
            Bug bug = Bug::none) {
    planted_bugs = bit_of(bug);
    const Figures figures = measure({members, conditions, hours, kills, changes}, 1);
    planted_bugs = 0;
    return figures;
}

constexpr Conditions quiet{"quiet", 0, 0}, lossy{"lossy", 0.1, 0};

} // namespace

TEST(GossipScale, ANodesCostIsFlatAndADeadMemberIsSoonKnown) {
    const Figures f = run(100, quiet, 0.3, 2, 2);
    EXPECT_LT(f.messages_max, 80) << "what it is with 17 members, who all speak to each other";
    EXPECT_LT(f.bytes_max, 50'000);
    EXPECT_LE(f.largest_heartbeat, 1200u);
    EXPECT_EQ(f.lease_held, 1.0);
    EXPECT_LT(f.first_suspects.worst, 3);
    EXPECT_LT(f.all_suspect.worst, 4);
    EXPECT_LT(f.all_unreachable.worst, 12);
    EXPECT_LT(f.all_know.worst, 2);
    EXPECT_EQ(f.not_detected + f.not_known, 0u);
    EXPECT_EQ(f.suspicions_raised, 0);
}

TEST(GossipScale, MessagesThatAreLostMakeNobodySuspect) {
    const Figures f = run(100, lossy, 1, 0, 0);
    EXPECT_LT(f.messages_max, 120);
    EXPECT_EQ(f.unreachable, 0);
    EXPECT_LE(f.suspicions_of_sound, 1);
    EXPECT_EQ(f.lease_held, 1.0);
}

// At 10 % a round trip is lost too seldom for five in a row; at 20 % it is not.
TEST(GossipScale, WithoutIndirectProbesTheyWould) {
    constexpr Conditions lossier{"lossier", 0.2, 0};
    EXPECT_LE(run(100, lossier, 1, 0, 0).suspicions_of_sound, 1);
    EXPECT_GT(run(100, lossier, 1, 0, 0, Bug::no_indirect_probes).suspicions_of_sound, 10);
}

TEST(GossipScale, ASuspicionThatIsNotRefutedBecomesAFalseVerdict) {
    constexpr Conditions slow{"slow", 0, 0.05};
    EXPECT_EQ(run(60, slow, 0.5, 0, 0).unreachable, 0);
    EXPECT_GT(run(60, slow, 0.5, 0, 0, Bug::suspicion_not_refuted).unreachable, 0);
}
