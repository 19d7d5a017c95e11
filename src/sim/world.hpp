// SPDX-License-Identifier: PostgreSQL
//
// One seed: a cluster, its network, its clients and its bad luck, in virtual time.  Two phases: first
// anything may break and only safety counts; then all faults end, links heal, and the cluster has to
// come back.  Nothing in here may depend on anything but the seed and the options.
#pragma once

#include "checkers.hpp"
#include "election_trace.hpp"
#include "faults.hpp"
#include "host.hpp"
#include "network.hpp"
#include "operators.hpp"
#include "options.hpp"
#include "random.hpp"
#include "scheduler.hpp"
#include "wal.hpp"

#include <memory>
#include <string>
#include <vector>

namespace pg_ha::sim {

inline constexpr std::uint16_t peer_port_base = 7432;
inline constexpr std::uint16_t postgres_port_base = 5432;

enum class Outcome : int { good = 0, unsafe = 1, stuck = 2, crashed = 3 };

using HostSet = std::uint32_t; // a bit for each
inline HostSet host_bit(const Host &host) { return HostSet{1} << host.index; }

// Receives the trace, line by line.
struct TraceSink {
    virtual ~TraceSink() = default;
    virtual void line(const std::string &text) = 0;
    bool everything = false; // heartbeats too
};

struct Verdict {
    Outcome outcome = Outcome::good;
    std::string violation;
    Statistics statistics;
    std::uint64_t trace_hash = 0;
};

class World {
public:
    World(const Options &options, TraceSink *sink, ElectionTrace::Writer events = nullptr);
    ~World();
    Verdict run();

    // -- parts
    const Options options;
    Random random;
    Scheduler scheduler;
    WalTree wal;
    Network network;
    Checkers checkers;
    ElectionTrace election;
    Faults faults;
    Operators operators;
    ClusterId cluster;
    std::uint64_t system_identifier = 0;
    bool faults_on = true;
    Time flush_stalls_until = 0;

    Host &host(int index) { return *hosts_[static_cast<std::size_t>(index)]; }
    // The server that may acknowledge commits now; the newest, if there are several.  Null: nobody.
    Host *acting_primary();
    // Would the voters of every known configuration still have a majority without this host's identity?
    bool can_lose_identity(const Host &loser) const;

    // -- time
    Time now() const { return scheduler.now(); }
    template <class F> void at(Time when, F f) { scheduler.add(when, -1, Lane::world, 0, f); }
    template <class F> void after(Time delay, F f) { at(now() + delay, f); }
    template <class F> void on(Host &host, Lane lane, Time delay, F f) {
        scheduler.add(now() + delay, host.index, lane, host.epoch(lane), f);
    }
    Time flush_time();

    // -- verdict
    void violation(Outcome outcome, const std::string &text);
    void unsafe(const std::string &text) { violation(Outcome::unsafe, text); }
    bool stopped() const { return verdict_.outcome != Outcome::good; }

    // -- trace
    bool tracing() const { return sink_ != nullptr; }
    void trace(Host &host, const std::string &text);
    void trace_message(Host &host, const Message &message);

private:
    void set_up_bootstrap();
    void set_up_ready_made();
    void housekeeping(int index);
    void run_until(Time end);
    void dispatch(Scheduler::Slot slot);
    void liveness_phase();
    bool settles_within(Time limit, bool wholly);
    std::string obstacle(bool wholly);
    std::string member_obstacle(Host &host, Host &primary, const Status &truth);
    bool quorum_survives(HostSet without) const;
    bool could_elect(const Configuration &configuration, HostSet without) const;
    bool heal_core();
    std::size_t expected_voters() const;
    void separate(HostSet set, bool apart);
    void trace_hosts();

    TraceSink *sink_;
    ElectionTrace::Writer events_;
    std::vector<std::unique_ptr<Host>> hosts_;
    HostSet apart_ = 0; // cut off from all others for a while after the faults
    Verdict verdict_;
};

template <class F> void Host::post(F make_event) {
    world.on(*this, Lane::worker, wake_time(), [this, make_event] { handle(make_event(*this)); });
}

template <class F> void Host::receive(const Event *event, F done) {
    world.on(*this, Lane::worker, wake_time(), [this, event, done] {
        handle(*event);
        done();
    });
}

} // namespace pg_ha::sim
