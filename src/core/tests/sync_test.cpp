// SPDX-License-Identifier: PostgreSQL
//
// A primary and its sync set: when sessions may be let in, who leaves S and who comes back, and what
// commits wait for meanwhile.
#include "schedule.hpp"

namespace {

class Sync : public Schedule {
protected:
    // n1 is gone, n2 is elected with the vote of n3 and has opened on timeline 2.
    void fail_over() {
        start(2);
        hear(1, 1, primary_heartbeat(1, 1));
        hear(1, 1, Resign{false});
        pass(milliseconds(8));
        win(2);
        open(2);
    }
    LocalState standby_at(std::uint64_t lsn) {
        LocalState state = local;
        state.in_recovery = state.streaming = true;
        state.position = position(2, lsn);
        return state;
    }
};

} // namespace

// ---- letting sessions in ---------------------------------------------------------------------------------

// What the winner has and nobody else does may vanish with it: who reads it must not have seen it before.
TEST_F(Sync, SessionsAreHeldUntilTheSyncSetHasWhatTheySee) {
    fail_over();
    step(SyncInEffect{node->durable().configuration.sync});
    answer(3, 2, standby_at(1000)); // has stored the record; still reads what was before
    ASSERT_TRUE(has_lease());
    EXPECT_TRUE(all<Settled>().empty());
    answer(3, 2, standby_at(1100));
    EXPECT_EQ(all<Settled>().size(), 1u);
    answer(3, 2, standby_at(1200));
    EXPECT_EQ(all<Settled>().size(), 1u);
}

TEST_F(Sync, WalsendersSayFirstThatTheSyncSetHasIt) {
    fail_over();
    step(SyncInEffect{node->durable().configuration.sync});
    answer(3, 2, standby_at(1000));
    step(Sampled{local, {}, static_cast<Lsn>(1099)});
    EXPECT_TRUE(all<Settled>().empty());
    step(Sampled{local, {}, static_cast<Lsn>(1100)});
    EXPECT_EQ(all<Settled>().size(), 1u);
}

// They may have been asked by a rule that wanted fewer.
TEST_F(Sync, WhatWasConfirmedUnderAnEarlierRuleDoesNotCount) {
    fail_over();
    answer(3, 2, standby_at(1000));
    step(Sampled{local, {}, static_cast<Lsn>(1100)});
    step(SyncInEffect{node->durable().configuration.sync});
    EXPECT_TRUE(all<Settled>().empty());
    step(Sampled{local, {}, static_cast<Lsn>(1100)});
    EXPECT_EQ(all<Settled>().size(), 1u);
}

TEST_F(Sync, WithoutARecordInForceNobodyIsLetIn) {
    fail_over();
    step(SyncInEffect{node->durable().configuration.sync});
    step(Sampled{local, {}, static_cast<Lsn>(1100)});
    EXPECT_TRUE(all<Settled>().empty());
}

TEST_F(Sync, AsynchronousModeHoldsNobody) {
    settings.synchronous = disk.configuration.synchronous = false;
    disk.configuration.sync = {};
    fail_over();
    answer(3, 2, standby_at(1000));
    EXPECT_EQ(all<Settled>().size(), 1u);
}

TEST_F(Sync, AWorkerThatResumesItsTermLetsSessionsInAgain) {
    start_as_primary();
    EXPECT_TRUE(all<Settled>().empty());
    answer(2, 1);
    EXPECT_EQ(all<Settled>().size(), 1u);
}
