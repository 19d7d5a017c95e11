// SPDX-License-Identifier: PostgreSQL
#include "operators.hpp"
#include "world.hpp"

namespace pg_ha::sim {

void Operators::begin() {
    for (int i = 0; i < world_.options.hosts; i++)
        world_.after(world_.random.between(world_.options.lease, 2 * world_.options.lease), [this, i] { look(i); });
}

// Compared with the acting primary: does this standby have WAL of another history?
bool Operators::has_other_wal(Host &host) {
    Host *primary = world_.acting_primary();
    return primary && primary != &host && host.postgres.in_recovery &&
           !world_.wal.contains(primary->postgres.wal, host.postgres.wal) && !host.postgres.streaming();
}

void Operators::look(int index) {
    Host &host = world_.host(index);
    const Time lease = world_.options.lease;
    Time &since = unwell_since_[static_cast<std::size_t>(index)];
    Host *primary = world_.acting_primary();
    const bool deposed = primary && primary != &host && host.postgres.writable() &&
                         world_.wal.branch(primary->postgres.wal.branch).timeline >
                             world_.wal.branch(host.postgres.wal.branch).timeline;
    const bool usable = host.powered && !host.frozen && !host.paused && !host.restarting && host.agent() &&
                        !host.blocked(Lane::worker);
    if (!usable || !(deposed || has_other_wal(host)))
        since = 0;
    else if (since == 0)
        since = world_.now();
    else if (world_.now() - since > 2 * lease) {
        since = 0;
        if (deposed) {
            host.stop(false);
            world_.faults.restart_later(host);
        } else {
            clone(host);
        }
    } else if (!world_.faults_on && !host.powered && !host.restarting) {
        host.start();
    }
    if (!world_.faults_on && host.down() && !host.restarting)
        host.start();
    world_.after(lease / 2 + world_.random.below(lease), [this, index] { look(index); });
}

// With its state directory kept, the server stays the voter it was: right only if the primary's term is
// not older than what it has promised.  Without, it comes back as somebody new.
bool Operators::may_keep_identity(Host &host, Host &source) {
    const Timeline timeline = world_.wal.branch(source.postgres.wal.branch).timeline;
    return host.disk.state() && raw(host.disk.state()->term) <= raw(timeline);
}

void Operators::clone(Host &host) {
    const bool keep = !world_.can_lose_identity(host) || world_.random.chance(0.7);
    world_.trace(host, keep ? "operator clones it anew" : "operator clones it anew, without its state directory");
    host.kill_all();
    if (!keep)
        host.disk.lose();
    host.restarting = true;
    world_.after(world_.random.between(world_.options.lease / 4, 2 * world_.options.lease),
                 [this, &host] { finish_clone(host); });
}

// pg_basebackup takes settings and WAL of its source; the state directory lies outside.
void Operators::finish_clone(Host &host) {
    Host *source = world_.acting_primary();
    if (!source || source == &host || source->frozen ||
        (host.disk.state() && !may_keep_identity(host, *source)) ||
        !world_.network.open_both(Plane::replication, host.index, source->index)) {
        world_.after(world_.options.lease, [this, &host] { finish_clone(host); });
        return;
    }
    host.postgres.wal = source->postgres.wal;
    host.postgres.saved_rule = source->postgres.saved_rule;
    host.start();
}

} // namespace pg_ha::sim
