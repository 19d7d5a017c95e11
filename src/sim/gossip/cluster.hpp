// SPDX-License-Identifier: PostgreSQL
//
// A large cluster in motion: the real core and agent of each member over a fake network in virtual time,
// without PostgreSQL's detail: the configuration is ready made, one member is primary, a few vote, the rest
// are learners that receive no WAL.  Messages are measured as the real codec encodes them.
//
// Faults: each message is lost by chance (no TCP makes up for it, which is harder than a lossy link under
// TCP: there it would come late); a dead member is silent; a slow one wakes every 1 to 3 s and does then
// all that has come in.  What is measured is the business of experiment.hpp.
#pragma once

#include "agent/agent.hpp"

#include <functional>
#include <memory>
#include <queue>
#include <vector>

namespace pg_ha::gossip_scale {

class Cluster;

// splitmix64; all chance of a run comes from one of these.
class Random {
public:
    explicit Random(std::uint64_t seed) : state_(seed) {}
    std::uint64_t next();
    double unit() { return static_cast<double>(next() >> 11) * 0x1.0p-53; }
    Duration between(Duration low, Duration high);
    std::size_t below(std::size_t bound) { return static_cast<std::size_t>(next() % bound); }

private:
    std::uint64_t state_;
};

struct Traffic {
    std::uint64_t messages = 0;
    std::uint64_t bytes = 0;
    std::size_t largest_heartbeat = 0; // without a configuration
};

class Host final : Clock, StateStore, Transport, PostgresControl {
public:
    Host(Cluster &cluster, std::size_t index, const Settings &settings, const DurableState &state, const LocalState &local);

    void start(std::uint64_t seed);
    void kill() { running_ = false; }
    void take(const Event &event);
    bool running() const { return running_; }
    const Node &node() const { return agent_->node(); }
    NodeId id() const { return disk_.self; }
    Instant deadline() const { return agent_->next_deadline(); }
    bool has_lease(Instant at) const { return lease_until_ > at; }
    LocalState &local() { return local_; }

    bool slow = false;
    Instant wakes = long_ago;    // when a slow one does its next steps
    Instant tick_at = never;     // of the tick that is queued
    Traffic traffic;
    std::vector<Doubted> doubts; // as of its last tick

private:
    Instant now() override;
    bool save(const DurableState &state) override;
    void send(const Message &message) override;
    void set_peers(const std::vector<Member> &) override {}
    LocalState close_gate() override { return local_; }
    Sampled sample() override;
    void open_gate(const OpenGate &) override {}
    void set_lease(Instant until) override { lease_until_ = until; }
    void settled() override {}
    void promote(Term) override {}
    void rejoin(const Rejoin &) override {}
    void demote(const std::string &) override {}
    void apply_sync(const ApplySync &sync) override;
    void note(const Note &) override {}
    void trace(const std::string &) override {}

    Cluster &cluster_;
    std::size_t index_;
    Settings settings_;
    DurableState disk_;
    LocalState local_;
    std::unique_ptr<Agent> agent_;
    Instant lease_until_ = long_ago;
    bool running_ = false;
};

class Cluster {
public:
    Cluster(std::size_t members, std::uint64_t seed);

    // Runs for so long; `look` is called every `step`, and ends the run by true.  Returns whether it did.
    bool run(Duration time, Duration step = never - Instant{}, const std::function<bool()> &look = [] { return false; });
    Instant now() const { return now_; }
    std::size_t size() const { return hosts_.size(); }
    Host &host(std::size_t index) { return *hosts_[index]; }
    void send(const Message &message);
    void post(std::size_t host, Duration delay, Event event);
    void restart(std::size_t host);

    Random random;
    double loss = 0;
    // Called when a host begins to doubt one that lives.
    std::function<void(const Host &observer, const Host &target, const Doubted &doubt, bool newly)> doubted;

private:
    struct Happening {
        Instant at;
        std::uint64_t sequence;
        std::size_t host;
        std::size_t slot; // of its event; no_slot: a tick
        bool operator<(const Happening &other) const {
            return std::pair(at, sequence) > std::pair(other.at, other.sequence);
        }
    };
    static constexpr std::size_t no_slot = SIZE_MAX;

    void create(std::size_t members);
    Instant awake(Host &host, Instant at);
    void arm(std::size_t index);
    void happen(const Happening &next);
    void compare_doubts(Host &host);

    Instant now_{std::chrono::seconds(1000)};
    std::uint64_t sequence_ = 0;
    std::vector<std::unique_ptr<Host>> hosts_;
    std::priority_queue<Happening> queue_;
    std::vector<Event> slots_;
    std::vector<std::size_t> free_;
};

} // namespace pg_ha::gossip_scale
