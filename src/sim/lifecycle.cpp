// SPDX-License-Identifier: PostgreSQL
//
// How the processes of a host begin and end.  The start gate is here: whoever starts a server gets a
// standby, unless its own valid state says that it is the only voter.
#include "host.hpp"
#include "world.hpp"

#include <utility>

namespace pg_ha::sim {

namespace {
struct Calm final : StateStore { // the start is not where saves go wrong
    explicit Calm(Disk &d) : disk(d) {}
    bool save(const DurableState &state) override { return disk.write(state), true; }
    Disk &disk;
};
} // namespace

Settings Host::settings() const {
    const Options &o = world.options;
    Settings s;
    s.cluster = world.cluster;
    s.system_identifier = world.system_identifier;
    s.node_name = name;
    s.peer = {name, static_cast<std::uint16_t>(peer_port_base + index)};
    s.postgres = {name, static_cast<std::uint16_t>(postgres_port_base + index)};
    s.heartbeat_interval = Duration{o.heartbeat};
    s.lease_duration = Duration{o.lease};
    s.synchronous = o.synchronous;
    s.min_sync_standbys = o.min_sync_standbys;
    s.standby_patience = Duration{o.patience};
    s.max_lag_on_failover = o.max_lag;
    s.priority = static_cast<std::uint16_t>(o.priority[static_cast<std::size_t>(index)]);
    if (witness()) {
        s.kind = MemberKind::witness;
        s.system_identifier = 0;
        s.postgres = {};
        s.priority = 0;
    }
    s.tracing = world.tracing();
    return s;
}

void Host::start() {
    restarting = false;
    if (!powered) {
        powered = true;
        world.network.powered_on(index);
    }
    if (!down()) { // the lock file of the old postmaster
        if (!postgres.postmaster) {
            restarting = true;
            world.after(50 * millisecond, [this] { start(); });
        }
        return;
    }
    if (postgres.half_rewound() && world.options.sabotage != Sabotage::half_rewound_opens)
        return postgres.run_helper();
    const DurableState *state = disk.usable();
    const bool alone = state && state->configuration.voter_count() == 1 && state->configuration.is_voter(state->self);
    world.trace(*this, alone ? "server starts, alone" : "server starts as standby");
    postgres.start(!alone);
    world.on(*this, Lane::server, world.random.between(millisecond, 20 * millisecond), [this] { start_worker(); });
}

void Host::start_worker() {
    if (agent_ || !postgres.postmaster)
        return;
    disk.restarted();
    // A copy that is started again and again before anybody meets it counts its own starts as saves: beyond what peers
    // can tell (docs/protocol.md, I2).
    if (impostor != NodeId::none && known_by_peers_only && std::exchange(impostor_started, true))
        disk.lose();
    DurableState state;
    const DurableState *found = disk.usable();
    // As server/identity.cpp: a voter stores a term before its server gets on that term's timeline.
    const bool behind_our_back = found && found->configuration.is_voter(found->self) &&
                                 raw(world.wal.branch(postgres.wal.branch).timeline) > raw(found->term);
    world.faults.memory_lost(*this);
    if (found && !behind_our_back) {
        state = *found;
    } else {
        if (disk.state())
            world.trace(*this, std::string("the state is not usable: ") +
                                   (behind_our_back ? "the server is on a later timeline" : describe(disk.condition())));
        disk.lose();
        state.self = static_cast<NodeId>(world.random.next() | 1);
        if (world.options.sabotage == Sabotage::lost_state_keeps_identity && !disk.lost_identities().empty())
            state.self = disk.lost_identities().back();
        state.node_name = name;
        impostor = NodeId::none;
        world.trace(*this, "new identity");
    }
    if (state.self != impostor) // it had got another identity and died at once
        impostor = NodeId::none;
    newer = newer || (world.options.upgrades && world.random.chance(0.3));
    Calm calm(disk);
    begin_run(state, calm);
    doom_ = Doom::none;
    timer_at_ = 0;
    stalled_until_ = 0;
    inbox_fifo_ = 0;
    handshake_id_ = state.self;
    world.checkers.started(*this, state);
    world.election.read_state(*this);
    agent_ = std::make_unique<Agent>(Ports{*this, disk, *this, control()}, settings(), state, control().sample().local,
                                     world.random.next());
    world.trace(*this, "worker starts, incarnation " + std::to_string(raw(state.incarnation)));
    set_peers({});
    in_step_ = true;
    agent_->start();
    in_step_ = false;
    world.network.worker_started(index);
    after_step();
}

void Host::worker_gone() {
    if (!agent_)
        return;
    agent_.reset();
    end_lane(Lane::worker);
    world.network.worker_died(index);
}

void Host::kill_all() {
    world.trace(*this, "all processes killed");
    worker_gone();
    postgres.kill();
}

void Host::kill_postmaster() {
    world.trace(*this, "postmaster killed");
    postgres.postmaster = false;
    world.on(*this, Lane::worker, world.random.between(5 * millisecond, 20 * millisecond), [this] {
        handle(ShuttingDown{false});
        world.on(*this, Lane::worker, world.random.below(2 * millisecond), [this] { worker_gone(); });
    });
    world.on(*this, Lane::server, world.random.between(5 * millisecond, 40 * millisecond), [this] {
        worker_gone();
        postgres.kill();
    });
}

// The worst form: nobody is left to take the lease away, and backends in a tight loop go on.
void Host::kill_orphans() {
    world.trace(*this, "postmaster and worker killed; backends go on");
    postgres.postmaster = false;
    worker_gone();
    world.on(*this, Lane::server, world.random.below(world.options.lease / 4), [this] { postgres.end_streams(); });
    world.on(*this, Lane::backend, world.random.below(2 * world.options.lease), [this] { postgres.kill(); });
}

void Host::power_off() {
    world.trace(*this, "power lost");
    powered = false;
    agent_.reset();
    end_lane(Lane::worker);
    world.network.powered_off(index);
    postgres.kill();
}

void Host::stop(bool clean) {
    if (!agent_ || !postgres.postmaster)
        return;
    world.trace(*this, clean ? "server is stopped" : "server is stopped at once");
    handle(ShuttingDown{clean});
    if (!agent_)
        return; // died while doing it
    if (DurableState last = agent_->durable(); clean) {
        Calm calm(disk);
        save_apart(last, calm);
    }
    world.on(*this, Lane::worker, world.random.below(20 * millisecond), [this] { worker_gone(); });
    if (clean)
        return postgres.stop_clean();
    postgres.postmaster = false;
    world.on(*this, Lane::server, world.random.below(3 * millisecond), [this] {
        worker_gone();
        postgres.kill();
    });
}

// One process died abnormally: the postmaster ends all others, recovers and starts them again.
void Host::crash_restart(bool worker_hears, bool as_standby) {
    if (!postgres.postmaster)
        return;
    world.trace(*this, as_standby ? "crash-restart cycle, becomes a standby" : "crash-restart cycle");
    if (worker_hears)
        handle(ShuttingDown{false});
    const bool standby = as_standby || postgres.in_recovery;
    worker_gone();
    postgres.kill();
    postgres.start(standby);
    world.on(*this, Lane::server,
             world.random.between(10 * millisecond, 100 * millisecond) + world.random.below(world.options.replay),
             [this] { start_worker(); });
}

void Host::rejoin() {
    if (!postgres.postmaster)
        return;
    world.trace(*this, "crash-restart cycle, to be rewound");
    worker_gone();
    postgres.kill();
    postgres.run_helper();
}

void Host::start_as_standby() {
    postgres.start(true);
    world.on(*this, Lane::server, world.random.between(millisecond, 20 * millisecond), [this] { start_worker(); });
}

} // namespace pg_ha::sim
