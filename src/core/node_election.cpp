// SPDX-License-Identifier: PostgreSQL
//
// Standing, voting, winning.  Raft's election with PreVote (thesis, section 9.6) and CheckQuorum,
// where the log is PostgreSQL's WAL: a vote shuts the gate first, so the position it is given by
// can't move any more; then it is made durable; then it is answered (I2, I3).
#include "node_impl.hpp"

#include <algorithm>

namespace pg_ha {

using std::chrono::milliseconds;

namespace {
// Candidates stand in order of position and priority, this far apart.
constexpr Duration stagger_on_evidence = milliseconds(15);
constexpr std::int64_t clear_lead_bytes = 16 << 20; // one WAL segment
constexpr Duration jitter_on_evidence = milliseconds(4);
constexpr Duration retry_on_evidence = milliseconds(25);
constexpr Duration retry_at_most = milliseconds(500);
constexpr unsigned ballots_given_way = 2; // to a voter that is ahead; if it can't win, those who grant decide
constexpr Duration stand_in_after = milliseconds(500); // those that may lead for good have tried by then
constexpr Duration after_the_vote = milliseconds(20); // who asked for the switchover shall still hear of it
constexpr Duration vote_wait = milliseconds(250); // covers a slow fdatasync on the voters
} // namespace

// ---- standing -----------------------------------------------------------------------------------------

bool Node::Impl::may_stand() const {
    return role == Role::standby && is_voter() && settings.kind == MemberKind::data &&
           (settings.priority > 0 || stands_in(now) || now < ordered_until || leads_through_pause()) && local.in_recovery &&
           local.promotable && (!local.opening || planted(Bug::stands_while_opening)) &&
           (local.position_known || planted(Bug::restarted_believed)) &&
           raw(local.position.timeline) <= raw(durable.term) && !lags(local.position) &&
           (!configuration().paused || leads_through_pause() || now < ordered_until || planted(Bug::pause_ignored));
}

// With failover_priority 0 a node leads only where that is needed: it refuses its vote to those who lack WAL that is
// here, so that perhaps nobody can be elected.  Who asks for votes may lead by its own settings, whatever the record says.
bool Node::Impl::stands_in(Instant at) const {
    const auto lacks_wal = [&](const Member &member) {
        const MemberTable::Row *row = table.find(member.id);
        return member.id != durable.self && member.voter && member.kind == MemberKind::data && member.priority > 0 && row &&
               liveness(member.id, at) == Liveness::alive && row->report.local.in_recovery &&
               row->report.local.position_known && row->report.local.position < local.position;
    };
    return settings.priority == 0 && !planted(Bug::no_stand_in) &&
           (at < candidate_lacks_wal_until || std::ranges::any_of(configuration().members, lacks_wal));
}

// How many other voters should stand before this one, as far as is known.
std::size_t Node::Impl::rank() const {
    std::size_t better = 0;
    for (const Member &member : configuration().members) {
        if (member.id == durable.self || member.id == leader || !member.voter || member.kind != MemberKind::data ||
            member.priority == 0 || liveness(member.id, now) != Liveness::alive)
            continue;
        const MemberReport &report = table.find(member.id)->report;
        if (!report.local.in_recovery)
            continue;
        // Their position is up to a heartbeat old and ours is not: only a clear lead counts, or each
        // would put itself first and the votes would split.
        const Position theirs = report.local.position, ours = local.position;
        const auto lead = static_cast<std::int64_t>(raw(theirs.lsn)) - static_cast<std::int64_t>(raw(ours.lsn));
        if (theirs.timeline == ours.timeline && std::abs(lead) < clear_lead_bytes)
            better += std::pair(member.priority, ~raw(member.id)) > std::pair(settings.priority, ~raw(durable.self));
        else
            better += theirs > ours;
    }
    return better;
}

void Node::Impl::schedule_election() {
    if (!may_stand()) {
        election_due = never;
        return;
    }
    const Duration step = promise_void ? stagger_on_evidence : settings.heartbeat_interval / 4;
    const Duration chance = promise_void ? jitter_on_evidence : settings.heartbeat_interval / 8;
    Instant earliest = promise_void ? now : std::max(promise_until, now);
    if (!promise_void && promise_until == long_ago) // restarted: an earlier promise may still bind us
        earliest = std::max(earliest, started + promised_lease());
    if (settings.priority == 0)
        earliest += stand_in_after;
    election_due = earliest + step * static_cast<std::int64_t>(rank()) + jitter(chance);
}

void Node::Impl::stand() {
    if (!may_stand() || ballot)
        return;
    if (!promise_void && (now < promise_until || just_restarted())) {
        schedule_election();
        return;
    }
    if (planted(Bug::no_prevote))
        return begin_campaign();
    // On evidence a lost question is soon repeated; but links may be slower than that, so ever more slowly.
    const Duration patience = std::min(retry_on_evidence * (1 << std::min(ballots_lost, 8u)), vote_wait);
    ballot = Ballot{true, next(durable.term), {durable.self}, now + (promise_void ? patience : vote_wait)};
    trace("asks for pre-votes for term " + std::to_string(raw(ballot->term)) + " at " + to_string(local.position));
    VoteRequest request{true, ballot->term, local.position, resigned, configuration().version};
    for (const Member &member : configuration().members)
        if (member.voter && member.id != durable.self)
            send(member.id, request);
    count_ballot();
}

void Node::Impl::begin_campaign() {
    ballot.reset();
    campaign_after_gate = true;
    shut_gate();
}

// ---- voting ---------------------------------------------------------------------------------------------

// Everything that can be refused before WAL has to be stopped.
Refusal Node::Impl::refusal_before_gate(NodeId candidate, const VoteRequest &request) const {
    // A candidate counts by its own record: a newer one may have made a voter of this node (Raft thesis, 4.1).
    if (!is_voter() && request.config_version <= configuration().version)
        return Refusal::not_voter;
    const Member *member = configuration().find(candidate);
    if (!member || member->kind != MemberKind::data)
        return Refusal::not_eligible;
    if (request.term < durable.term || (request.pre && request.term == durable.term))
        return Refusal::stale_term;
    if (request.term == durable.term && durable.voted_for != NodeId::none && durable.voted_for != candidate &&
        !planted(Bug::second_vote))
        return Refusal::already_voted;
    const bool gone = promise_void || (!acts() && ends_leadership(request.resigned));
    if (!gone && !planted(Bug::promise_broken) && now < (acts() ? lease_until : promise_until))
        return Refusal::promised;
    if (!gone && !acts() && just_restarted())
        return Refusal::just_restarted;
    if (!local.position_known && settings.kind == MemberKind::data && !planted(Bug::restarted_believed))
        return Refusal::position_unknown;
    return Refusal::none;
}

// In asynchronous mode nobody else's position protects commits; the candidate may at most miss what
// the operator allows of the primary's last known position.
bool Node::Impl::behind(const VoteRequest &request) const {
    if (planted(Bug::lsn_without_timeline))
        return request.position.lsn < local.position.lsn;
    return request.position < local.position || lags(request.position);
}

bool Node::Impl::lags(Position position) const {
    return !configuration().synchronous && raw(position.timeline) <= raw(leader_position_term) &&
           raw(position.lsn) + settings.max_lag_on_failover < raw(leader_position) && !planted(Bug::lag_ignored);
}

void Node::Impl::on_vote_request(const Message &message, const VoteRequest &request) {
    if (!acts() && ends_leadership(request.resigned))
        note_resigned(request.resigned, false, "the primary resigned, says " + name_of(message.from));
    Refusal refusal = refusal_before_gate(message.from, request);
    if (refusal == Refusal::none && behind(request) && !overlooks_position_of(message.from))
        refusal = Refusal::position_behind;
    if (refusal == Refusal::position_behind)
        candidate_lacks_wal_until = now + promised_lease();
    if (refusal != Refusal::none || request.pre) {
        answer_vote(message.from, request, refusal);
        if (refusal == Refusal::none && election_due != never) // let it try before standing oneself
            election_due = std::max(election_due, now + 2 * stagger_on_evidence);
        return;
    }
    if (acts()) // its lease has run out; nothing it acknowledges may come after the vote
        step_down("votes for " + name_of(message.from) + " in term " + std::to_string(raw(request.term)));
    pending_vote = PendingVote{message.from, request};
    if (planted(Bug::vote_with_open_gate))
        return decide_vote();
    shut_gate();
}

void Node::Impl::answer_vote(NodeId candidate, const VoteRequest &request, Refusal refusal) {
    trace((refusal == Refusal::none ? std::string("grants ") : std::string("refuses ")) + (request.pre ? "pre-vote" : "vote") +
          " of term " + std::to_string(raw(request.term)) + " to " + name_of(candidate) +
          (refusal == Refusal::none ? "" : std::string(": ") + to_string(refusal)) + " (candidate at " +
          to_string(request.position) + ", here " + to_string(local.position) + ")");
    VoteReply reply{request.pre, request.term, refusal == Refusal::none, refusal, local.position, std::nullopt};
    if (request.config_version < configuration().version)
        reply.configuration = configuration();
    send(candidate, reply);
}

// The gate is shut and the position read: now a vote may be decided or a campaign begin.
void Node::Impl::gate_closed(const LocalState &state) {
    if (!planted(Bug::position_before_gate))
        local = state;
    gate_shutting = false;
    if (pending_vote)
        decide_vote();
    if (force_after_gate) {
        campaign_after_gate = force_after_gate = false;
        take_over();
        return;
    }
    if (!campaign_after_gate) {
        consider_gate(); // the position can't move any more: now it may be compared
        return;
    }
    campaign_after_gate = false;
    if (!may_stand()) {
        schedule_election();
        return;
    }
    become(Role::candidate, "a majority would vote for it");
    durable.term = next(durable.term);
    durable.voted_for = durable.self;
    leader = NodeId::none;
    leader_lineage.clear();
    persist();
    // Ever longer for voters whose disks are slow: that they are there, the pre-votes have just shown.
    const Duration patience = vote_wait * (1 << std::min(ballots_lost / 2, 3u));
    ballot = Ballot{false, durable.term, {durable.self}, now + patience + jitter(vote_wait / 2)};
    trace("stands for term " + std::to_string(raw(durable.term)) + " at " + to_string(local.position));
    VoteRequest request{false, durable.term, local.position, resigned, configuration().version};
    for (const Member &member : configuration().members)
        if (member.voter && member.id != durable.self)
            send(member.id, request);
    count_ballot();
}

void Node::Impl::decide_vote() {
    const PendingVote vote = *pending_vote;
    pending_vote.reset();
    if (vote.request.term < durable.term)
        return;
    if (behind(vote.request) && !overlooks_position_of(vote.candidate)) {
        answer_vote(vote.candidate, vote.request, Refusal::position_behind);
        return;
    }
    if (role == Role::candidate && vote.candidate != durable.self) {
        ballot.reset();
        become(Role::standby, "votes for " + name_of(vote.candidate));
    }
    durable.term = vote.request.term;
    durable.voted_for = vote.candidate;
    leader = NodeId::none;
    leader_lineage.clear();
    ballot.reset();
    if (!planted(Bug::vote_not_stored))
        persist();
    answer_vote(vote.candidate, vote.request, Refusal::none);
    demote_at = std::min(demote_at, now + after_the_vote);
    // Leave the winner time to be counted and heard before standing oneself.
    election_due = may_stand() ? now + vote_wait * 2 + jitter(vote_wait) : never;
    check_writable();
}

// ---- counting ------------------------------------------------------------------------------------------

void Node::Impl::on_vote_reply(const Message &message, const VoteReply &reply) {
    if (reply.configuration)
        consider_configuration(*reply.configuration, message.term);
    if (!ballot || ballot->pre != reply.pre || ballot->term != reply.term) {
        if (message.term > durable.term && !acts() && role == Role::standby)
            adopt_term(message.term);
        return;
    }
    if (reply.granted) {
        ballot->granted.insert(message.from);
        ballot->refused.erase(message.from); // that was the answer to an earlier ballot for the same term
        if (reply.position == local.position)
            ballot->equal.insert(message.from);
        count_ballot();
        return;
    }
    ballot->refusal = name_of(message.from) + " refuses: " + to_string(reply.refusal);
    trace(ballot->refusal);
    ballot->refused.insert(message.from);
    if (message.term >= ballot->term && message.term > durable.term) {
        adopt_term(message.term);
        schedule_election();
        return;
    }
    const bool behind = reply.refusal == Refusal::position_behind, ahead = behind && reply.position > local.position;
    if (ahead && order_stands(now) && ballots_lost > 0) { // at first it may be half a record, which recovery gives up
        end_order(name_of(message.from) + " has more WAL (up to " + to_string(reply.position) + ", here up to " +
                      to_string(local.position) + ")", message.from);
        return lose_ballot(name_of(message.from) + " is ahead");
    }
    const Member *voter = configuration().find(message.from);
    if (ahead && voter && voter->priority > 0) {
        if (!ballot->passed_on) // one only: two that are told at the same moment split the votes
            send(message.from, StandNow{});
        ballot->passed_on = true;
        if (ballots_lost < ballots_given_way)
            return lose_ballot(name_of(message.from) + " is ahead");
    }
    if (can_still_win())
        return;
    if (behind && !ahead && !configuration().synchronous && order_stands(now))
        end_order(name_of(message.from) + " has heard of a primary with more WAL than max_lag_on_failover allows to lose", NodeId::none);
    lose_ballot("those who have not refused are no majority");
}

// Nobody answers a ballot twice.  Who waits for what can't come stays a candidate, deaf to those who ask
// it to stand, and meets the same rivals again at the same moments.
bool Node::Impl::can_still_win() const {
    std::set<NodeId> possible;
    for (const Member &member : configuration().members)
        if (member.voter && !ballot->refused.contains(member.id))
            possible.insert(member.id);
    return wins_election(configuration(), possible);
}

void Node::Impl::count_ballot() {
    if (!ballot || !wins_election(configuration(), ballot->granted))
        return;
    if (ballot->pre)
        begin_campaign();
    else
        win("elected");
}

void Node::Impl::lose_ballot(const std::string &why) {
    const std::string refusal = ballot && !ballot->refusal.empty() ? "; " + ballot->refusal : "";
    ballot.reset();
    if (role == Role::candidate)
        become(Role::standby, "not elected in term " + std::to_string(raw(durable.term)) + ": " + why);
    schedule_election();
    if (election_due == never)
        return;
    ++ballots_lost;
    const Duration first = promise_void ? retry_on_evidence : settings.heartbeat_interval;
    const Duration pause = std::min(first * (1 << std::min(ballots_lost, 8u)), std::max(first, retry_at_most));
    election_due = std::max(election_due, now + pause / 2 + jitter(pause));
    if (order_stands(now))
        reason = "stands by an operator's order, and is not elected yet: " + why + refusal;
    trace("pre-vote or vote lost: " + why);
}

void Node::Impl::win(const std::string &how) {
    const Ballot won = ballot.value_or(Ballot{});
    ballot.reset();
    hand_over_due = long_ago;
    handovers_begun = 0;
    handed_over_to = NodeId::none;
    promise_void = leader_gone = false; // that was about the primary before
    ordered_until = long_ago;
    clean_stop_until = never;
    leader = durable.self;
    ballots_lost = 0;
    record_in_force = term_in_force = false;
    leases.clear();
    contacts.clear();
    asks_promise = true;
    leading_since = now;
    lease_until = long_ago;
    fenced_noted = false;
    lineage.clear();
    stored_versions.clear();
    applicants.clear();
    replaced.clear();
    postgres_first.reset();
    catch_up_to.reset();
    streams.clear();
    own_wal.clear();
    hung_at.reset();
    streams_looked_at = long_ago;
    commits_wait = false;
    election_due = never;
    unasked.clear();
    become(Role::promoting, how + " in term " + std::to_string(raw(durable.term)) +
                                (settings.priority == 0 ? ", though its failover_priority is 0: hands over when another can lead" : ""));
    first_record(won);
    apply_sync();
    const Term stock = static_cast<Term>(raw(local.position.timeline) + 1);
    out.push_back(Promote{planted(Bug::timeline_reused) ? stock : durable.term});
}

} // namespace pg_ha
