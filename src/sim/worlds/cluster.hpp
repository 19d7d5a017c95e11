// SPDX-License-Identifier: PostgreSQL
//
// A small world in motion: the real core and the real agent of each node behind the leanest fakes that an
// election needs.  Links either deliver, in order and soon, or never; disks and clocks are perfect;
// nobody writes.  Faults beyond broken links are the business of the simulator beside this.
#pragma once

#include "graph.hpp"

#include "agent/agent.hpp"

#include <memory>
#include <queue>
#include <vector>

namespace pg_ha::worlds {

class Cluster;

class Host final : Clock, StateStore, Transport, PostgresControl {
public:
    Host(Cluster &cluster, unsigned index, const Settings &settings, const DurableState &state, const LocalState &local);

    void start(std::uint64_t seed); // the worker; as a standby if it ran before
    void take(const Event &event);
    Instant deadline() const { return running_ ? agent_->next_deadline() : never; }
    bool running() const { return running_; }
    void kill() { running_ = false; }
    bool leads(Instant at) const { return running_ && !local_.in_recovery && lease_until_ > at; }
    Term term() const { return disk_.term; }
    void set_position(Lsn lsn) { local_.position.lsn = lsn; }
    std::string describe() const;

private:
    Instant now() override;
    bool save(const DurableState &state) override;
    void send(const Message &message) override;
    void set_peers(const std::vector<Member> &) override {}
    LocalState close_gate() override;
    Sampled sample() override;
    void open_gate(const OpenGate &upstream) override;
    void set_lease(Instant until) override { lease_until_ = until; }
    void settled() override {}
    void promote(Term term) override;
    void demote(const std::string &reason) override;
    void rejoin(const Rejoin &) override {} // nobody writes here, so nobody diverges
    void apply_sync(const ApplySync &sync) override;
    void note(const Note &note) override;
    void trace(const std::string &line) override;

    Cluster &cluster_;
    unsigned index_;
    Settings settings_;
    DurableState disk_;
    LocalState local_;
    Lineage lineage_{{static_cast<Timeline>(1), Lsn::none}};
    std::unique_ptr<Agent> agent_;
    NodeId upstream_ = NodeId::none; // none: the gate is shut
    Instant lease_until_ = long_ago;
    bool running_ = false;
};

// What became of a world, judged by docs/protocol.md, "Small worlds".
struct Outcome {
    std::string failure;            // empty: as it should be
    Duration until_primary{0};      // since the links broke
    unsigned terms = 0;             // begun since then
    bool led = false;               // somebody leads at the end
};

class Cluster {
public:
    Cluster(const SmallWorld &world, bool verbose);
    Outcome run();

    Instant now() const { return now_; }
    bool broken() const { return broken_; }
    const SmallWorld &world() const { return world_; }
    Host &host(NodeId id) { return *hosts_[raw(id) - 1]; }
    void send(unsigned from, const Message &message);
    void later(Duration delay, unsigned to, Event event) { queue_.push({now_ + delay, ++sequence_, to, false, std::move(event)}); }
    void restart_later(unsigned host) { queue_.push({now_ + std::chrono::seconds(1), ++sequence_, host, true, Tick{}}); }
    void tell(unsigned host, const std::string &line) const;

private:
    struct Happening {
        Instant at;
        std::uint64_t sequence;
        unsigned to;
        bool restart;
        Event event;
        bool operator<(const Happening &other) const { return std::pair(at, sequence) > std::pair(other.at, other.sequence); }
    };

    void create();
    void break_links();
    void one_step(Instant limit);
    void observe(Outcome &outcome);
    void judge(Outcome &outcome, Instant broke_at);
    unsigned highest_term() const;

    SmallWorld world_;
    bool verbose_;
    Instant now_{std::chrono::seconds(100)};
    std::uint64_t sequence_ = 0;
    bool broken_ = false;
    std::vector<std::unique_ptr<Host>> hosts_;
    std::priority_queue<Happening> queue_;
    int leader_ = -1;          // who leads, ...
    Instant leads_since_{};    // ... and since when
};

} // namespace pg_ha::worlds
