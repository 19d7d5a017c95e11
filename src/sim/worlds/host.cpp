// SPDX-License-Identifier: PostgreSQL
//
// One node: the agent, and what stands for its PostgreSQL.
#include "cluster.hpp"

namespace pg_ha::worlds {

using std::chrono::milliseconds;

Host::Host(Cluster &cluster, unsigned index, const Settings &settings, const DurableState &state, const LocalState &local)
    : cluster_(cluster), index_(index), settings_(settings), disk_(state), local_(local) {}

void Host::start(std::uint64_t seed) {
    begin_run(disk_, *this);
    agent_ = std::make_unique<Agent>(Ports{*this, *this, *this, *this}, settings_, disk_, local_, seed);
    running_ = true;
    agent_->start();
}

void Host::take(const Event &event) {
    if (const auto *done = std::get_if<Promoted>(&event)) {
        local_ = done->local;
        lineage_ = done->lineage;
    }
    if (running_)
        agent_->handle(event);
}

std::string Host::describe() const {
    const std::string disk = "term " + std::to_string(raw(disk_.term)) + ", at " + to_string(local_.position);
    if (!running_)
        return "gone, " + disk;
    const Status status = agent_->status();
    return std::string(to_string(status.role)) + ", " + disk + ": " + status.reason;
}

Instant Host::now() { return cluster_.now(); }

bool Host::save(const DurableState &state) {
    disk_ = state;
    return true;
}

void Host::send(const Message &message) { cluster_.send(index_, message); }

LocalState Host::close_gate() {
    upstream_ = NodeId::none;
    local_.streaming = false;
    return local_;
}

// A stream needs both ways, as TCP does; what it lacks arrives at once.
Sampled Host::sample() {
    local_.streaming = false;
    if (upstream_ != NodeId::none) {
        const Host &from = cluster_.host(upstream_);
        const bool connected = !cluster_.broken() || cluster_.world().both_ways(index_, from.index_);
        local_.streaming = connected && from.running_ && !from.local_.in_recovery && descends_from(local_.position, from.lineage_);
        if (local_.streaming) {
            local_.position = from.local_.position;
            lineage_ = from.lineage_;
        }
    }
    return {local_, local_.in_recovery ? Lineage{} : lineage_};
}

void Host::open_gate(const OpenGate &upstream) { upstream_ = upstream.leader; }

void Host::promote(Term term) {
    Promoted done{local_, lineage_};
    done.local.in_recovery = done.local.streaming = false;
    done.local.position = {timeline_of(term), static_cast<Lsn>(raw(local_.position.lsn) + 0x80)};
    done.lineage.back().end = local_.position.lsn;
    done.lineage.push_back({timeline_of(term), Lsn::none});
    cluster_.later(milliseconds(25), index_, std::move(done));
}

void Host::demote(const std::string &) {
    running_ = false;
    local_.in_recovery = true;
    lease_until_ = long_ago;
    upstream_ = NodeId::none;
    cluster_.restart_later(index_);
}

void Host::apply_sync(const ApplySync &sync) { cluster_.later(milliseconds(5), index_, SyncInEffect{sync.rule}); }

void Host::note(const Note &note) {
    cluster_.tell(index_, std::string("NOTE ") + to_string(note.from) + " -> " + to_string(note.to) + ": " + note.reason);
}

void Host::trace(const std::string &line) { cluster_.tell(index_, line); }

} // namespace pg_ha::worlds
