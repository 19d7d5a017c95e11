// SPDX-License-Identifier: PostgreSQL
//
// Life as primary: heartbeats that renew the lease, the configuration and its elementary steps, and
// stepping down.  A commit may be acknowledged only while three things hold: the lease runs, a
// record of the own term is in force, and PostgreSQL waits for at least what the record asks.
#include "node_impl.hpp"

#include <algorithm>

namespace pg_ha {

namespace {
constexpr std::uint64_t rounds_between_strangers = 8; // heartbeats to connected nodes that are no members
constexpr std::uint64_t caught_up_bytes = 16 << 20;   // one WAL segment
} // namespace

// ---- heartbeats ---------------------------------------------------------------------------------------

MemberReport Node::Impl::own_report(bool with_links) {
    MemberReport report;
    report.id = durable.self;
    report.incarnation = durable.incarnation;
    report.instance = instance;
    report.saves = durable.saves;
    report.sequence = ++report_sequence;
    report.refutations = gossip.refutations();
    report.role = role;
    report.term = durable.term;
    report.local = local;
    report.reason = reason.substr(0, 200);
    report.parameters = settings.parameters;
    if (role == Role::primary)
        report.rejoins = rejoins;
    if (with_links)
        report.links = link_reports();
    return report;
}

Heartbeat Node::Impl::make_heartbeat(NodeId to, bool asks) {
    Heartbeat heartbeat;
    heartbeat.sent = now;
    heartbeat.wants_reply = asks || acts();
    heartbeat.asks_nothing = acts() && !asks_promise;
    if (heartbeat.asks_nothing)
        last_without_promise = now;
    heartbeat.leader = acts() ? durable.self : leader;
    heartbeat.config_version = configuration().version;
    if (lacks_configuration(to))
        heartbeat.configuration = configuration();
    if (role == Role::primary) {
        heartbeat.lineage = lineage;
        heartbeat.lineage_confirmed = local.position.lsn;
    }
    heartbeat.self = own_report(rounds % rounds_between_link_reports == 0);
    add_news(to, heartbeat);
    return heartbeat;
}

void Node::Impl::heartbeat_round() {
    if (acts())
        consider_contact();
    ++rounds;
    round_sent = now;
    for (const Peer &peer : peers_of_round()) {
        if (peer.asks)
            asked(peer.id);
        send(peer.id, make_heartbeat(peer.id, peer.asks));
    }
    if (acts()) {
        if (rounds % rounds_between_strangers == 0) // a new identity at a member's address may know nobody else
            for (NodeId peer : connected)
                if (!configuration().find(peer))
                    send(peer, make_heartbeat(peer, true));
        update_record();
        advance_configuration();
        update_lease();
    }
    const Member *mine = configuration().find(durable.self);
    if (role == Role::standby && leader != NodeId::none && mine) {
        Member wanted = own_member();
        wanted.voter = mine->voter;
        if (wanted != *mine) // address or priority changed since: the primary shall record it
            send(leader, JoinRequest{own_member(), settings.system_identifier});
    }
}

void Node::Impl::on_heartbeat_reply(const Message &message, const HeartbeatReply &reply) {
    learn(reply.self);
    learn(message.from, reply.table, reply.rumours);
    if (reply.sent <= now)
        table.answered(message.from, now - reply.sent);
    stored_versions[message.from] = reply.config_version;
    compare_configurations(message.from, reply.config_version, true);
    if (acts() && message.term > durable.term) {
        step_down(name_of(message.from) + " is in term " + std::to_string(raw(message.term)));
        return;
    }
    if (!acts() || message.term != durable.term || !reply.follows)
        return;
    if (reply.sent < started || reply.sent > now)
        return; // it answers the process before this one, which has lost its lease
    if (handover && handover->successor == message.from && reply.sent >= handover->began)
        handover->answered = true;
    contacts.answered(message.from, reply.sent);
    unasked.erase(message.from);
    if (reply.sent > last_without_promise || planted(Bug::lease_without_promise))
        leases.answered(message.from, planted(Bug::lease_from_receipt) ? now : reply.sent);
    if (!asks_promise) {
        consider_contact();
        if (asks_promise)
            heartbeat_round(); // the answers to this one bring the lease back
    }
    update_record();
    advance_configuration();
    update_lease();
}

// ---- lease -----------------------------------------------------------------------------------------------

// Whoever hears a primary promises it not to elect another.  One that can't hear a majority must not hold
// such promises: perhaps those who keep them could reach each other.  It leads on, and asks again as soon
// as a majority answers (CheckQuorum, Raft thesis, 6.2).
void Node::Impl::consider_contact() {
    const Instant heard = contacts.until(configuration(), durable.self, round_sent, own_lease());
    asks_promise = now < std::max(heard, leading_since + own_lease());
}

void Node::Impl::update_lease() {
    Instant until = long_ago;
    const bool meet = postgres_meets(configuration().sync) || planted(Bug::rules_not_compared);
    const bool may_acknowledge = term_in_force && sync_known && meet && asked_everybody() && !handover;
    if (may_acknowledge)
        until = leases.until(configuration(), durable.self, round_sent, own_lease());
    if (may_acknowledge && planted(Bug::no_check_quorum))
        until = now + own_lease();
    if (until <= now)
        until = long_ago;
    if (until != lease_until) {
        lease_until = until;
        out.push_back(SetLease{until});
    }
    if (role != Role::primary)
        return;
    const bool fenced = until == long_ago;
    if (fenced && !fenced_noted && may_acknowledge) {
        reason = "fenced: no majority of voters answers";
        out.push_back(Note{role, role, durable.term, local.position, reason});
    } else if (!fenced && fenced_noted) {
        reason = "a majority of voters answers again";
        out.push_back(Note{role, role, durable.term, local.position, reason});
    }
    if (may_acknowledge)
        fenced_noted = fenced;
}

// ---- configuration -------------------------------------------------------------------------------------

// I8: in force once a majority of its own voters has stored it.
void Node::Impl::update_record() {
    stored_versions[durable.self] = configuration().version;
    if (record_in_force || configuration().version.term != durable.term)
        return;
    std::set<NodeId> stored;
    for (const auto &[id, version] : stored_versions)
        if (version == configuration().version)
            stored.insert(id);
    if (!has_majority(configuration(), stored))
        return;
    record_in_force = term_in_force = true;
    trace("configuration " + std::to_string(raw(configuration().version.term)) + "." +
          std::to_string(configuration().version.index) + " is in force");
    apply_sync();
}

// I5, I9: "w members of S, the primary counted" holds only for a primary in S; and those who did not answer
// its vote shall not make commits wait, where that is safe.
void Node::Impl::first_record(const Ballot &won) {
    Configuration first = configuration();
    std::set<NodeId> answered = won.granted;
    answered.erase(std::exchange(predecessor, NodeId::none)); // it voted, and restarts: commits shall not wait for that
    first.sync = first_rule(first.sync, durable.self, answered, won.equal, settings.min_sync_standbys);
    std::string why = "first record of the term";
    for (NodeId id : configuration().sync.set)
        if (!contains(first.sync.set, id))
            why += ", sync set loses " + name_of(id) + ": did not vote";
    if (first.sync.set.size() < configuration().sync.set.size())
        out.push_back(Note{role, role, durable.term, local.position, why});
    record(std::move(first), why);
}

// A lease already running stays: until the new record is in force, what PostgreSQL waits for meets
// the old record and the new one (I9).
void Node::Impl::record(Configuration next, const std::string &why) {
    next.version = {durable.term, configuration().version.index + 1};
    next.lease = settings.lease_duration;
    next.recorded_by = durable.self;
    durable.configuration = std::move(next);
    record_in_force = false;
    persist();
    trace("records configuration " + std::to_string(raw(durable.term)) + "." +
          std::to_string(configuration().version.index) + ": " + why);
    table.forget_except(configuration());
    if (planted(Bug::loosen_before_in_force))
        apply_sync();
    out.push_back(SetPeers{configuration().members});
    heartbeat_round();
}

// What is read after a stall may come from a node that has died since, so hearing it does not make it a voter,
// nor lets it into S: an answer to a question that was asked a moment ago does.  The record that names it needs it
// at once, or commits do.
bool Node::Impl::answers(NodeId id) const {
    const Instant asked = contacts.newest_answered(id);
    return asked != long_ago && now - asked < std::max(settings.heartbeat_interval * 3, settings.lease_duration / 2);
}

MembershipFacts Node::Impl::membership_facts() const {
    MembershipFacts facts;
    facts.self = durable.self;
    facts.synchronous = settings.synchronous;
    facts.members_max = settings.members_max;
    facts.min_sync_standbys = settings.min_sync_standbys;
    facts.replaced = replaced;
    facts.replaced.insert(unwanted.begin(), unwanted.end());
    facts.unwanted = unwanted;
    facts.paused = pause_wanted;
    facts.applicants = applicants;
    facts.caught_up.insert(durable.self);
    facts.ready.insert(durable.self);
    for (const Member &member : configuration().members) {
        const MemberTable::Row *row = table.find(member.id);
        if (member.id == durable.self || !row || liveness(member.id, now) != Liveness::alive)
            continue;
        const LocalState &theirs = row->report.local;
        const bool near = theirs.streaming && theirs.position.timeline == local.position.timeline &&
                          raw(theirs.position.lsn) + caught_up_bytes > raw(local.position.lsn);
        if (row->report.role != Role::standby || row->report.term != durable.term ||
            !(near || member.kind == MemberKind::witness))
            continue;
        if (!answers(member.id))
            continue;
        facts.caught_up.insert(member.id);
        if (auto watch = streams.find(member.id); watch != streams.end() && watch->second.steady(now, stream_patience()))
            facts.ready.insert(member.id);
    }
    for (const auto &[id, watch] : streams)
        if (watch.lost())
            facts.lost[id] = why_lost(id);
    return facts;
}

void Node::Impl::advance_configuration() {
    if (role == Role::primary)
        watch_streams();
    const bool complete = record_in_force || planted(Bug::change_before_in_force);
    if (role != Role::primary || !complete || configuration().version.term != durable.term)
        return;
    for (auto it = applicants.begin(); it != applicants.end();) {
        const Member *member = configuration().find(it->first);
        const bool settled = member && member->peer == it->second.peer && member->postgres == it->second.postgres &&
                             member->priority == it->second.priority;
        it = settled ? applicants.erase(it) : std::next(it);
    }
    std::erase_if(replaced, [&](NodeId id) { // gone at last, or back before it was removed
        return !configuration().find(id) || liveness(id, now) == Liveness::alive;
    });
    std::erase_if(unwanted, [&](NodeId id) { return !configuration().find(id) || liveness(id, now) == Liveness::alive; });
    if (pause_wanted == configuration().paused)
        pause_wanted.reset();

    if (postgres_first) {
        finish_postgres_first();
        return;
    }
    if (!sync_known || sync_pending || !(sync_in_effect == configuration().sync))
        return; // the last step is not complete yet
    std::optional<MembershipStep> step = next_step(configuration(), membership_facts());
    if (!step)
        return;
    out.push_back(Note{role, role, durable.term, local.position, step->reason});
    if (step->postgres_first) {
        postgres_first = step;
        apply_sync();
    } else {
        record(step->next, step->reason);
    }
}

// PostgreSQL waits for the new rule, or soon will.  Once w members have all that came before, it is
// recorded.  If it isn't wanted any more, because a member that it needs died, PostgreSQL goes back to the record.
void Node::Impl::finish_postgres_first() {
    const bool caught_up = catch_up_to && caught_up_to(*catch_up_to, postgres_first->next.sync);
    if (caught_up || (catch_up_to && planted(Bug::raise_w_without_catch_up))) {
        const MembershipStep step = *postgres_first;
        postgres_first.reset();
        catch_up_to.reset();
        record(step.next, step.reason);
        return;
    }
    const std::optional<MembershipStep> wanted = next_step(configuration(), membership_facts());
    if (wanted && wanted->postgres_first && wanted->next.sync == postgres_first->next.sync)
        return;
    out.push_back(Note{role, role, durable.term, local.position, "given up: " + postgres_first->reason});
    postgres_first.reset();
    catch_up_to.reset();
    apply_sync();
}

bool Node::Impl::caught_up_to(Lsn lsn, const SyncRule &rule) const {
    std::size_t have = contains(rule.set, durable.self);
    for (NodeId id : rule.set) {
        const MemberTable::Row *row = table.find(id);
        if (id != durable.self && row && row->report.term == durable.term && row->report.local.streaming &&
            row->report.local.position.timeline == local.position.timeline && row->report.local.position.lsn >= lsn)
            ++have;
    }
    return have >= rule.quorum;
}

// The rule PostgreSQL shall wait for now: the step that goes to it first, else the record.  A primary
// keeps the old rule until the new record is in force.  So does a deposed one, whatever the record of its
// successor says: commits that still wait here would be seen by its readers, and then vanish.
void Node::Impl::apply_sync() {
    if (settings.kind == MemberKind::witness || role == Role::deposed)
        return;
    if (role == Role::primary && !record_in_force && !planted(Bug::loosen_before_in_force))
        return;
    if (role == Role::primary && save_doubtful)
        return;
    const SyncRule &rule = postgres_first ? postgres_first->next.sync : configuration().sync;
    if (sync_asked == rule)
        return;
    sync_asked = rule;
    if (sync_known && !sync_pending && sync_in_effect == rule)
        return;
    sync_pending = true;
    sync_under_way.push_back(rule);
    ApplySync apply{rule, {}};
    for (NodeId id : rule.set)
        apply.names.push_back(name_of(id));
    out.push_back(std::move(apply));
}

// A standby is asked for every rule that its primary records, and can be elected in the middle of that.
bool Node::Impl::postgres_meets(const SyncRule &recorded) const {
    const auto meets = [&](const SyncRule &rule) { return rules_meet(rule, recorded); };
    return meets(sync_in_effect) && std::all_of(sync_under_way.begin(), sync_under_way.end(), meets);
}

void Node::Impl::sync_in_effect_now(const SyncRule &rule) {
    sync_in_effect = rule;
    confirmed = Lsn::none; // that was by the rule before
    confirmed_grew = now;
    sync_known = true;
    if (sync_asked == rule) {
        sync_pending = false;
        sync_under_way.clear();
    }
    if (acts()) {
        catch_up_to.reset();
        advance_configuration();
        update_lease();
    }
}

// ---- promotion, stepping down -----------------------------------------------------------------------------

void Node::Impl::promoted(const LocalState &state, const Lineage &history) {
    local = state;
    lineage = history;
    if (role != Role::promoting) {
        check_writable(); // another term began meanwhile
        return;
    }
    if (state.position.timeline != timeline_of(durable.term)) { // asked for in an earlier term, done late
        promotion_failed("PostgreSQL opened on timeline " + std::to_string(raw(state.position.timeline)));
        return;
    }
    become(Role::primary, "open for writes on timeline " + std::to_string(raw(state.position.timeline)));
    opened_at = state.position.lsn;
    heartbeat_round();
    heartbeat_due = now + settings.heartbeat_interval;
}

void Node::Impl::promotion_failed(const std::string &why) {
    if (role != Role::promoting)
        return;
    send_members(Resign{false});
    step_down("promotion failed: " + why);
}

void Node::Impl::drop_primary_state() {
    out.push_back(SetLease{long_ago});
    lease_until = long_ago;
    record_in_force = term_in_force = false;
    postgres_first.reset();
    catch_up_to.reset();
    opened_at.reset();
    handover.reset();
    pause_wanted.reset();
    unwanted.clear();
    leases.clear();
    contacts.clear();
}

void Node::Impl::step_down(const std::string &why) {
    drop_primary_state();
    leader = NodeId::none;
    leader_lineage.clear();
    promise_until = now;
    promise_void = false;
    become(local.in_recovery ? Role::standby : Role::deposed, why);
    schedule_election();
}

} // namespace pg_ha
