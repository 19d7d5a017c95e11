// SPDX-License-Identifier: PostgreSQL
//
// A witness of one cluster: core and agent with the network and a state file, and nothing where
// other members have PostgreSQL.  It votes, remembers the vote and the configuration, and passes on
// what it hears; it never stands, and never counts for a commit.
//
// Each has a thread of its own, so that one cluster's slow disk or broken invariant is not
// another's.  Only request_stop() and reload() may be called from outside of it.
#pragma once

#include "settings_file.hpp"

#include "agent/agent.hpp"
#include "agent/state_file.hpp"
#include "net/runtime.hpp"

#include <mutex>
#include <optional>

namespace pg_ha {

// What the agent asks of PostgreSQL, where there is none.
class NoPostgres final : public PostgresControl {
public:
    explicit NoPostgres(std::string source) : source_(std::move(source)) {}

    LocalState close_gate() override { return {}; }
    Sampled sample() override { return {}; }
    void open_gate(const OpenGate &) override {}
    void set_lease(Instant) override {}
    void settled() override {}
    void promote(Term) override {}
    void demote(const std::string &) override {}
    void rejoin(const Rejoin &) override {}
    void apply_sync(const ApplySync &) override {}
    void note(const Note &note) override;
    void trace(const std::string &line) override;

private:
    std::string source_;
};

class Witness {
public:
    // Reads the secret, takes the state directory and opens the port.  Throws std::runtime_error
    // with what is wrong and a hint.
    explicit Witness(WitnessSettings settings);
    ~Witness();

    void run(); // until request_stop(); throws what ends it early
    void request_stop();
    void reload(const WitnessSettings &fresh);
    const WitnessSettings &settings() const { return settings_; }

private:
    NetCallbacks callbacks();
    NetOptions net_options() const;
    void open_network();
    void keep_network_current();
    void take_requests();
    void wait_once();
    void wake() const;

    WitnessSettings settings_;
    std::string source_;
    ClusterSecret secret_;
    StateFile file_;
    DurableState state_;
    NoPostgres postgres_;
    Runtime runtime_;
    std::optional<Agent> agent_;
    NodeId opened_as_ = NodeId::none;
    std::vector<Endpoint> opened_with_;

    int wake_fd_ = -1;
    std::mutex requests_;
    bool stop_ = false;
    std::optional<WitnessSettings> fresh_;
    bool stopping_ = false;
};

// Everything that can be looked at without disturbing a witness that runs: secret and state.
// Throws as the constructor does; returns one line about what was found.
std::string check_witness(const WitnessSettings &settings);

} // namespace pg_ha
