// SPDX-License-Identifier: PostgreSQL
//
// PostgreSQL as the agent sees it: the node worker's side of the WAL gate, lease, promotion,
// demotion, synchronous_standby_names, and what the server looks like now.
#pragma once

#include "agent/ports.hpp"
#include "promotion.hpp"

#include <deque>
#include <optional>

namespace pg_ha {

class ServerControl final : public PostgresControl {
public:
    explicit ServerControl(std::string node_name);

    LocalState close_gate() override;
    Sampled sample() override;
    void open_gate(const OpenGate &upstream) override;
    void set_lease(Instant until) override;
    void settled() override;
    void promote(Term term) override;
    void demote(const std::string &reason) override;
    void rejoin(const Rejoin &rejoin) override;
    void apply_sync(const ApplySync &sync) override;
    void note(const Note &note) override;
    void trace(const std::string &line) override;

    // What happened since the last call; ask whenever woken, and at next_poll().
    std::deque<Event> poll(Instant now);
    Instant next_poll() const;
    // Why PostgreSQL must be turned into a standby; empty: it need not.
    const std::string &demotion() const { return demotion_; }
    // To which primary PostgreSQL must be rewound; empty: it need not.
    const std::optional<Rejoin> &wanted_rejoin() const { return rejoin_; }
    // True once after something that status readers should see at once.
    bool take_changed();

private:
    LocalState look() const;
    Lineage lineage(); // empty unless PostgreSQL is writable
    void poll_promotion(Instant now, std::deque<Event> &events);
    void poll_streams(std::deque<Event> &events);
    void poll_sync(std::deque<Event> &events);
    void poll_walreceiver(Instant now);
    void poll_settling(Instant now, std::deque<Event> &events);
    Lsn confirmed() const;
    void wake_walreceiver();

    std::string node_name_;
    std::string conninfo_;      // what upstream_conninfo says
    Promotion promotion_;
    std::deque<Event> answers_; // of calls that were answered at once
    std::string demotion_;
    std::optional<Rejoin> rejoin_;
    bool changed_ = true;

    SyncRule sync_wanted_;
    bool sync_pending_ = false;
    std::uint32_t sync_version_ = 0;

    Instant settling_since_ = never; // writable, and sessions are held
    Instant settle_at_ = never;      // the next look at the walsenders

    std::uint32_t failed_seen_ = 0;
    std::uint32_t finished_seen_ = 0;

    Timeline lineage_timeline_ = Timeline::none; // whose history is cached
    Lineage lineage_;

    Duration nudge_after_{};    // grows while recovery does not get a walreceiver going
    Instant nudge_at_ = never;
    Instant stale_since_ = never; // a walreceiver holds a connection that is no longer wanted
};

} // namespace pg_ha
