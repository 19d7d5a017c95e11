// SPDX-License-Identifier: PostgreSQL
//
// The helper that rewinds a diverged server inside a crash-restart cycle.  It looks for its source first
// and touches nothing without one.  Once it has begun, the directory is neither the old server nor the
// new one, and only a primary whose history contains what was copied so far can finish it; any other
// primary has to be cloned.
//
// Must never let the server start half-way, and never runs beside a node worker: nobody votes meanwhile.
#include "postgres_fake.hpp"
#include "world.hpp"

namespace pg_ha::sim {

void Postgres::rejoin(const Rejoin &rejoin) {
    if (host_.doomed())
        return;
    world().checkers.rejoin_asked(host_, rejoin);
    rewind_ = Rewind{rejoin.postgres.port - postgres_port_base, rejoin.timeline, {}};
    host_.doom(Doom::rejoin);
}

void Postgres::run_helper() {
    forget_shared_memory();
    postmaster = server_alive_ = in_recovery = true;
    position_known_ = false;
    const Time lease = world().options.lease;
    world().on(host_, Lane::server, world().random.between(lease / 50, lease / 4), [this] { begin_rewind(); });
}

// A writable server that can be reached: at first only the primary that was asked for.
Host *Postgres::rewind_source() const {
    Host *best = nullptr;
    for (int i = 0; i < world().options.hosts; i++) {
        Host &host = world().host(i);
        const Timeline timeline = host.postgres.wal.branch == no_branch ? Timeline::none : world().wal.branch(host.postgres.wal.branch).timeline;
        const bool wanted = half_rewound() ? timeline >= rewind_->timeline : i == rewind_->source && timeline == rewind_->timeline;
        // The helper asks the source whether it is the primary; who was promoted by hand is not.
        const bool by_hand = host.postgres.wal.branch != no_branch && world().wal.branch(host.postgres.wal.branch).by_hand;
        if (&host == &host_ || !wanted || by_hand || !host.powered || host.frozen || !host.postgres.writable() ||
            !world().network.open_both(Plane::replication, host_.index, i))
            continue;
        if (!best || timeline > world().wal.branch(best->postgres.wal.branch).timeline)
            best = &host;
    }
    return best;
}

void Postgres::begin_rewind() {
    Host *source = rewind_source();
    if (!source && !half_rewound()) {
        world().trace(host_, "the primary to be rewound to cannot be reached: nothing was touched");
        return host_.start_as_standby();
    }
    if (!source)
        return run_helper();
    if (!half_rewound())
        rewind_->reached = source->postgres.wal;
    world().trace(host_, "is being rewound from " + source->name);
    const Time lease = world().options.lease;
    world().on(host_, Lane::server, world().random.between(lease / 10, lease), [this] { finish_rewind(); });
}

void Postgres::finish_rewind() {
    Host *source = rewind_source();
    if (!source)
        return run_helper();
    const bool continues = world().wal.contains(source->postgres.wal, rewind_->reached);
    world().trace(host_, (continues ? "was rewound from " : "was cloned from ") + source->name);
    world().checkers.rewound(host_, wal, source->postgres.wal);
    world().election.wal_changes(host_);
    wal = source->postgres.wal;
    correct_state(*source);
    world().election.cloned(host_, *source);
    rewind_.reset();
    host_.start_as_standby();
}

// WAL of a term that the state file does not know would make a voter that can neither stand nor follow.  And what a
// promotion by hand had made is gone.
void Postgres::correct_state(const Host &source) {
    const Term term = static_cast<Term>(raw(world().wal.branch(source.postgres.wal.branch).timeline));
    if (!host_.disk.state() || (term <= host_.disk.state()->term && host_.disk.state()->by_hand == Timeline::none))
        return;
    DurableState state = *host_.disk.state();
    state.by_hand = Timeline::none;
    if (term > state.term) {
        state.term = term;
        state.voted_for = NodeId::none;
    }
    host_.disk.write(state);
}

} // namespace pg_ha::sim
