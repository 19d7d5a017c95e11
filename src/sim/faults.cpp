// SPDX-License-Identifier: PostgreSQL
//
// What each fault does.
#include "faults.hpp"
#include "world.hpp"

namespace pg_ha::sim {

void Faults::begin() {
    for (int i = 0; i < fault_count; i++)
        if (world_.options.fault_every[static_cast<std::size_t>(i)] > 0)
            next(static_cast<Fault>(i));
}

void Faults::next(Fault fault) {
    const Time mean = world_.options.fault_every[static_cast<std::size_t>(fault)];
    world_.after(world_.random.exponential(mean), [this, fault] {
        if (!world_.faults_on)
            return;
        strike(fault);
        next(fault);
    });
}

Host &Faults::victim() {
    if (world_.random.chance(world_.options.hits_primary))
        if (Host *primary = world_.acting_primary())
            return *primary;
    return world_.host(static_cast<int>(world_.random.below(world_.options.hosts)));
}

// Shorter than the lease, just about the lease, or long.
Time Faults::duration() {
    const Time lease = world_.options.lease;
    switch (world_.random.below(3)) {
    case 0:
        return world_.random.between(lease / 50, lease);
    case 1:
        return world_.random.between(lease * 8 / 10, lease * 13 / 10);
    default:
        return world_.random.between(lease, 5 * lease);
    }
}

void Faults::restart_later(Host &host) {
    if (host.restarting)
        return;
    host.restarting = true;
    const Time lease = world_.options.lease;
    const Time down =
        world_.random.chance(0.5) ? world_.random.between(lease / 20, lease) : world_.random.between(lease, 5 * lease);
    world_.after(down, [&host] { host.start(); });
}

void Faults::strike(Fault fault) {
    Host &host = victim();
    if (fault >= Fault::partition && fault <= Fault::slow_link)
        return strike_network(fault, host);
    if (fault == Fault::stream_cut)
        return cut_streams(host);
    if (fault == Fault::slow_flush) {
        const Time until = world_.now() + duration();
        world_.flush_stalls_until = std::max(world_.flush_stalls_until, until);
        return;
    }
    if (fault == Fault::disk_full) {
        host.disk.full_until = world_.now() + duration();
        return;
    }
    if (fault == Fault::power_off && host.powered && !host.down()) {
        host.power_off();
        return restart_later(host);
    }
    if (host.powered && !host.frozen && !host.restarting && host.postgres.rewinding() && fault <= Fault::immediate_stop) {
        host.kill_all();
        return restart_later(host);
    }
    if (!host.powered || host.frozen || host.paused || host.restarting || !host.agent() || host.blocked(Lane::worker))
        return;
    if (fault == Fault::state_loss)
        return lose_state(host);
    if (fault == Fault::state_torn)
        return tear_state(host);
    if (fault == Fault::hand_promotion)
        return promote_by_hand(host);
    if (fault > Fault::state_torn)
        return put_back(fault, host);
    strike_process(fault, host);
}

void Faults::strike_process(Fault fault, Host &host) {
    switch (fault) {
    case Fault::kill_all:
        host.kill_all();
        break;
    case Fault::kill_postmaster:
        host.kill_postmaster();
        break;
    case Fault::kill_orphans:
        host.kill_orphans();
        break;
    case Fault::clean_stop:
        host.stop(true);
        break;
    case Fault::immediate_stop:
        host.stop(false);
        break;
    case Fault::crash_restart:
        return host.crash_restart(world_.random.chance(0.7), false);
    case Fault::freeze:
        if (host.postgres.writable() && world_.random.chance(0.5))
            return host.postgres.freeze_in_commit(static_cast<int>(world_.random.below(4)), duration());
        return host.freeze(duration());
    case Fault::worker_pause:
        return host.pause_worker(duration());
    default:
        return;
    }
    restart_later(host);
}

void Faults::lose_state(Host &host) {
    if (!world_.can_lose_identity(host))
        return;
    host.kill_all();
    world_.trace(host, "state directory lost");
    host.disk.lose();
    restart_later(host);
}

// The disk has lied, or tore both slots.
void Faults::tear_state(Host &host) {
    if (!world_.can_lose_identity(host))
        return;
    host.power_off();
    if (host.witness() || world_.random.chance(0.5) || !host.disk.lose_newest_save())
        host.disk.lose();
    world_.trace(host, host.disk.state() ? "its newest save is lost" : "its state file is unreadable");
    restart_later(host);
}

// It takes the number that the next elected primary's timeline will have.
void Faults::promote_by_hand(Host &host) {
    const DurableState *state = host.disk.usable();
    if (!state || host.witness() || !world_.can_lose_identity(host) ||
        world_.wal.branch(host.postgres.wal.branch).timeline != timeline_of(state->term) || !host.postgres.promote_by_hand())
        return;
    world_.election.identity_lost();
    host.disk.note_lost();
}

// ---- network -----------------------------------------------------------------------------------------------

void Faults::cut_until(Time end, const Cut &cut) {
    world_.network.cut(static_cast<Plane>(cut.plane), cut.from, cut.to);
    cuts_.push_back(cut);
    if (world_.options.sabotage == Sabotage::never_heals)
        return;
    world_.at(end, [this, cut] {
        const auto same = [&](const Cut &c) { return c.from == cut.from && c.to == cut.to && c.plane == cut.plane; };
        const auto found = std::find_if(cuts_.begin(), cuts_.end(), same);
        if (found == cuts_.end())
            return; // healed at the end of all faults
        cuts_.erase(found);
        world_.network.uncut(static_cast<Plane>(cut.plane), cut.from, cut.to);
    });
}

// planes: bit 0 peer links, bit 1 replication
void Faults::stop_flow(int from, int to, Time duration, int planes) {
    for (const int plane : {0, 1})
        if (planes >> plane & 1)
            cut_until(world_.now() + duration,
                      {static_cast<std::int8_t>(from), static_cast<std::int8_t>(to), static_cast<std::int8_t>(plane)});
}

void Faults::strike_network(Fault fault, Host &host) {
    const int hosts = world_.options.hosts;
    const int other = static_cast<int>(world_.random.below(hosts));
    const Time lasts = duration();
    const int planes = world_.random.chance(0.7) ? 3 : world_.random.chance(0.5) ? 1 : 2;
    const auto groups = static_cast<unsigned>(world_.random.below(1 << hosts));
    world_.trace(host, std::string("network: ") + to_string(fault) + " for " + std::to_string(lasts / millisecond) +
                           " ms" +
                           (planes == 3   ? ""
                            : planes == 1 ? ", peer links only"
                                          : ", replication only"));
    if (fault == Fault::flap) {
        world_.network.break_link(host.index, other);
        return;
    }
    if (fault == Fault::slow_link) {
        world_.network.slow(host.index, other, world_.random.below(world_.options.lease / 2));
        world_.after(lasts, [this, a = host.index, other] { world_.network.slow(a, other, 0); });
        return;
    }
    for (int from = 0; from < hosts; from++)
        for (int to = 0; to < hosts; to++) {
            const bool cut = fault == Fault::partition ? (groups >> from & 1u) != (groups >> to & 1u)
                             : fault == Fault::isolate ? (from == host.index) != (to == host.index)
                             : fault == Fault::one_way ? from == host.index && to == other
                                                       : world_.random.chance(0.4); // any graph
            if (cut && from != to)
                stop_flow(from, to, lasts, planes);
        }
}

void Faults::cut_streams(Host &host) {
    const int other = static_cast<int>(world_.random.below(world_.options.hosts));
    const bool all = world_.random.chance(0.3);
    const Time lasts = duration() * world_.random.between(1, 4); // also longer than any commit may wait
    world_.trace(host, "no WAL flows between it and " + (all ? "all others" : world_.host(other).name) + " for " +
                           std::to_string(lasts / millisecond) + " ms");
    for (int peer = 0; peer < world_.options.hosts; peer++)
        if (peer != host.index && (all || peer == other)) {
            stop_flow(host.index, peer, lasts, 2);
            stop_flow(peer, host.index, lasts, 2);
        }
}

void Faults::end() {
    if (world_.options.sabotage != Sabotage::never_heals) {
        std::vector<Cut> cuts;
        cuts.swap(cuts_);
        for (const Cut &cut : cuts)
            world_.network.uncut(static_cast<Plane>(cut.plane), cut.from, cut.to);
    }
    for (int a = 0; a < world_.options.hosts; a++)
        for (int b = 0; b < world_.options.hosts; b++)
            world_.network.slow(a, b, 0);
    world_.flush_stalls_until = 0;
    for (int i = 0; i < world_.options.hosts; i++)
        world_.host(i).disk.full_until = 0;
}

} // namespace pg_ha::sim
