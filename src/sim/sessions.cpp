// SPDX-License-Identifier: PostgreSQL
//
// The commit path, step by step as a backend walks it: lease check, WAL insert, flush, wait for the
// standbys, last check, answer.  Each step is an event of its own, so that a freeze can fall between
// any two.  Clients write to every server directly, as if there were no routing.
#include "postgres_fake.hpp"
#include "world.hpp"

namespace pg_ha::sim {

void Postgres::begin_sessions() {
    for (int session = 0; session < world().options.sessions; session++)
        next_write(session, 0);
}

void Postgres::next_write(int session, Time delay) {
    const Time think = world().random.exponential(world().options.think);
    world().on(host_, Lane::backend, delay + think, [this, session] { write(session); });
}

void Postgres::freeze_in_commit(int step, Time duration) {
    freeze_step_ = step;
    freeze_for_ = duration;
}

void Postgres::took_step(int step) {
    if (step != freeze_step_)
        return;
    freeze_step_ = -1;
    if (world().faults_on)
        host_.freeze(freeze_for_);
}

void Postgres::write(int session) {
    if (!writable())
        return;
    read();
    if (!lease_holds()) // refused: "not the primary", or waiting for the lease
        return next_write(session, world().options.lease / 20);
    world().checkers.begins_write(host_);
    world().on(host_, Lane::backend, world().random.between(20 * microsecond, 200 * microsecond),
               [this, session] { insert(session); });
    took_step(0);
}

// Ordinary sessions are held until the server has settled.  Without a lease they may read what vanishes, unless
// pg_ha.fence_reads is set: a deposed primary flushes on after its own vote, and a standby that has not voted
// yet confirms it.
void Postgres::read() {
    if (settled_ && lease_holds())
        world().checkers.seen({wal.branch, visible_});
}

void Postgres::insert(int session) {
    inserted_ +=
        64 + static_cast<std::uint64_t>(world().random.below(static_cast<std::int64_t>(world().options.record_bytes)));
    const std::uint64_t lsn = inserted_;
    world().on(host_, Lane::backend, world().flush_time(), [this, session, lsn] { flush_commit(session, lsn); });
    took_step(1);
}

void Postgres::flush_commit(int session, std::uint64_t lsn) {
    if (lsn > wal.lsn) {
        wal.lsn = lsn;
        if (server_alive_)
            pump_all();
    }
    if (released(lsn) || world().random.chance(world().options.cancel_chance))
        world().on(host_, Lane::backend, world().random.between(5 * microsecond, 50 * microsecond),
                   [this, session, lsn] { last_check(session, lsn); });
    else
        waiters_.push_back({session, lsn, world().now()});
    took_step(2);
}

// SyncRepWaitForLSN: nothing to wait for, or walsenders have released this position.
bool Postgres::released(std::uint64_t lsn) const {
    if (world().options.sabotage == Sabotage::waiters_released || lsn <= released_)
        return true;
    for (const StandbyRule &rule : rules_)
        if (rule.needed <= 0)
            return true;
    return false;
}

// How many of the rule's standbys say that they have flushed up to there?
int Postgres::flushed_by(const StandbyRule &rule, std::uint64_t lsn) const {
    int count = 0;
    for (std::size_t standby = 0; standby < senders_.size(); standby++)
        count += senders_[standby].connected && (rule.hosts >> standby & 1u) && senders_[standby].flushed >= lsn;
    return count;
}

void Postgres::release(std::uint64_t lsn, const StandbyRule &rule) {
    if (lsn <= released_)
        return;
    released_ = lsn;
    world().election.released(host_, lsn, rule);
}

Time Postgres::longest_wait() const {
    Time longest = 0;
    if (writable() && lease_holds())
        for (const Waiter &waiter : waiters_)
            longest = std::max(longest, world().now() - std::max(waiter.since, leased_since_));
    return longest;
}

// SyncRepReleaseWaiters: the position that enough connected standbys say they have flushed.
void Postgres::release_waiters() {
    for (const StandbyRule &rule : rules_)
        for (const Sender &sender : senders_)
            if (rule.needed > 0 && sender.connected && flushed_by(rule, sender.flushed) >= rule.needed)
                release(sender.flushed, rule);
    for (std::size_t i = 0; i < waiters_.size();) {
        if (!released(waiters_[i].lsn)) {
            i++;
            continue;
        }
        const Waiter waiter = waiters_[i];
        waiters_.erase(waiters_.begin() + static_cast<std::ptrdiff_t>(i));
        world().on(host_, Lane::backend, world().random.between(5 * microsecond, 50 * microsecond),
                   [this, waiter] { last_check(waiter.session, waiter.lsn); });
    }
}

// XACT_EVENT_COMMIT: without lease or confirmation the connection is dropped without an answer.
void Postgres::last_check(int session, std::uint64_t lsn) {
    if (released(lsn)) // if not, a cancelled wait: it can be seen as well, but is no promise
        visible_ = std::max(visible_, lsn);
    const bool may_answer = lease_holds() || world().options.sabotage == Sabotage::lease_not_rechecked;
    if (!may_answer || !released(lsn))
        return next_write(session, world().options.think);
    const WalPoint commit{wal.branch, lsn};
    world().checkers.lease_checked(host_);
    world().election.passed_last_check(host_, lsn, rules_);
    world().on(host_, Lane::backend, world().random.between(5 * microsecond, 100 * microsecond),
               [this, session, commit] { answer(session, commit); });
    took_step(3);
}

void Postgres::answer(int session, WalPoint commit) {
    last_acknowledged = world().now();
    world().checkers.acknowledged(host_, commit);
    next_write(session, 0);
}

} // namespace pg_ha::sim
