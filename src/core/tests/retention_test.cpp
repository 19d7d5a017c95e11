// SPDX-License-Identifier: PostgreSQL
//
// Which WAL is kept for whom, and when no more.
#include "core/retention.hpp"

#include <gtest/gtest.h>

using namespace pg_ha;
using std::chrono::hours;
using std::chrono::seconds;

namespace {

constexpr std::uint64_t segment = 16, kept_most = 100 * segment;
constexpr NodeId rome{3}, paris{2}, stranger{9};

Lsn lsn(std::uint64_t segments, std::uint64_t more = 0) { return static_cast<Lsn>(segments * segment + more); }
Position at(unsigned timeline, Lsn end) { return {static_cast<Timeline>(timeline), end}; }
TimelineEnd until(unsigned timeline, Lsn end) { return {static_cast<Timeline>(timeline), end}; }

// A server at the end of segment 50, with rome following closely.
RetentionSight sight() {
    RetentionSight s;
    s.members = {{rome, "rome", true, at(1, lsn(50, 3))}};
    s.slots = {{rome, lsn(50)}};
    s.own = at(1, lsn(50, 8));
    s.lineage = {until(1, Lsn::none)};
    s.oldest = lsn(10);
    s.segment_bytes = segment;
    s.free_bytes = 1'000'000;
    s.limits = {kept_most, hours(24)};
    s.now = Instant{hours(1000)};
    return s;
}

RetentionSight without_rome(RetentionSight s) {
    s.members[0].present = false;
    return s;
}

// The steps as a story: "hold 3 at 50+3, drop 9".
std::string steps(const RetentionDecision &decision) {
    std::string text;
    for (const RetentionStep &step : decision.steps) {
        text += (text.empty() ? "" : ", ") + std::string(step.hold == Lsn::none ? "drop " : "hold ") + std::to_string(raw(step.member));
        if (step.hold != Lsn::none)
            text += " at " + std::to_string(raw(step.hold) / segment) + "+" + std::to_string(raw(step.hold) % segment);
    }
    return text;
}

std::string state(const RetentionDecision &decision) { return to_string(decision.rows.at(0).state); }

} // namespace

TEST(Retention, ASlotIsMadeWhereItsMemberIs) {
    RetentionSight s = sight();
    s.slots.clear();
    const RetentionDecision d = RetentionRule().decide(s);
    EXPECT_EQ(steps(d), "hold 3 at 50+3");
    EXPECT_EQ(state(d), "following");
}

TEST(Retention, ASlotFollowsItsMemberByWholeSegments) {
    RetentionSight s = sight();
    EXPECT_EQ(steps(RetentionRule().decide(s)), "");
    s.slots[0].lsn = lsn(49, 15);
    EXPECT_EQ(steps(RetentionRule().decide(s)), "hold 3 at 50+3");
}

TEST(Retention, WhileAMemberIsAwayItsSlotStays) {
    RetentionSight s = without_rome(sight());
    s.own.lsn = lsn(90);
    const RetentionDecision d = RetentionRule().decide(s);
    EXPECT_EQ(steps(d), "");
    EXPECT_EQ(state(d), "holding");
    EXPECT_EQ(d.rows[0].bytes, 40 * segment - 3);
    EXPECT_EQ(d.rows[0].away_since, s.now);
}

TEST(Retention, BeyondTheLimitInBytesTheSlotIsDroppedAndPeopleAreTold) {
    RetentionSight s = without_rome(sight());
    RetentionRule rule;
    s.own.lsn = lsn(150, 3); // exactly the limit
    EXPECT_EQ(steps(rule.decide(s)), "");
    s.own.lsn = lsn(150, 4);
    const RetentionDecision d = rule.decide(s);
    EXPECT_EQ(steps(d), "drop 3");
    EXPECT_EQ(state(d), "dropped");
    EXPECT_NE(d.steps[0].event.find("keeps no more WAL for rome"), std::string::npos) << d.steps[0].event;
    EXPECT_NE(d.steps[0].event.find("clone it again"), std::string::npos);
    s.slots.clear();
    EXPECT_EQ(steps(rule.decide(s)), "") << "told once, and not made again";
    EXPECT_EQ(state(rule.decide(s)), "dropped");
}

TEST(Retention, AStandbyThatStreamsTooSlowlyCannotFillTheDiskEither) {
    RetentionSight s = sight();
    s.own.lsn = lsn(151, 3);
    EXPECT_EQ(steps(RetentionRule().decide(s)), "drop 3");
    s.slots.clear();
    s.own.lsn = lsn(140);
    EXPECT_EQ(steps(RetentionRule().decide(s)), "") << "a slot does not come and go at the limit";
    s.own.lsn = lsn(120);
    EXPECT_EQ(steps(RetentionRule().decide(s)), "hold 3 at 50+3");
}

TEST(Retention, BeyondTheLimitInTimeTheSlotIsDropped) {
    RetentionSight s = without_rome(sight());
    RetentionRule rule;
    EXPECT_EQ(steps(rule.decide(s)), "");
    s.now += hours(24);
    EXPECT_EQ(steps(rule.decide(s)), "");
    s.now += seconds(1);
    EXPECT_EQ(steps(rule.decide(s)), "drop 3");
}

TEST(Retention, TheTimeBeginsAnewWithEachAbsence) {
    RetentionSight s = without_rome(sight());
    RetentionRule rule;
    rule.decide(s);
    s.now += hours(20);
    s.members[0].present = true;
    rule.decide(s);
    s.members[0].present = false;
    s.now += hours(20);
    const RetentionDecision d = rule.decide(s);
    EXPECT_EQ(state(d), "holding");
    EXPECT_EQ(d.rows[0].away_since, s.now);
}

