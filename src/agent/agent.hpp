// SPDX-License-Identifier: PostgreSQL
//
// Drives one core Node through the ports: take an event, step, then carry the outputs out in their
// order.  Persist comes before Send; if persisting fails the rest of the step is dropped and the
// core is told, so a vote that is not on disk never leaves the node.
#pragma once

#include "core/node.hpp"
#include "ports.hpp"

#include <deque>

namespace pg_ha {

// Saves the same twice: from now on every copy of the state or of the data directory that was made before
// is told from the real one.  (After one save it would look like a crash between state and echo.)
bool save_apart(DurableState &state, StateStore &store);
// What a process does first with the state it has read, or with a fresh one: takes its incarnation, so.
bool begin_run(DurableState &state, StateStore &store);

class Agent {
public:
    // state: after begin_run().
    Agent(Ports ports, const Settings &settings, const DurableState &state, const LocalState &local, std::uint64_t seed);

    void start();
    void handle(const Event &event); // re-entrant calls (a port that answers at once) are queued
    void tick() { handle(Tick{}); }
    Instant next_deadline() const { return node_.next_deadline(); }
    void reconfigure(const Settings &settings) { node_.reconfigure(settings); }
    Status status() { return node_.status(ports_.clock.now()); }
    ForcedFailover forced_failover();
    std::string obstacle(const Command &command); // Node::obstacle(), PostgreSQL looked at anew
    const DurableState &durable() const { return node_.durable(); }
    const Node &node() const { return node_; }

private:
    void run(const Event &event);
    void take_answers();
    void perform(const Outputs &outputs);

    Ports ports_;
    ClusterId cluster_;
    Node node_;
    std::deque<Event> inbox_;
    std::deque<Event> answers_; // of ports that answer at once; taken before anything else
    bool busy_ = false;
};

} // namespace pg_ha
