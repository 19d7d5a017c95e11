// SPDX-License-Identifier: PostgreSQL
//
// One machine: power, a clock of its own, the processes of one PostgreSQL server, and in its node
// worker the real Agent with the real core.  Says which processes are alive and what ends them; never
// looks into the agent, except to ask for its status when the cluster should have settled.
#pragma once

#include "agent/agent.hpp"
#include "disk.hpp"
#include "options.hpp"
#include "postgres_fake.hpp"

#include <array>
#include <memory>

namespace pg_ha::sim {

class World;

// What a witness has where others have PostgreSQL.  Its process is played by the server's fake, which
// holds no WAL and opens no stream.
class NoServer final : public PostgresControl {
public:
    explicit NoServer(Postgres &process) : process_(process) {}
    LocalState close_gate() override { return {}; }
    Sampled sample() override { return {}; }
    void open_gate(const OpenGate &) override {}
    void set_lease(Instant) override {}
    void settled() override {}
    void promote(Term) override {}
    void demote(const std::string &) override {}
    void rejoin(const Rejoin &) override {}
    void apply_sync(const ApplySync &) override {}
    void note(const Note &note) override { process_.note(note); }
    void trace(const std::string &line) override { process_.trace(line); }

private:
    Postgres &process_;
};

// How a process that is in the middle of a step will end, once the step is over.
enum class Doom : std::uint8_t { none, rejoin, demote, kill_all };

class Host final : public Clock, public Transport {
public:
    Host(World &world, int index);

    // -- identity and addresses
    World &world;
    const int index;
    const std::string name;
    Disk disk;
    Postgres postgres;
    bool witness() const;
    PostgresControl &control() { return witness() ? static_cast<PostgresControl &>(no_server_) : postgres; }
    NodeId id() const { return agent_ ? agent_->durable().self : NodeId::none; }

    // -- what the fault knows and nobody else: this host was put back to an earlier time and speaks as somebody
    // who it is not any more, until it has another identity
    NodeId impostor = NodeId::none;
    bool known_by_peers_only = false; // no echo tells
    bool impostor_started = false;    // once already
    bool newer = false;               // of a later version

    // -- machine
    bool powered = true;
    bool frozen = false;
    bool paused = false;     // the node worker only
    bool restarting = false; // somebody will start it again
    void freeze(Time duration);
    void pause_worker(Time duration);
    void stall(Time duration); // the worker waits for its disk; what it sends now leaves afterwards
    bool blocked(Lane lane) const;
    void defer(Scheduler::Slot slot) { deferred_.push_back(slot); }
    Instant local_time(Time t) const; // this machine's clock
    Time world_time(Instant local) const;

    // -- processes
    Agent *agent() { return agent_.get(); }
    std::uint32_t epoch(Lane lane) const { return epochs_[static_cast<std::size_t>(lane)]; }
    void end_lane(Lane lane) { epochs_[static_cast<std::size_t>(lane)]++; }
    void start(); // systemctl start; tries again while the old processes live
    void start_worker();
    void worker_gone(); // the process exits; its kernel closes the connections
    void kill_all();
    void kill_postmaster();
    void kill_orphans();
    void power_off();
    void stop(bool clean);
    void crash_restart(bool worker_hears, bool as_standby);
    void rejoin();        // a crash-restart cycle in which the server is rewound
    void start_as_standby();
    bool down() const { return !postgres.alive() && !agent_; }

    // -- events for the agent
    void handle(const Event &event);
    // From one of this host's processes to its worker, which wakes a little later.
    template <class F> void post(F make_event);
    // A message from the network; `done` gives the buffer back.
    template <class F> void receive(const Event *event, F done);
    void sample();
    void doom(Doom how) { doom_ = std::max(doom_, how); }
    bool doomed() const { return doom_ != Doom::none; }
    Role role_seen = Role::passive; // from notes, for the trace

    // -- ports
    Instant now() override;
    void send(const Message &message) override;
    void set_peers(const std::vector<Member> &members) override;

private:
    void guarded_step(const Event &event);
    void after_step();
    void arm();
    void on_timer(Time armed_for);
    void release_deferred();
    Settings settings() const;
    Time wake_time();

    NoServer no_server_;
    std::unique_ptr<Agent> agent_;
    NodeId handshake_id_ = NodeId::none;
    std::array<std::uint32_t, lane_count> epochs_{};
    std::vector<Scheduler::Slot> deferred_;
    Time stalled_until_ = 0;
    Time clock_stood_ = 0; // in all
    Time inbox_fifo_ = 0;
    Time timer_at_ = 0; // 0: none
    Doom doom_ = Doom::none;
    bool in_step_ = false;
};

} // namespace pg_ha::sim
