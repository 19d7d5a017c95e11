// SPDX-License-Identifier: PostgreSQL
//
// Streaming replication: walreceiver and walsender.  WAL goes in chunks, one under way at a time; the
// standby flushes, then acknowledges.  Like stock PostgreSQL, a walsender believes the flush position
// that a standby claims, even if the standby has other WAL there.
#include "postgres_fake.hpp"
#include "world.hpp"

#include <algorithm>

namespace pg_ha::sim {

namespace {
constexpr Time retransmit_min = 20 * millisecond, retransmit_max = 200 * millisecond;
}

// ---- walreceiver ---------------------------------------------------------------------------------------

void Postgres::connect_later(Time delay) {
    const std::uint32_t number = receiver_.number;
    world().on(host_, Lane::server, delay, [this, number] { try_connect(number); });
}

void Postgres::try_connect(std::uint32_t number) {
    if (number != receiver_.number || !receiver_.gate || receiver_.connected || !in_recovery || promoting_)
        return;
    const Time pause = world().options.reconnect / 2 + world().random.below(world().options.reconnect);
    Host &up = world().host(receiver_.upstream);
    const bool reachable = up.powered && world().network.open_both(Plane::replication, host_.index, up.index);
    if (!position_known_ || !reachable || up.frozen || up.index == host_.index)
        return connect_later(pause);
    const Time round_trip = 2 * world().network.latency(host_.index, up.index);
    if (!up.postgres.postmaster || !up.postgres.position_known_) { // nobody there, or "is starting up"
        if (world().random.chance(0.5))
            host_.post([](Host &) { return StreamEnded{false}; });
        return connect_later(pause + round_trip);
    }
    world().on(host_, Lane::server, round_trip, [this, number] {
        if (number != receiver_.number || !receiver_.gate)
            return;
        Postgres &upstream = world().host(receiver_.upstream).postgres;
        if (upstream.server_alive_ && upstream.postmaster && world().host(receiver_.upstream).powered)
            upstream.accept(host_.index);
        else
            connect_later(world().options.reconnect);
    });
}

// By the numbers of the timelines and the ends of those before the last, is this part of our history?
bool Postgres::looks_alike(WalPoint theirs) const {
    const Lineage ours = world().wal.lineage(wal), other = world().wal.lineage(theirs);
    const std::size_t before = other.size() - 1;
    return ours.size() > before && std::equal(other.begin(), other.begin() + static_cast<std::ptrdiff_t>(before), ours.begin()) &&
           ours[before].timeline == other[before].timeline &&
           (ours[before].end == Lsn::none || theirs.lsn <= raw(ours[before].end));
}

// Runs on the upstream: a standby asks for WAL from its own position on.
void Postgres::accept(int standby) {
    Postgres &other = world().host(standby).postgres;
    const std::uint64_t shared = world().wal.shared_until(wal, other.wal.branch);
    const Time pause = world().options.reconnect;
    if (shared == 0) // "requested timeline is not in this server's history"
        return other.connect_later(pause);
    Sender &sender = senders_[static_cast<std::size_t>(standby)];
    const bool diverged = other.wal.lsn > shared;
    if (diverged && in_recovery) // put back behind those who follow it; what a cascading walsender is told releases nobody
        return other.connect_later(pause);
    // Nobody is elected on a timeline above the term; the wrapped walreceiver tells (src/server/gate.cpp).
    if (raw(world().wal.branch(wal.branch).timeline) > raw(other.receiver_.term))
        return other.connect_later(pause);
    // Where a number was taken by hand, the wrapped walreceiver sees other histories (src/server/gate.cpp), unless
    // both left the same timeline at the same place.
    if (diverged && world().wal.branch(other.wal.branch).by_hand && !looks_alike(other.wal)) {
        if (timeline_of(other.receiver_.term) == world().wal.branch(wal.branch).timeline) {
            other.foreign_ = world().wal.branch(other.wal.branch).timeline;
            world().host(standby).sample();
        }
        return other.connect_later(pause);
    }
    // The number is the one that the core has looked at, and yet another server's: its history tells.
    if (diverged && world().wal.branch(wal.branch).by_hand)
        return other.connect_later(pause);
    // The gate's permission stands while the worker may sleep.  If the upstream is on another timeline by now
    // than the core has looked at, the wrapped walreceiver compares histories itself (src/server/gate.cpp).
    const bool unseen = world().wal.branch(wal.branch).timeline != timeline_of(other.receiver_.term);
    if (diverged && (unseen || world().random.chance(0.3))) // or the fork lies in an earlier segment: refused
        return other.connect_later(pause);
    sender = {.connected = true,
              .false_claim = diverged,
              .connection = sender.connection + 1,
              .sent = other.wal.lsn,
              .acknowledgement_fifo = sender.acknowledgement_fifo};
    Receiver &receiver = other.receiver_;
    receiver.connected = true;
    receiver.connection = sender.connection;
    receiver.upstream_epoch = host_.epoch(Lane::server);
    receiver.silent_since = world().now();
    world().trace(world().host(standby),
                  (diverged ? "streams although diverged, from " : "streams from ") + host_.name);
    other.acknowledge(other.wal.lsn);
    if (diverged)
        return other.claim_falsely();
    world().host(standby).sample();
    pump(standby);
    if (stopping_)
        finish_senders();
}

// It cannot follow, and ends; until then its claim has counted.
void Postgres::claim_falsely() {
    world().checkers.false_claim(host_);
    const std::uint32_t number = receiver_.number;
    world().on(host_, Lane::server, world().random.between(millisecond, 50 * millisecond), [this, number] {
        if (number == receiver_.number && receiver_.connected)
            stream_ended(false);
    });
}

// The walreceiver ends; its kernel tells the upstream after what is already on the way.
void Postgres::drop_receiver() {
    receiver_.number++;
    if (!receiver_.connected)
        return;
    receiver_.connected = false;
    last_streamed = world().now();
    const int up = receiver_.upstream, standby = host_.index;
    Sender &sender = world().host(up).postgres.senders_[static_cast<std::size_t>(standby)];
    if (!host_.powered || sender.connection != receiver_.connection)
        return;
    sender.acknowledgement_fifo =
        std::max(sender.acknowledgement_fifo + 1, world().now() + world().network.latency(standby, up));
    const std::uint32_t connection = receiver_.connection;
    world().on(world().host(up), Lane::server, sender.acknowledgement_fifo - world().now(),
               [&w = world(), up, standby, connection] { w.host(up).postgres.disconnected(standby, connection); });
}

void Postgres::stream_ended(bool finished) {
    drop_receiver();
    world().trace(host_, finished ? "stream ended, complete" : "stream ended");
    host_.post([finished](Host &) { return StreamEnded{finished}; });
    if (receiver_.gate)
        connect_later(world().random.below(2 * world().options.reconnect));
}

bool Postgres::receives_from(int up, std::uint32_t connection) const {
    return receiver_.connected && receiver_.upstream == up && receiver_.connection == connection;
}

// The kernel of the upstream closed the connection (its process is gone).
void Postgres::upstream_closed(int up, std::uint32_t connection) {
    const std::uint32_t number = receiver_.number;
    if (!receives_from(up, connection))
        return;
    world().on(host_, Lane::server, 0, [this, number] {
        if (number == receiver_.number && receiver_.connected)
            stream_ended(false);
    });
}

// Keepalives: notices an upstream that was restarted unseen, or has been silent for very long.
void Postgres::watch_stream() {
    if (!receiver_.connected || host_.frozen)
        return;
    const Host &up = world().host(receiver_.upstream);
    const bool reachable = up.powered && world().network.open_both(Plane::replication, host_.index, up.index);
    if (reachable && up.epoch(Lane::server) != receiver_.upstream_epoch)
        return stream_ended(false);
    if (reachable && !up.frozen)
        receiver_.silent_since = world().now();
    else if (world().now() - receiver_.silent_since > 12 * world().options.lease)
        stream_ended(false);
}

// ---- walsender -----------------------------------------------------------------------------------------

void Postgres::pump_all() {
    for (int standby = 0; standby < world().options.hosts; standby++)
        pump(standby);
}

void Postgres::pump(int standby) {
    Sender &sender = senders_[static_cast<std::size_t>(standby)];
    if (!sender.connected || sender.busy || sender.false_claim || !server_alive_)
        return;
    const std::uint64_t end = sender.finishing && !stopping_ ? sender.last : wal.lsn;
    if (sender.sent >= end) {
        if (sender.finishing && (!stopping_ || sender.flushed >= wal.lsn))
            end_of_copy(standby);
        return;
    }
    sender.busy = true;
    sender.sent = std::min(end, sender.sent + world().options.chunk);
    Host &target = world().host(standby);
    const Chunk chunk{static_cast<std::int8_t>(host_.index), static_cast<std::int8_t>(standby), sender.connection, 0,
                      world().wal.at(wal, sender.sent)};
    world().on(target, Lane::server, world().network.latency(host_.index, standby),
               [&w = world(), chunk] { w.host(chunk.standby).postgres.arrived(chunk); });
}

void Postgres::arrived(Chunk chunk) {
    if (!receives_from(chunk.upstream, chunk.connection))
        return;
    chunk.number = receiver_.number;
    if (!world().network.open(Plane::replication, chunk.upstream, host_.index)) {
        world().on(host_, Lane::server, world().random.between(retransmit_min, retransmit_max),
                   [this, chunk] { arrived(chunk); });
        return;
    }
    const Time disk = world().flush_time();
    world().on(host_, Lane::server, disk, [this, chunk] { flushed(chunk); });
    world().on(world().host(chunk.upstream), Lane::server, 0, [&w = world(), chunk] {
        Postgres &up = w.host(chunk.upstream).postgres;
        if (Sender &s = up.senders_[static_cast<std::size_t>(chunk.standby)]; s.connection == chunk.connection) {
            s.busy = false;
            up.pump(chunk.standby);
        }
    });
}

void Postgres::flushed(Chunk chunk) {
    if (chunk.number != receiver_.number)
        return;
    if (!world().wal.contains(wal, chunk.end)) { // otherwise a later chunk's flush was faster and took it along
        world().checkers.flushed(host_, wal, chunk.end);
        wal = chunk.end;
        inserted_ = wal.lsn;
    }
    acknowledge(wal.lsn);
    pump_all(); // cascading standbys
}

void Postgres::acknowledge(std::uint64_t lsn) {
    last_streamed = world().now();
    const int up = receiver_.upstream, standby = host_.index;
    const std::uint32_t connection = receiver_.connection;
    Time &fifo = world().host(up).postgres.senders_[static_cast<std::size_t>(standby)].acknowledgement_fifo;
    fifo = std::max(fifo + 1, world().now() + world().network.latency(standby, up));
    world().on(world().host(up), Lane::server, fifo - world().now(), [&w = world(), up, standby, connection, lsn] {
        w.host(up).postgres.acknowledged(standby, connection, lsn);
    });
}

void Postgres::acknowledged(int standby, std::uint32_t connection, std::uint64_t lsn) {
    Sender &sender = senders_[static_cast<std::size_t>(standby)];
    if (!sender.connected || sender.connection != connection)
        return;
    if (!world().network.open(Plane::replication, standby, host_.index)) {
        world().on(host_, Lane::server, world().random.between(retransmit_min, retransmit_max),
                   [this, standby, connection, lsn] { acknowledged(standby, connection, lsn); });
        return;
    }
    sender.flushed = std::max(sender.flushed, lsn);
    release_waiters();
    if (sender.finishing)
        pump(standby);
}

void Postgres::disconnected(int standby, std::uint32_t connection) {
    Sender &sender = senders_[static_cast<std::size_t>(standby)];
    if (sender.connected && sender.connection == connection)
        sender.connected = false;
}

// Clean stop, or this standby was promoted: whoever streams from here gets the rest and the end.
void Postgres::finish_senders() {
    for (int standby = 0; standby < world().options.hosts; standby++) {
        Sender &sender = senders_[static_cast<std::size_t>(standby)];
        sender.finishing = true;
        sender.last = wal.lsn;
        pump(standby);
    }
}

void Postgres::end_of_copy(int standby) {
    Sender &sender = senders_[static_cast<std::size_t>(standby)];
    sender.connected = false;
    Host &target = world().host(standby);
    const std::uint32_t connection = sender.connection;
    world().on(target, Lane::server, world().network.latency(host_.index, standby),
               [&target, up = host_.index, connection] {
                   if (target.postgres.receives_from(up, connection))
                       target.postgres.stream_ended(true);
               });
}

} // namespace pg_ha::sim