TEST(Retention, HeldWalNeverTakesMoreThanIsLeftFree) {
    RetentionSight s = without_rome(sight());
    s.own.lsn = lsn(70, 3);
    s.free_bytes = 20 * segment;
    EXPECT_EQ(state(RetentionRule().decide(s)), "holding");
    s.free_bytes = 20 * segment - 2;
    const RetentionDecision d = RetentionRule().decide(s);
    EXPECT_EQ(steps(d), "drop 3");
    EXPECT_NE(d.rows[0].reason.find("disk space"), std::string::npos) << d.rows[0].reason;
    s.free_bytes = 0;
    s.own.lsn = lsn(52);
    EXPECT_EQ(steps(RetentionRule().decide(s)), "") << "so little makes no difference to a full disk";
}

TEST(Retention, WhoNeedsWalThatIsGoneIsGivenUp) {
    RetentionSight s = without_rome(sight());
    s.slots.clear();
    s.oldest = lsn(51);
    s.own.lsn = lsn(55);
    const RetentionDecision d = RetentionRule().decide(s);
    EXPECT_EQ(steps(d), "");
    EXPECT_EQ(state(d), "dropped");
    EXPECT_NE(d.rows[0].reason.find("is gone"), std::string::npos);
    s.members[0].present = true; // what it says may be older than what it has
    EXPECT_EQ(steps(RetentionRule().decide(s)), "hold 3 at 51+0");
}

TEST(Retention, WhileAPositionIsNotKnownNothingChanges) {
    RetentionSight s = without_rome(sight());
    s.members[0].position.reset();
    s.own.lsn = lsn(60);
    RetentionDecision d = RetentionRule().decide(s);
    EXPECT_EQ(steps(d), "");
    EXPECT_EQ(state(d), "holding");
    EXPECT_EQ(d.rows[0].bytes, 10 * segment + 0) << "by the slot";
    s.own.lsn = lsn(151);
    EXPECT_EQ(steps(RetentionRule().decide(s)), "drop 3") << "the limit holds nevertheless";
    s.slots.clear();
    d = RetentionRule().decide(s);
    EXPECT_EQ(steps(d), "");
    EXPECT_EQ(state(d), "none");
}

// A crash forgets the last moves of a slot, and a checkpoint may have removed WAL since.
TEST(Retention, ASlotOlderThanTheWalIsNoReasonToGiveUp) {
    RetentionSight s = without_rome(sight());
    s.members[0].position.reset();
    s.slots[0].lsn = lsn(9);
    EXPECT_EQ(steps(RetentionRule().decide(s)), "hold 3 at 10+0");
}

TEST(Retention, ASlotThatPostgresqlHasGivenUpIsMadeAnewOrDropped) {
    RetentionSight s = without_rome(sight());
    s.slots[0].lsn = Lsn::none;
    EXPECT_EQ(steps(RetentionRule().decide(s)), "drop 3, hold 3 at 50+3");
    s.oldest = lsn(51);
    s.own.lsn = lsn(55);
    const RetentionDecision d = RetentionRule().decide(s);
    EXPECT_EQ(steps(d), "drop 3");
    EXPECT_NE(d.steps[0].event, "");
}

TEST(Retention, SlotsOfStrangersAndOfTheServerItselfGo) {
    RetentionSight s = sight();
    s.slots.push_back({stranger, lsn(5)});
    EXPECT_EQ(steps(RetentionRule().decide(s)), "drop 9");
    s.members.clear();
    EXPECT_EQ(steps(RetentionRule().decide(s)), "drop 3, drop 9") << "of all, when it is a member no more";
}

TEST(Retention, SwitchedOffThereAreNoSlots) {
    RetentionSight s = sight();
    s.limits.bytes = 0;
    const RetentionDecision d = RetentionRule().decide(s);
    EXPECT_EQ(steps(d), "drop 3");
    EXPECT_EQ(d.steps[0].event, "");
    EXPECT_EQ(state(d), "none");
}

// An old primary has WAL that nobody else has: it will need ours from where the histories parted.
TEST(Retention, AnOldPrimaryNeedsWalFromTheFork) {
    RetentionSight s = without_rome(sight());
    s.slots.clear();
    s.members[0].position = at(1, lsn(49, 9));
    s.own = at(4, lsn(60));
    s.lineage = {until(1, lsn(48, 2)), until(4, Lsn::none)};
    EXPECT_EQ(steps(RetentionRule().decide(s)), "hold 3 at 48+2");
    s.members[0].position = at(3, lsn(49, 9)); // a timeline that we never were on: it began on 1 at the latest
    EXPECT_EQ(steps(RetentionRule().decide(s)), "hold 3 at 48+2");
    s.members[0].position = at(1, lsn(40));
    EXPECT_EQ(steps(RetentionRule().decide(s)), "hold 3 at 40+0");
}

// A standby keeps WAL for members that are ahead of it, too: it may be their primary after the next failover.
TEST(Retention, OnAStandbyThatLagsNoSlotIsAheadOfItsOwnWal) {
    RetentionSight s = sight();
    s.members = {{paris, "paris", true, at(2, lsn(58))}, {rome, "rome", true, at(1, lsn(50, 3))}};
    EXPECT_EQ(steps(RetentionRule().decide(s)), "hold 2 at 50+8");
}
