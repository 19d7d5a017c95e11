// SPDX-License-Identifier: PostgreSQL
#include "agent.hpp"

#include "core/planted.hpp"

#include <algorithm>

namespace pg_ha {

Agent::Agent(Ports ports, const Settings &settings, const DurableState &state, const LocalState &local, std::uint64_t seed)
    : ports_(ports), cluster_(settings.cluster), node_(settings, state, local, seed, ports.clock.now()) {}

bool save_apart(DurableState &state, StateStore &store) {
    for (int i = 0; i < 2; ++i) {
        ++state.saves;
        if (!store.save(state))
            return false;
    }
    return true;
}

bool begin_run(DurableState &state, StateStore &store) {
    state.incarnation = static_cast<Incarnation>(state.saves + 1);
    return save_apart(state, store);
}

void Agent::start() {
    busy_ = true;
    perform(node_.start(ports_.clock.now()));
    take_answers();
    busy_ = false;
}

namespace {

// The primary asks how far this node is; it may be waiting to hand over.
bool asks_position(const Received &received) {
    const auto *heartbeat = std::get_if<Heartbeat>(&received.message.body);
    return heartbeat && heartbeat->wants_reply;
}

// Decisions that compare positions shall see PostgreSQL as it is, not as it was at the last tick.
bool wants_sample(const Event &event) {
    if (const auto *received = std::get_if<Received>(&event))
        return (std::holds_alternative<VoteRequest>(received->message.body) && !planted(Bug::position_before_gate)) ||
               asks_position(*received);
    return std::holds_alternative<Tick>(event) || std::holds_alternative<StreamEnded>(event) ||
           std::holds_alternative<SyncInEffect>(event) || // what was acknowledged before ends at most here
           std::holds_alternative<PeerGone>(event) || std::holds_alternative<ForceFailover>(event) ||
           std::holds_alternative<Command>(event);
}

} // namespace

ForcedFailover Agent::forced_failover() {
    handle(ports_.postgres.sample());
    return node_.forced_failover(ports_.clock.now());
}

std::string Agent::obstacle(const Command &command) {
    handle(ports_.postgres.sample());
    return node_.obstacle(command, ports_.clock.now());
}

void Agent::handle(const Event &event) {
    inbox_.push_back(event);
    if (busy_)
        return;
    busy_ = true;
    while (!inbox_.empty()) {
        const Event next = std::move(inbox_.front());
        inbox_.pop_front();
        if (wants_sample(next))
            run(ports_.postgres.sample());
        run(next);
    }
    busy_ = false;
}

void Agent::run(const Event &event) {
    perform(node_.step(event, ports_.clock.now()));
    take_answers();
}

void Agent::take_answers() {
    while (!answers_.empty()) {
        const Event answer = std::move(answers_.front());
        answers_.pop_front();
        perform(node_.step(answer, ports_.clock.now()));
    }
}

void Agent::perform(const Outputs &outputs) {
    struct Performer {
        Agent &a;
        const DurableState *stored = nullptr; // by this step
        std::uint64_t saves = 0;              // done by now: what is not on disk must not be told (I2)
        bool operator()(const Send &o) {
            const DurableState &d = a.node_.durable();
            a.ports_.transport.send({a.cluster_, d.self, o.to, d.incarnation, d.term, o.body, a.node_.instance(), saves});
            return true;
        }
        bool operator()(const Persist &o) {
            if (a.ports_.store.save(o.state) || planted(Bug::send_after_failed_save)) {
                stored = &o.state;
                saves = o.state.saves;
                return true;
            }
            // What the dropped step asked for is void.
            a.answers_.assign(1, PersistFailed{stored ? std::optional(*stored) : std::nullopt});
            return false;
        }
        bool operator()(const CloseGate &) { return a.answers_.push_back(GateClosed{a.ports_.postgres.close_gate()}), true; }
        bool operator()(const OpenGate &o) { return a.ports_.postgres.open_gate(o), true; }
        bool operator()(const SetLease &o) { return a.ports_.postgres.set_lease(o.until), true; }
        bool operator()(const Settled &) { return a.ports_.postgres.settled(), true; }
        bool operator()(const Promote &o) { return a.ports_.postgres.promote(o.term), true; }
        bool operator()(const Demote &o) { return a.ports_.postgres.demote(o.reason), true; }
        bool operator()(const Rejoin &o) { return a.ports_.postgres.rejoin(o), true; }
        bool operator()(const ApplySync &o) { return a.ports_.postgres.apply_sync(o), true; }
        bool operator()(const SetPeers &o) { return a.ports_.transport.set_peers(o.members), true; }
        bool operator()(const Note &o) { return a.ports_.postgres.note(o), true; }
        bool operator()(const Trace &o) { return a.ports_.postgres.trace(o.line), true; }
    };
    const auto to_save = std::count_if(outputs.begin(), outputs.end(), [](const Output &output) { return std::holds_alternative<Persist>(output); });
    Performer performer{*this, nullptr, node_.durable().saves - static_cast<std::uint64_t>(to_save)};
    for (const Output &output : outputs)
        if (!std::visit(performer, output))
            return;
}

} // namespace pg_ha
