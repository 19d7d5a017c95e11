// SPDX-License-Identifier: PostgreSQL
//
// The loop of virtual time, the beginning of a seed and its end.
#include "world.hpp"

#include <exception>

namespace pg_ha::sim {

namespace {
constexpr std::uint64_t first_lsn = 0x1000000;
}

World::World(const Options &o, TraceSink *sink, ElectionTrace::Writer events)
    : options(o), random(o.seed), network(*this), checkers(*this), election(*this), faults(*this),
      operators(*this), sink_(sink), events_(std::move(events)) {
    cluster = {random.next() | 1, random.next()};
    system_identifier = random.next() | 1;
    for (int i = 0; i < options.hosts; i++)
        hosts_.push_back(std::make_unique<Host>(*this, i));
}

World::~World() = default;

Time World::flush_time() {
    Time t = options.flush / 2 + random.below(options.flush);
    if (now() < flush_stalls_until)
        t += random.exponential(options.lease / 10);
    return t;
}

// ---- verdict and loop ----------------------------------------------------------------------------------

void World::violation(Outcome outcome, const std::string &text) {
    if (stopped() || !options.judged)
        return;
    verdict_.outcome = outcome;
    verdict_.violation = text;
    if (tracing())
        sink_->line("*** " + text);
}

void World::dispatch(Scheduler::Slot slot) {
    const Callback &callback = scheduler.callback(slot);
    verdict_.trace_hash =
        (verdict_.trace_hash ^ static_cast<std::uint64_t>(now()) ^ (static_cast<std::uint64_t>(callback.lane) << 56) ^
         (static_cast<std::uint64_t>(static_cast<unsigned>(callback.host)) << 48)) *
        0x100000001B3ull;
    if (callback.lane != Lane::world) {
        Host &owner = host(callback.host);
        if (callback.epoch != owner.epoch(callback.lane))
            return scheduler.release(slot);
        if (owner.blocked(callback.lane))
            return owner.defer(slot);
    }
    Callback copy = callback; // running it may move the slots
    scheduler.release(slot);
    copy();
}

void World::run_until(Time end) {
    while (!stopped() && !scheduler.empty() && scheduler.next_time() <= end)
        dispatch(scheduler.pop());
}

Verdict World::run() {
    try {
        if (options.ready_made)
            set_up_ready_made();
        else
            set_up_bootstrap();
        if (events_)
            election.begin(events_);
        for (int i = 0; i < options.hosts; i++)
            housekeeping(i);
        operators.begin();
        faults.begin();
        run_until(options.fault_phase);
        if (!stopped())
            liveness_phase();
    } catch (const std::exception &error) {
        violation(Outcome::crashed, error.what());
    }
    if (const Host *last = acting_primary(); last && !stopped())
        checkers.finish(last->postgres.wal);
    verdict_.statistics = checkers.statistics;
    verdict_.statistics.virtual_time = now();
    return verdict_;
}

// Each worker samples its server, each walreceiver notices silence.
void World::housekeeping(int index) {
    Host &h = host(index);
    h.postgres.watch_stream();
    if (!h.blocked(Lane::worker))
        checkers.waits(h, h.postgres.longest_wait());
    if (!h.frozen)
        h.sample();
    after(options.heartbeat / 4 + random.below(options.heartbeat / 2), [this, index] { housekeeping(index); });
}

// ---- beginning -------------------------------------------------------------------------------------------

// ha_bootstrap() on a running server; the others are cloned from it and ask for admission.
void World::set_up_bootstrap() {
    const BranchId root = wal.create(static_cast<Timeline>(options.first_timeline), {}, 0, 0);
    Host &first = host(0);
    for (const std::unique_ptr<Host> &h : hosts_)
        if (h->witness())
            h->postgres.wal = {root, 0};
    first.postgres.wal = {root, first_lsn};
    first.postgres.start(false);
    first.start_worker();
    faults_on = false; // ha_bootstrap() reports a failure, and is called again
    first.handle(Bootstrap{cluster, system_identifier, static_cast<Timeline>(options.first_timeline)});
    faults_on = true;
    for (int i = 1; i < options.hosts; i++)
        after(random.below(4 * options.lease), [this, i] { operators.join(host(i)); });
}

// Everybody votes, and everybody was stopped: the first thing to happen is an election.
void World::set_up_ready_made() {
    const BranchId root = wal.create(static_cast<Timeline>(options.first_timeline), {}, 0, 0);
    Configuration c;
    c.cluster = cluster;
    c.system_identifier = system_identifier;
    c.version = {static_cast<Term>(options.first_timeline), 1};
    c.synchronous = options.synchronous;
    unsigned servers = 0;
    for (int i = 0; i < options.hosts; i++) {
        const std::string &name = host(i).name;
        c.members.push_back({static_cast<NodeId>(random.next() | 1),
                             name,
                             host(i).witness() ? MemberKind::witness : MemberKind::data,
                             true,
                             {name, static_cast<std::uint16_t>(peer_port_base + i)},
                             {name, static_cast<std::uint16_t>(postgres_port_base + i)},
                             static_cast<std::uint16_t>(host(i).witness() ? 0 : options.priority[static_cast<std::size_t>(i)])});
        servers |= host(i).witness() ? 0 : 1u << i;
    }
    const std::vector<Member> by_host = c.members;
    std::sort(c.members.begin(), c.members.end(), [](const Member &a, const Member &b) { return a.id < b.id; });
    if (options.synchronous) {
        for (const Member &member : c.members)
            if (member.kind == MemberKind::data)
                c.sync.set.push_back(member.id);
        c.sync.quorum = static_cast<std::uint16_t>(c.sync.set.size() / 2 + 1);
    }
    for (int i = 0; i < options.hosts; i++) {
        DurableState state;
        state.self = by_host[static_cast<std::size_t>(i)].id;
        state.node_name = host(i).name;
        state.saves = 1;
        state.incarnation = static_cast<Incarnation>(1);
        state.term = c.version.term;
        state.configuration = c;
        host(i).disk.write(state);
        host(i).postgres.wal = {root, host(i).witness() ? 0 : first_lsn};
        if (options.synchronous)
            host(i).postgres.saved_rule = {servers, c.sync.quorum - 1};
        after(random.below(options.lease), [this, i] { host(i).start(); });
    }
}

// ---- what is true ------------------------------------------------------------------------------------------

Host *World::acting_primary() {
    Host *newest = nullptr;
    for (const std::unique_ptr<Host> &h : hosts_) {
        if (!h->postgres.writable() || !h->postgres.lease_holds())
            continue;
        if (!newest || wal.branch(h->postgres.wal.branch).timeline > wal.branch(newest->postgres.wal.branch).timeline)
            newest = h.get();
    }
    return newest;
}

// Do enough voters and enough members of S still know who they are, and is one of these voters a server?  (In synchronous
// mode S says so: a witness is never in it.)
bool World::could_elect(const Configuration &c, HostSet without) const {
    std::size_t voters = 0, counted = 0;
    bool server = false; // one that may lead for good
    for (const std::unique_ptr<Host> &h : hosts_) {
        const bool nobody = (without & host_bit(*h)) != 0 || h->postgres.half_rewound() || h->impostor != NodeId::none;
        const DurableState *state = nobody ? nullptr : h->disk.usable();
        if (!state)
            continue;
        const NodeId id = state->self;
        voters += c.is_voter(id);
        server |= c.is_voter(id) && !h->witness() && options.priority[static_cast<std::size_t>(h->index)] > 0;
        counted += std::find(c.sync.set.begin(), c.sync.set.end(), id) != c.sync.set.end();
    }
    return server && 2 * voters > c.voter_count() && (c.sync.set.empty() || counted + c.sync.quorum > c.sync.set.size());
}

bool World::can_lose_identity(const Host &loser) const {
    const auto fatal = [&](const Configuration &c) { return c.cluster != no_cluster && !could_elect(c, host_bit(loser)); };
    for (const std::unique_ptr<Host> &h : hosts_)
        if ((h->disk.state() && fatal(h->disk.state()->configuration)) || (h->agent() && fatal(h->agent()->status().configuration)))
            return false;
    return true;
}

} // namespace pg_ha::sim
