// SPDX-License-Identifier: PostgreSQL
//
// The node worker: one thread that runs core and agent inside PostgreSQL.  See node_worker.cpp.
#pragma once

#include "agent/agent.hpp"
#include "control.hpp"
#include "desk.hpp"
#include "identity.hpp"
#include "net/runtime.hpp"
#include "wake_sources.hpp"

#include "shmem.hpp"

#include <memory>
#include <optional>

namespace pg_ha {

class NodeWorker {
public:
    explicit NodeWorker(const WakeSources &sources);
    int run(); // exit status

private:
    // What exists only while this server takes part in a cluster; in order of construction.
    struct Membership {
        explicit Membership(const ClusterSecret &secret);
        ClusterSecret secret;
        Settings settings;
        StateFile file;
        Identity identity;
        ServerControl control;
        std::optional<Agent> agent;
        std::string peers; // pg_ha.peers as the network knows it
        NodeId opened_as = NodeId::none; // the identity it shows there
    };

    void wait_once();
    void work();
    void reload();
    void keep_network_current();
    void shut_down(bool clean);
    void look_for_rejoins(bool away);
    void raise_alarm(const std::string &alarm);
    bool must_not_demote();
    void demote_if_asked();
    void rejoin_if_asked();
    void report_rejoin();
    void write_status();
    void take_manager_notes();
    void look_for_missing_wal();             // missing_wal.cpp
    bool clone_has_to_wait();                // missing_wal.cpp
    void answer_operator();                  // operator.cpp
    void answer_failover(const Asked &asked); // failover.cpp

    // node_startup.cpp
    std::string why_passive() const;
    void try_to_start();
    void start_membership();
    void stay_passive(const std::string &why);
    void finish_bootstrap();

    NetCallbacks callbacks();
    Agent *agent() { return membership_ && membership_->agent ? &*membership_->agent : nullptr; }

    WakeSources sources_;
    Runtime runtime_;
    std::unique_ptr<Membership> membership_;
    std::unique_ptr<Snapshot> snapshot_;
    std::string passive_reason_;
    Instant status_due_{};
    Instant retry_due_{};
    Instant rejoin_due_ = never; // an attempt that has to wait
    // A standby that its primary cannot send the next WAL: where, since when, and what follows.
    Position stuck_at_;
    Instant stuck_since_ = never;
    std::uint32_t stuck_refusals_ = 0; // when it began
    std::string missing_wal_;      // for people; empty: it gets WAL, or has not gone without for long enough
    std::optional<Rejoin> clone_;  // what it does about it
    std::string clone_because_;
    Instant armed_for_ = never;
    Instant bootstrap_deadline_ = never;
    Instant demotion_since_ = never; // asked for, but it has to wait
    bool demotion_refused_ = false;  // and the log says why
    std::string alarm_;              // as the log has it
    bool postmaster_died_ = false;
    bool woken_ = true;    // by latch or signal: look at PostgreSQL again
    bool bootstrap_ = false; // ha_bootstrap() waits for an answer
};

} // namespace pg_ha

extern "C" PGDLLEXPORT void pg_ha_node_main(Datum argument);
