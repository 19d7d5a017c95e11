// SPDX-License-Identifier: PostgreSQL
//
// Start, stop, gate, promotion and settings of the simulated server.
#include "postgres_fake.hpp"
#include "world.hpp"

namespace pg_ha::sim {

World &Postgres::world() const {
    return host_.world;
}

// ---- processes ---------------------------------------------------------------------------------------

void Postgres::forget_shared_memory() {
    lease_ = long_ago;
    settled_ = false;
    released_ = 0;
    receiver_ = {.number = receiver_.number + 1};
    for (Sender &sender : senders_)
        sender = {.connection = sender.connection + 1};
    waiters_.clear();
    rules_ = {saved_rule};
    wanted_version_++;
    stopping_ = promoting_ = false;
    foreign_ = Timeline::none;
    inserted_ = wal.lsn; // what was not flushed is gone
}

void Postgres::start(bool as_standby) {
    world().checkers.opened(host_, half_rewound());
    if (as_standby)
        world().election.started(host_);
    rewind_.reset(); // one that has touched nothing was this postmaster's business only
    forget_shared_memory();
    postmaster = server_alive_ = backends_alive_ = true;
    in_recovery = as_standby;
    visible_ = wal.lsn; // recovered
    position_known_ = !as_standby;
    const Time replay = world().random.below(2 * world().options.replay);
    world().on(host_, Lane::server, replay, [this] {
        position_known_ = true;
        if (!in_recovery)
            begin_sessions();
        else
            world().election.read_wal(host_);
        host_.sample();
    });
}

void Postgres::end_streams() {
    if (!server_alive_)
        return;
    finish_promotion(Term::none); // an unfinished one never happens
    for (int standby = 0; standby < world().options.hosts; standby++) {
        Sender &sender = senders_[static_cast<std::size_t>(standby)];
        if (!sender.connected || !host_.powered)
            continue;
        const std::uint32_t connection = sender.connection;
        world().at(world().now() + world().network.latency(host_.index, standby),
                   [&w = world(), standby, connection, up = host_.index] {
                       if (w.network.open(Plane::replication, up, standby))
                           w.host(standby).postgres.upstream_closed(up, connection);
                   });
        sender.connected = false;
        sender.connection++;
    }
    drop_receiver();
    server_alive_ = false;
    host_.end_lane(Lane::server);
}

void Postgres::kill() {
    postmaster = false;
    end_streams();
    backends_alive_ = false;
    waiters_.clear();
    host_.end_lane(Lane::backend);
    inserted_ = wal.lsn;
}

// Fast stop: sessions end without an answer, then the rest of the WAL goes to every standby.
void Postgres::stop_clean() {
    postmaster = false;
    stopping_ = true;
    waiters_.clear();
    host_.end_lane(Lane::backend);
    if (!in_recovery) {
        wal.lsn = inserted_ = inserted_ + 104; // shutdown checkpoint
        finish_senders();
    }
    const Time most = in_recovery ? 10 * millisecond : world().options.lease;
    world().on(host_, Lane::server, world().random.between(millisecond, most), [this] { finish_stop(); });
}

void Postgres::finish_stop() {
    host_.worker_gone();
    kill();
    world().trace(host_, "server has stopped");
}

LocalState Postgres::local_state() const {
    LocalState state;
    state.in_recovery = in_recovery;
    state.position_known = position_known_ || world().options.sabotage == Sabotage::stale_position;
    // A restarted standby replays from its last restart point on; until the end it knows too little.
    const WalPoint seen =
        position_known_ ? wal : world().wal.at(wal, wal.lsn - std::min<std::uint64_t>(wal.lsn / 2, 400000));
    state.position = world().wal.position(seen);
    state.replayed = state.position.lsn;
    state.opening = opening();
    state.streaming = in_recovery && receiver_.connected;
    return state;
}

Lineage Postgres::lineage() const {
    return in_recovery ? Lineage{} : world().wal.lineage(wal);
}

// By the one rule that is in effect, as the walsenders know it.
Lsn Postgres::confirmed() const {
    std::uint64_t newest = 0;
    if (rules_.size() == 1)
        for (const Sender &sender : senders_)
            if (sender.connected && flushed_by(rules_.front(), sender.flushed) >= std::max(1, rules_.front().needed))
                newest = std::max(newest, sender.flushed);
    return static_cast<Lsn>(newest);
}

bool Postgres::lease_holds() const {
    return host_.now() < lease_ || world().options.sabotage == Sabotage::lease_ignored;
}

// ---- gate --------------------------------------------------------------------------------------------

LocalState Postgres::close_gate() {
    if (host_.doomed())
        return local_state();
    if (world().options.sabotage != Sabotage::gate_stays_open) {
        receiver_.gate = false;
        drop_receiver();
        world().election.gate_changed(host_);
    }
    return local_state();
}

void Postgres::open_gate(const OpenGate &upstream) {
    if (host_.doomed())
        return;
    world().checkers.gate_opened(host_, upstream);
    const int target = upstream.postgres.port - postgres_port_base;
    receiver_.term = upstream.term;
    if (receiver_.gate && receiver_.upstream == target)
        return world().election.gate_changed(host_);
    drop_receiver();
    receiver_.gate = true;
    receiver_.upstream = target;
    world().election.gate_changed(host_);
    world().trace(host_, "gate open for " + world().host(target).name);
    connect_later(world().random.below(5 * millisecond));
}

// ---- promotion ---------------------------------------------------------------------------------------

void Postgres::promote(Term term) {
    if (host_.doomed())
        return;
    world().checkers.promotion_asked(host_, term);
    world().election.promotion_asked(host_);
    if (promoting_ || !server_alive_)
        return;
    promoting_ = true;
    const Options &o = world().options;
    const Time takes = o.promote / 2 + world().random.exponential(o.promote / 2);
    world().on(host_, Lane::server, takes, [this, term] { finish_promotion(term); });
}

void Postgres::finish_promotion(Term term) {
    if (!promoting_ || term == Term::none) {
        promoting_ = false;
        return;
    }
    promoting_ = false;
    if (world().faults_on && world().random.chance(world().options.promote_fails)) {
        world().election.promotion_failed(host_);
        host_.post([](Host &) { return PromotionFailed{"it took too long"}; });
        connect_later(world().options.reconnect); // recovery goes on, and asks for WAL where the gate has been opened meanwhile
        return;
    }
    drop_receiver();
    world().election.opens(host_);
    finish_senders(); // cascading standbys reach the end of the old timeline
    const BranchId branch = world().wal.create(timeline_of(term), wal, host_.index, world().now());
    wal = {branch, wal.lsn + 56}; // end-of-recovery record
    inserted_ = visible_ = wal.lsn;
    in_recovery = false;
    world().checkers.promoted(host_);
    begin_sessions();
    host_.post([](Host &host) { return Promoted{host.postgres.local_state(), host.postgres.lineage()}; });
}

// pg_ctl promote: the next number, whoever may have it too.
bool Postgres::promote_by_hand() {
    if (!server_alive_ || !in_recovery || !position_known_ || promoting_ || rewind_)
        return false;
    world().trace(host_, "promoted by hand");
    drop_receiver();
    finish_senders();
    const Timeline next = static_cast<Timeline>(raw(world().wal.branch(wal.branch).timeline) + 1);
    const BranchId branch = world().wal.create(next, wal, host_.index, world().now());
    world().wal.branch(branch).by_hand = true;
    wal = {branch, wal.lsn + 56};
    inserted_ = visible_ = wal.lsn;
    in_recovery = false;
    begin_sessions();
    host_.sample();
    return true;
}

void Postgres::demote(const std::string &reason) {
    if (host_.doomed())
        return;
    world().trace(host_, "demotes itself: " + reason);
    lease_ = long_ago;
    if (world().options.sabotage == Sabotage::released_on_demotion)
        for (const Waiter &waiter : waiters_)
            world().checkers.acknowledged(host_, {wal.branch, waiter.lsn});
    host_.doom(Doom::demote);
}

// ---- settings ----------------------------------------------------------------------------------------

void Postgres::set_lease(Instant until) {
    if (host_.doomed())
        return;
    if ((lease_ == long_ago) != (until == long_ago))
        world().trace(host_, until == long_ago ? "fenced" : "lease begins");
    world().checkers.lease_set(host_, until);
    if (!lease_holds())
        leased_since_ = world().now();
    lease_ = until;
}

void Postgres::settled() {
    if (host_.doomed())
        return;
    world().trace(host_, "sessions are let in");
    settled_ = true;
}

// ALTER SYSTEM and reload: processes take the new value one by one, so for a while both rules act.
void Postgres::apply_sync(const ApplySync &sync) {
    if (host_.doomed())
        return;
    wanted_ = sync;
    const std::uint32_t version = ++wanted_version_;
    const Options &o = world().options;
    const Time begins = world().random.below(o.apply_sync), takes = world().random.exponential(o.apply_sync / 2);
    world().on(host_, Lane::server, begins, [this, version] { rule_begins(version); });
    world().on(host_, Lane::server, begins + takes, [this, version] { rule_done(version); });
}

void Postgres::rule_begins(std::uint32_t version) {
    if (version != wanted_version_)
        return;
    StandbyRule rule{0, wanted_.rule.quorum - 1};
    for (const std::string &member : wanted_.names)
        rule.hosts |= 1u << (member[1] - '1');
    saved_rule = rule;
    rules_.push_back(rule);
    release_waiters();
}

void Postgres::rule_done(std::uint32_t version) {
    if (version != wanted_version_)
        return;
    rules_ = {saved_rule};
    world().trace(host_,
                  "waits for " + std::to_string(saved_rule.needed) + " of " + std::to_string(wanted_.names.size()));
    release_waiters();
    // As the server's poll does: an answer that something newer has overtaken is not given.
    host_.post([version](Host &host) -> Event {
        if (version != host.postgres.wanted_version_)
            return host.postgres.sample();
        return SyncInEffect{host.postgres.wanted_rule()};
    });
}

void Postgres::note(const Note &note) {
    if (host_.doomed())
        return;
    host_.role_seen = note.to;
    world().election.became(host_, note.to);
    world().trace(host_, std::string("NOTE ") + to_string(note.from) + " -> " + to_string(note.to) + " " +
                             to_string(note.position) + ": " + note.reason);
}

void Postgres::trace(const std::string &line) {
    world().trace(host_, "core: " + line);
}

} // namespace pg_ha::sim
