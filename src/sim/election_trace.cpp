// SPDX-License-Identifier: PostgreSQL
//
// WAL and commits are told in one line per node before each other step: in between, only their ends matter.
#include "election_trace.hpp"
#include "world.hpp"

#include <algorithm>
#include <cstdio>

namespace pg_ha::sim {

Options options_of_model(Options options) {
    options.hosts = options.hosts == 5 ? 5 : 3;
    options.ready_made = options.synchronous = true;
    options.witnesses = 0;
    options.judged = false; // the model is the judge
    for (const Fault fault : {Fault::state_loss, Fault::state_torn, Fault::state_put_back, Fault::data_put_back,
                              Fault::machine_put_back, Fault::hand_promotion})
        options.fault_every[static_cast<std::size_t>(fault)] = 0;
    return options;
}

void ElectionTrace::begin(Writer writer) {
    writer_ = std::move(writer);
    for (int i = 0; i < world_.options.hosts; i++) {
        Host &host = world_.host(i);
        const DurableState &state = *host.disk.state();
        ids_[static_cast<std::size_t>(i)] = state.self;
        seen(host).term = state.term;
        seen(host).wal = host.postgres.wal;
        seen(host).record = state.configuration.sync;
    }
    step("begins", world_.host(0), std::to_string(world_.options.hosts));
}

// ---- words ---------------------------------------------------------------------------------------------

ElectionTrace::Seen &ElectionTrace::seen(const Host &host) {
    return seen_[static_cast<std::size_t>(host.index)];
}

int ElectionTrace::node_of(NodeId id) const {
    const auto found = std::find(ids_.begin(), ids_.end(), id);
    return id == NodeId::none || found == ids_.end() ? 0 : static_cast<int>(found - ids_.begin()) + 1;
}

unsigned ElectionTrace::set_of(const std::vector<NodeId> &ids) const {
    unsigned set = 0;
    for (const NodeId id : ids)
        set |= 1u << (node_of(id) - 1);
    return set;
}

// Terms begin with 1 in the model.
unsigned ElectionTrace::number(Term term) const {
    return term == Term::none ? 0 : raw(term) - world_.options.first_timeline + 1;
}

void ElectionTrace::step(const char *name, Host &host, const std::string &arguments) {
    const Seen &s = seen(host);
    const Timeline timeline = world_.wal.branch(s.wal.branch).timeline;
    char line[200];
    std::snprintf(line, sizeof line, "%-16s %d  %2u %d %2u  %2u %llu  %s", name, host.index, number(s.term), s.vote,
                  number(s.gate), number(static_cast<Term>(raw(timeline))), static_cast<unsigned long long>(s.wal.lsn),
                  arguments.c_str());
    writer_(line);
}

// ---- WAL and commits -------------------------------------------------------------------------------------

// Whoever writes comes first: the others can have received no more.
void ElectionTrace::catch_up() {
    for (const bool writers : {true, false})
        for (int i = 0; i < world_.options.hosts; i++) {
            Host &host = world_.host(i);
            if (host.postgres.in_recovery == writers || seen(host).wal == host.postgres.wal)
                continue;
            seen(host).wal = host.postgres.wal;
            step("wal", host);
        }
    for (int i = 0; i < world_.options.hosts; i++) {
        Seen &s = seen_[static_cast<std::size_t>(i)];
        if (!s.answer)
            continue;
        const Answer answer = *s.answer;
        s.answer.reset();
        s.answered = answer.lsn;
        step("answer", world_.host(i),
             std::to_string(answer.lsn) + " " + std::to_string(answer.rule.hosts | 1u << i) + " " +
                 std::to_string(std::max(answer.rule.needed, 0) + 1));
    }
}

// SyncRepReleaseWaiters: these commits need no standby any more, whatever rule comes next.
void ElectionTrace::released(Host &host, std::uint64_t lsn, const StandbyRule &rule) {
    if (writer_)
        seen(host).released.push_back({lsn, rule});
}

void ElectionTrace::passed_last_check(Host &host, std::uint64_t lsn, const std::vector<StandbyRule> &rules) {
    Seen &s = seen(host);
    if (!writer_ || lsn <= s.answered)
        return;
    Answer answer{lsn, rules.front()};
    for (const StandbyRule &rule : rules)
        if (rule.needed < answer.rule.needed)
            answer.rule = rule;
    for (const Answer &release : s.released)
        if (release.lsn >= lsn && answer.rule.needed > 0) {
            answer.rule = release.rule;
            break;
        }
    if (s.answer && (s.answer->rule != answer.rule || s.answer->lsn >= lsn))
        catch_up();
    if (lsn > s.answered)
        s.answer = answer;
}

// ---- terms and votes ---------------------------------------------------------------------------------------

void ElectionTrace::saved(Host &host, const DurableState &state) {
    if (!writer_)
        return;
    if (state.self != ids_[static_cast<std::size_t>(host.index)])
        return identity_lost();
    catch_up();
    Seen &s = seen(host);
    const int vote = node_of(state.voted_for);
    if (state.term != s.term || vote != s.vote) {
        const bool higher = state.term > s.term;
        const bool own = vote == host.index + 1;
        if (vote != 0 && !(own && higher))
            return give_vote(host, state.term, vote);
        s.term = state.term;
        s.vote = vote;
        s.candidate = own;
        s.acts = false;
        if (own)
            s.asked = state.term;
        step(own ? "stand" : "learn_term", host, own ? "" : std::to_string(number(state.term)));
    } else if (s.elected) { // its first record
        win(host);
    }
    s.record = state.configuration.sync;
}

// A request that its candidate has given up since changes nothing but the voter's own term and vote.
void ElectionTrace::give_vote(Host &host, Term term, int candidate) {
    Seen &s = seen(host);
    const bool current = world_.host(candidate - 1).index != host.index && seen(world_.host(candidate - 1)).asked == term;
    if (current)
        step("shut_gate_for", host, std::to_string(candidate - 1));
    s.term = host.disk.state()->term;
    s.vote = node_of(host.disk.state()->voted_for);
    s.candidate = s.acts = false;
    if (current)
        step("decide_vote", host);
    else
        step("untold", host, std::to_string(number(term)) + " " + std::to_string(candidate));
}

void ElectionTrace::sent(Host &host, const Message &message) {
    const VoteReply *reply = std::get_if<VoteReply>(&message.body);
    if (!writer_ || !reply || !reply->granted || reply->pre)
        return;
    const int candidate = node_of(message.to);
    if (seen(host).term == reply->term && seen(host).vote == candidate)
        return; // told at the save; or told again
    catch_up();
    give_vote(host, reply->term, candidate);
}

// What nobody was told of, because the save was called failed or the process did not survive it.
void ElectionTrace::read_state(Host &host) {
    if (!writer_)
        return;
    catch_up();
    Seen &s = seen(host);
    const DurableState &state = *host.disk.state();
    const int vote = node_of(state.voted_for);
    s.record = state.configuration.sync;
    s.candidate = false;
    if (state.term == s.term && vote == s.vote)
        return;
    s.acts = false;
    s.term = state.term;
    s.vote = vote;
    step("untold", host, std::to_string(number(state.term)) + " " + std::to_string(vote));
}

void ElectionTrace::win(Host &host) {
    Seen &s = seen(host);
    s.candidate = s.elected = false;
    s.acts = true;
    step("win", host, std::to_string(set_of(s.record.set)) + " " + std::to_string(s.record.quorum));
}

void ElectionTrace::became(Host &host, Role role) {
    Seen &s = seen(host);
    s.elected = s.candidate && role == Role::promoting;
    const bool stays = role == Role::promoting || role == Role::primary || role == Role::stopping ||
                       (s.candidate && role == Role::candidate);
    if (!writer_ || stays || !(s.candidate || s.acts))
        return;
    catch_up();
    s.candidate = s.acts = false;
    step("step_down", host);
}

// ---- PostgreSQL ------------------------------------------------------------------------------------------------

void ElectionTrace::gate_changed(Host &host) {
    const Term gate = host.postgres.gate_term();
    if (!writer_ || gate == seen(host).gate)
        return;
    catch_up();
    seen(host).gate = gate;
    if (gate == Term::none)
        step("shut_gate", host);
    else
        step("follow", host, std::to_string(number(gate)));
}

void ElectionTrace::promotion_asked(Host &host) {
    if (!writer_ || seen(host).acts)
        return;
    catch_up();
    win(host);
}

void ElectionTrace::opens(Host &host) {
    if (!writer_)
        return;
    catch_up();
    step("open", host);
}

void ElectionTrace::promotion_failed(Host &host) {
    if (!writer_)
        return;
    catch_up();
    step("promotion_fails", host);
}

void ElectionTrace::started(Host &host) {
    if (!writer_)
        return;
    catch_up();
    Seen &s = seen(host);
    s.candidate = s.acts = false;
    s.gate = Term::none;
    s.released.clear();
    step("crash", host);
}

void ElectionTrace::read_wal(Host &host) {
    if (!writer_)
        return;
    catch_up();
    step("read_wal", host);
}

void ElectionTrace::wal_changes(Host &host) {
    if (!writer_)
        return;
    catch_up();
    read_state(host);
}

void ElectionTrace::cloned(Host &host, Host &source) {
    if (!writer_)
        return;
    Seen &s = seen(host);
    const DurableState &state = *host.disk.state();
    s.term = state.term;
    s.vote = node_of(state.voted_for);
    s.gate = Term::none;
    s.wal = host.postgres.wal;
    s.candidate = s.acts = false;
    s.released.clear();
    const Timeline timeline = world_.wal.branch(source.postgres.wal.branch).timeline;
    step("clone", host, std::to_string(number(static_cast<Term>(raw(timeline)))));
}

} // namespace pg_ha::sim
