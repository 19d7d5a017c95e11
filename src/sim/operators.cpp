// SPDX-License-Identifier: PostgreSQL
//
// Looks at each host now and then, and does what its runbook says.
#include "operators.hpp"
#include "world.hpp"

namespace pg_ha::sim {

Operators::Operators(World &world) : world_(world), commands_(world.options.seed ^ 0x3C6EF372FE94F82Bull) {}

void Operators::begin() {
    if (world_.options.commands_every > 0)
        world_.after(commands_.exponential(world_.options.commands_every), [this] { command(); });
    for (int i = 0; i < world_.options.hosts; i++)
        world_.after(world_.random.between(world_.options.lease, 2 * world_.options.lease), [this, i] { look(i); });
}

void Operators::give(Host &host, const Command &command) {
    struct Names {
        std::string operator()(const Switchover &) const { return "to switch over"; }
        std::string operator()(const SetPaused &c) const { return c.paused ? "to pause elections" : "to end the pause"; }
        std::string operator()(const RemoveMember &) const { return "to remove a member"; }
        std::string operator()(const StandByOrder &) const { return "to stand"; }
    };
    const std::string why = host.agent()->obstacle(command);
    world_.trace(host, "an operator orders it " + std::visit(Names{}, command) + (why.empty() ? "" : ", in vain: " + why));
    if (why.empty() && std::holds_alternative<StandByOrder>(command))
        world_.checkers.told_to_stand(host.id());
    host.handle(command);
}

void Operators::command() {
    if (!world_.faults_on)
        return;
    world_.after(commands_.exponential(world_.options.commands_every), [this] { command(); });
    Host *primary = world_.acting_primary();
    const double what = commands_.unit();
    Host &other = world_.host(static_cast<int>(commands_.below(world_.options.hosts)));
    if (what < 0.2)
        return end_pause(other);
    if (!primary || !usable(*primary) || primary == &other)
        return;
    if (what < 0.7)
        give(*primary, Switchover{what < 0.5 ? other.id() : NodeId::none});
    else if (what < 0.85)
        give(*primary, SetPaused{true});
    else
        give(*primary, RemoveMember{other.disk.state() ? other.disk.state()->self : NodeId::none});
}

// Where the primary of a paused cluster does not come back, somebody is told to stand.
void Operators::end_pause(Host &standby) {
    Host *primary = world_.acting_primary();
    Host &host = primary ? *primary : standby;
    if (!usable(host) || !host.agent()->status().configuration.paused)
        return;
    if (primary)
        give(host, SetPaused{false});
    else
        give(host, StandByOrder{});
}

// Compared with the acting primary: does this standby have WAL of another history?
bool Operators::has_other_wal(Host &host) {
    if (host.witness())
        return false;
    Host *primary = world_.acting_primary();
    return primary && primary != &host && host.postgres.in_recovery &&
           !world_.wal.contains(primary->postgres.wal, host.postgres.wal) && !host.postgres.streaming();
}

bool Operators::usable(Host &host) const {
    return host.powered && !host.restarting && host.agent() && !host.blocked(Lane::worker);
}

void Operators::look(int index) {
    Host &host = world_.host(index);
    const Time lease = world_.options.lease;
    Time &since = unwell_since_[static_cast<std::size_t>(index)];
    Host *primary = world_.acting_primary();
    const bool deposed =
        primary && primary != &host && host.postgres.writable() &&
        world_.wal.branch(primary->postgres.wal.branch).timeline > world_.wal.branch(host.postgres.wal.branch).timeline;
    if (!usable(host) || !(deposed || has_other_wal(host)))
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
    if (!world_.faults_on)
        end_pause(host);
    world_.after(lease / 2 + world_.random.below(lease), [this, index] { look(index); });
}

Host *Operators::source_for(Host &host) {
    Host *source = world_.acting_primary();
    const bool usable = source && source != &host && !source->frozen &&
                        world_.network.open_both(Plane::replication, host.index, source->index);
    return usable ? source : nullptr;
}

// pg_basebackup takes WAL, settings and echo of its source; the state directory lies outside.
void Operators::copy(Host &host, Host &source) {
    host.postgres.wal = source.postgres.wal;
    host.postgres.saved_rule = source.postgres.saved_rule;
    host.postgres.echo = source.postgres.echo;
    world_.election.cloned(host, source);
    host.start();
}

void Operators::join(Host &host) {
    if (host.witness())
        return host.start(); // there is nothing to clone
    host.restarting = true;
    if (Host *source = source_for(host))
        return copy(host, *source);
    world_.after(world_.options.lease, [this, &host] { join(host); });
}

// Copies beside the old directory and then swaps, so that the server keeps voting meanwhile.
void Operators::clone(Host &host) {
    world_.trace(host, "operator begins to clone it anew");
    world_.after(world_.random.between(world_.options.lease / 4, world_.options.lease), [this, &host] { swap(host); });
}

void Operators::swap(Host &host) {
    Host *source = source_for(host);
    if (!source || !usable(host) || !has_other_wal(host))
        return; // tries again when it looks again
    if (!world_.can_lose_identity(host))
        return; // its vote is needed; it is rewound by itself sooner or later
    const bool removes_state = world_.random.chance(0.5);
    world_.trace(host, removes_state ? "operator has cloned it and removed its state directory" : "operator has cloned it");
    host.kill_all();
    world_.election.wal_changes(host);
    if (removes_state)
        host.disk.lose();
    copy(host, *source);
}

} // namespace pg_ha::sim
