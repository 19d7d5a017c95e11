// SPDX-License-Identifier: PostgreSQL
//
// Life as a standby: follow the primary of the term, open the gate only to a history that contains
// our own, keep the promise not to vote for another, and notice hard evidence that the primary is
// gone.  Joining and being rejected live here too.
#include "node_impl.hpp"

#include <algorithm>

namespace pg_ha {

using std::chrono::milliseconds;
using std::chrono::seconds;

namespace {
// How long a standby waits for the last WAL of a primary that stops cleanly.
constexpr Duration clean_stop_wait = seconds(2);
// How long the others wait for the successor that a primary has named.
constexpr Duration successor_first = milliseconds(500);
// Heartbeats for which a diverged position must stand still: so long the others read why this node goes.
constexpr int heartbeats_diverged = 2;
} // namespace

// ---- following ---------------------------------------------------------------------------------------

void Node::Impl::on_heartbeat(const Message &message, const Heartbeat &heartbeat) {
    const bool from_primary = heartbeat.leader == message.from;
    const bool known = configuration().find(message.from) != nullptr;
    const bool admits_us = heartbeat.configuration && heartbeat.configuration->find(durable.self) &&
                           heartbeat.configuration->version > configuration().version;
    if (role == Role::joining && !admits_us)
        return;
    if (!known && !admits_us) {
        if (role == Role::primary && record_in_force) // or the record that removed it may still come to nothing
            send(message.from, Rejected{Rejection::not_member, message.incarnation});
        else if (from_primary && message.term > durable.term)
            // An old record, perhaps of an old copy (I2): whom it names may all be gone.  Let the primary see it.
            send(message.from, HeartbeatReply{heartbeat.sent, false, configuration().version, own_report(false)});
        else if (role == Role::standby && heartbeat.config_version < configuration().version)
            show_configuration(message.from);
        return;
    }
    learn(heartbeat.self);
    learn(message.from, heartbeat.table, heartbeat.rumours);
    stored_versions[message.from] = heartbeat.config_version;

    // A voter that missed the newest record knows perhaps neither the candidates nor who else votes.
    if (!from_primary && admits_us)
        consider_configuration(*heartbeat.configuration, message.term);
    else if (!from_primary && heartbeat.configuration && heartbeat.configuration->version > configuration().version)
        look_for_primary_among(heartbeat.configuration->members);
    if (from_primary && message.term >= durable.term && Resignation{message.term, message.incarnation} > resigned)
        follow(message, heartbeat);
    else if (acts() && message.term > durable.term)
        step_down(name_of(message.from) + " knows term " + std::to_string(raw(message.term)));
    if (heartbeat.wants_reply && configuration().find(message.from)) {
        const bool follows = from_primary && leader == message.from && message.term == durable.term;
        const bool with_links = rounds % rounds_between_link_reports == 0;
        HeartbeatReply reply{heartbeat.sent, follows, configuration().version, own_report(with_links), {}, {}};
        add_news(message.from, reply);
        send(message.from, std::move(reply));
        answered_leader = answered_leader || follows;
    }
    compare_configurations(message.from, heartbeat.config_version, heartbeat.wants_reply);
}

// To one that was removed while it was away.  It is the primary's word that ends its membership, which may be a
// server that it does not know.
void Node::Impl::show_configuration(NodeId former) {
    Heartbeat heartbeat = make_heartbeat(former, false);
    heartbeat.configuration = configuration();
    send(former, std::move(heartbeat));
}

void Node::Impl::look_for_primary_among(const std::vector<Member> &members) {
    std::vector<Member> peers = configuration().members;
    for (const Member &member : members)
        if (!configuration().find(member.id)) {
            peers.push_back(member);
            send(member.id, make_heartbeat(member.id, false)); // a link may be up already
        }
    out.push_back(SetPeers{std::move(peers)});
}

void Node::Impl::follow(const Message &message, const Heartbeat &heartbeat) {
    if (message.term > durable.term) {
        adopt_term(message.term);
        if (role == Role::joining)
            become(Role::standby, "admitted by " + name_of(message.from));
    }
    if (acts())
        return; // the same term has one primary: I1 is checked where votes are counted
    if (heartbeat.configuration && heartbeat.configuration->version > configuration().version)
        adopt_configuration(*heartbeat.configuration, true);
    if (role == Role::joining)
        become(Role::standby, "admitted by " + name_of(message.from));
    if (leader != message.from) {
        ballot.reset();
        leader = message.from;
        if (!planted(Bug::rejoin_by_any_lineage))
            leader_lineage.clear();
        forget_divergence();
        become(role == Role::deposed ? Role::deposed : Role::standby, "follows " + name_of(leader));
        trace("follows " + name_of(leader) + " in term " + std::to_string(raw(durable.term)));
    }
    leader_incarnation = message.incarnation;
    leader_gone = false;
    if (!heartbeat.asks_nothing)
        promise();
    if (!heartbeat.lineage.empty())
        leader_lineage = heartbeat.lineage;
    else if (planted(Bug::rejoin_by_any_lineage))
        leader_lineage = {{timeline_of(message.term), Lsn::none}};
    if (heartbeat.lineage_confirmed != Lsn::none) {
        leader_position = heartbeat.lineage_confirmed;
        leader_position_term = message.term;
    }
    if (election_due == never && !ballot)
        schedule_election();
    check_writable();
    consider_gate();
}

// I6: counts from now, the receipt; whatever was begun against this primary is over.
void Node::Impl::promise() {
    ballot.reset();
    ballots_lost = 0;
    promise_void = false;
    ordered_until = long_ago;
    predecessor = NodeId::none;
    clean_stop_until = never;
    promise_until = now + promised_lease();
    schedule_election();
}

// A higher term: whatever we were, we follow nobody until its primary speaks.
void Node::Impl::adopt_term(Term term) {
    if (acts())
        step_down("term " + std::to_string(raw(term)) + " has begun");
    shut_gate();
    durable.term = term;
    durable.voted_for = NodeId::none;
    leader = NodeId::none;
    leader_lineage.clear();
    forget_divergence();
    ballot.reset();
    campaign_after_gate = force_after_gate = false;
    if (role == Role::candidate)
        become(Role::standby, "term " + std::to_string(raw(term)) + " has begun");
    persist();
}

// I8: the newest record that any member shows is the one to go on with.  Admission is the primary's business.
void Node::Impl::consider_configuration(const Configuration &shown, Term shown_in) {
    if (acts() || role == Role::joining || role == Role::passive || shown.version <= configuration().version ||
        shown.version.term > std::max(durable.term, shown_in))
        return;
    if (shown.version.term > durable.term)
        adopt_term(shown.version.term);
    else if (role == Role::candidate && shown.version.term == durable.term)
        lose_ballot("another node has won this term"); // old votes must not be counted by the winner's record
    adopt_configuration(shown, true);
}

void Node::Impl::adopt_configuration(const Configuration &next, bool store) {
    durable.configuration = next;
    stored_versions[durable.self] = next.version;
    table.forget_except(next);
    out.push_back(SetPeers{next.members});
    if (store)
        persist();
    if (!acts())
        apply_sync(); // every standby carries the rule already, so that promotion changes nothing
}

// ---- the gate ------------------------------------------------------------------------------------------

void Node::Impl::shut_gate() {
    gate_open = false;
    gate_shutting = true;
    out.push_back(CloseGate{});
}

// I4: stream only from the primary of the stored term, and only when our WAL is part of its history.
void Node::Impl::consider_gate() {
    if (role != Role::standby || ballot || gate_shutting || settings.kind == MemberKind::witness ||
        leader == NodeId::none || leader == durable.self || leader_lineage.empty() || !local.in_recovery)
        return;
    if (!local.position_known) {
        if (!gate_open)
            reason = "reads its own WAL to the end before it follows " + name_of(leader);
        return;
    }
    if (gate_open && gate_leader == leader)
        return;
    if (data_ahead() && !planted(Bug::diverged_streams)) {
        reason = "its data files need WAL up to " + to_string(local.needed) + " that " + name_of(leader) +
                 " does not have: it has to be cloned anew, once the others are a majority without it";
        consider_rejoin();
        return;
    }
    if ((promoted_by_hand() || !descends_from(local.position, leader_lineage)) && !planted(Bug::diverged_streams)) {
        reason = "has WAL up to " + to_string(local.position) + " that " + name_of(leader) + " does not have: it has to be rewound";
        consider_rejoin();
        return;
    }
    if (planted(Bug::rejoin_undiverged) && local.position.timeline < leader_lineage.back().timeline) {
        consider_rejoin();
        return;
    }
    const Member *upstream = configuration().find(leader);
    if (!upstream)
        return;
    gate_open = true;
    gate_leader = leader;
    forget_divergence();
    stream_ended = false;
    reason = "follows " + name_of(leader);
    out.push_back(OpenGate{leader, durable.term, upstream->postgres});
}

// It was rewound to a primary that died before anybody had all the WAL of the moment that was copied.  Its own WAL
// is the new primary's, but recovery ends the server where that one's timeline begins.
bool Node::Impl::data_ahead() const {
    return local.needed.timeline != Timeline::none && !descends_from(local.needed, leader_lineage);
}

// Half a record at the end of what was received may lie beyond the fork; recovery gives it up by itself, so
// only WAL that is replayed counts.  The wait lets the others read the reason before this node is gone.
void Node::Impl::consider_rejoin() {
    if (local.position != diverged_at) {
        diverged_at = local.position;
        diverged_since = now;
    }
    const Member *upstream = configuration().find(leader);
    const bool settled = local.replayed == local.position.lsn &&
                         now - diverged_since >= heartbeats_diverged * settings.heartbeat_interval;
    if (rejoin_asked || !settled || !upstream)
        return;
    // Cloned from the primary of a later term than this one's, which does not know yet that it is over.
    if (raw(local.position.timeline) > raw(durable.term) && !promoted_by_hand())
        return;
    rejoin_asked = true;
    // Below by_hand the numbers mean the same here and there; pg_rewind compares them, too.
    const bool numbers_shared = promoted_by_hand() && leader_lineage.back().timeline >= durable.by_hand;
    const bool ahead = data_ahead();
    const Position &end = ahead ? local.needed : local.position;
    const Position fork = numbers_shared ? Position{} : fork_of(end, leader_lineage);
    const std::string where = numbers_shared
                                  ? "whose timelines from " + std::to_string(raw(durable.by_hand)) + " on are others"
                              : fork.timeline == Timeline::none
                                  ? "which was never on timeline " + std::to_string(raw(end.timeline))
                                  : "which left that history at " + to_string(fork) + ", " +
                                        std::to_string(raw(end.lsn) - raw(fork.lsn)) + " bytes before";
    out.push_back(Note{role, role, durable.term, local.position,
                       "diverged from " + name_of(leader) + ", " + where +
                           (ahead ? ": its data files need that WAL, it is to be cloned anew" : ": it is to be rewound")});
    out.push_back(Rejoin{leader, name_of(leader), upstream->postgres, durable.term, leader_lineage.back().timeline,
                         ahead ? local.position : fork, local.position, numbers_shared, ahead});
}

void Node::Impl::forget_divergence() {
    diverged_at = {};
    diverged_since = never;
    rejoin_asked = false;
}

// PostgreSQL is open for writes, but this node was not elected: fence it and make it a standby.
void Node::Impl::check_writable() {
    if (local.in_recovery || settings.kind == MemberKind::witness || acts())
        return;
    if (role != Role::standby && role != Role::candidate)
        return;
    ballot.reset();
    become(Role::deposed, "PostgreSQL is writable but this node is not the elected primary: it restarts as standby");
    // I2: on a timeline that it was not elected for, it was promoted by hand.  Its WAL would pass for that of who is, or
    // will be, the primary of that number, so it must not come with a vote.
    const bool elected = local.position.timeline == timeline_of(durable.term) && durable.voted_for == durable.self;
    if (raw(local.position.timeline) >= raw(durable.term) && !elected)
        disown_wal("PostgreSQL was promoted by hand: it restarts as standby, and joins anew");
}

// What lies on our newest timeline no primary has written.  That is kept in the state: later nothing tells it any
// more from the WAL of the primary whose timeline has that number.
void Node::Impl::disown_wal(const std::string &why) {
    durable.by_hand = promoted_by_hand() ? durable.by_hand : local.position.timeline;
    forget_membership(why);
}

// ---- evidence that the primary is gone ---------------------------------------------------------------

void Node::Impl::on_resign(const Message &message, const Resign &resign) {
    if (message.term == durable.term && (message.from == leader || leader == NodeId::none))
        note_resigned({message.term, message.incarnation}, resign.clean, name_of(message.from) + " resigned");
    if (resign.successor == NodeId::none || resigned != Resignation{message.term, message.incarnation})
        return;
    if (resign.successor == durable.self) {
        ordered_until = now + order_holds;
        predecessor = message.from;
    }
    else if (election_due != never) // it is the successor's turn first
        election_due = std::max(election_due, now + successor_first + jitter(successor_first));
}

// Does it say that the primary of our term is gone?  Not if that primary has come back since; and a
// node that restarted does not know which incarnation has its promise (I6).
bool Node::Impl::ends_leadership(const Resignation &which) const {
    if (which.term != durable.term)
        return which.term > durable.term;
    if (leader != NodeId::none)
        return which.incarnation >= leader_incarnation || planted(Bug::old_resignation_counts);
    return promise_until != long_ago || now >= started + promised_lease();
}

void Node::Impl::note_resigned(const Resignation &which, bool clean, const std::string &how) {
    if (which <= resigned || role != Role::standby)
        return;
    resigned = which;
    if (clean && gate_open && local.streaming && !stream_ended) {
        clean_stop_until = now + clean_stop_wait; // its last WAL is still on the way
        return;
    }
    void_promise(how);
}

void Node::Impl::link_up(NodeId peer) {
    connected.insert(peer);
    if (peer == leader)
        leader_gone = false;
    if (role == Role::joining)
        send(peer, JoinRequest{own_member(), settings.system_identifier});
    else if (acts()) // a fresh link need not wait for the next round
        send(peer, make_heartbeat(peer, true));
}

void Node::Impl::peer_gone(NodeId peer) {
    connected.erase(peer);
    if (peer != leader || acts())
        return;
    leader_gone = true;
    consider_evidence();
}

void Node::Impl::stream_end(bool finished) {
    stream_ended = true;
    if (role != Role::standby || leader == NodeId::none)
        return;
    if (finished && clean_stop_until != never) {
        clean_stop_until = never;
        void_promise(name_of(leader) + " stopped cleanly");
        return;
    }
    consider_evidence();
}

// I7: a dead kernel connection counts only where the vote itself, and not time, protects commits.
void Node::Impl::consider_evidence() {
    const bool no_stream = settings.kind == MemberKind::witness || stream_ended || !local.streaming;
    const bool votes_protect = sync_protects() || planted(Bug::evidence_in_async);
    if (role == Role::standby && leader != NodeId::none && leader_gone && no_stream && votes_protect && !promise_void)
        void_promise(name_of(leader) + " is gone: connection refused and its WAL stream has ended");
}

void Node::Impl::void_promise(const std::string &why) {
    if (promise_void)
        return;
    promise_void = true;
    ballots_lost = 0;
    promise_until = now;
    reason = why;
    trace("promise void: " + why);
    if (!ballot)
        schedule_election();
}

// ---- joining --------------------------------------------------------------------------------------------

Member Node::Impl::own_member() const {
    return {durable.self, settings.node_name, settings.kind, false, settings.peer, settings.postgres, settings.priority};
}

void Node::Impl::ask_admission() {
    for (NodeId peer : connected)
        send(peer, JoinRequest{own_member(), settings.system_identifier});
}

void Node::Impl::on_join(const Message &message, const JoinRequest &request) {
    const Member &applicant = request.self;
    if (role != Role::primary) {
        if (leader != NodeId::none && leader != durable.self && leader != message.from && applicant.id == message.from)
            send(leader, request); // passed on: the applicant may not know the primary's address
        return;
    }
    const auto reject = [&](Rejection why) {
        if (message.from == applicant.id) // who merely passed it on is not meant
            send(applicant.id, Rejected{why, message.incarnation});
    };
    if (applicant.kind == MemberKind::data && request.system_identifier != configuration().system_identifier) {
        reject(Rejection::wrong_system);
        return;
    }
    const Member *namesake = configuration().find(applicant.name);
    if (namesake && namesake->id != applicant.id) {
        if (namesake->id == durable.self || liveness(namesake->id, now) != Liveness::unreachable) {
            reject(Rejection::name_in_use);
            return;
        }
        replaced.insert(namesake->id);
    }
    if (!configuration().find(applicant.id) && configuration().members.size() >= settings.members_max) {
        reject(Rejection::cluster_full);
        return;
    }
    if (gossip.at_scale() && configuration().find(applicant.id) && stored_versions[applicant.id] < configuration().version)
        greet(applicant.id, true); // admitted, and does not know it yet
    applicants[applicant.id] = applicant;
    advance_configuration();
}

void Node::Impl::on_rejected(const Message &message, const Rejected &rejected) {
    if (rejected.incarnation != durable.incarnation ||
        (rejected.instance != instance && rejected.instance != Instance::none))
        return; // meant for an earlier run of this node, or for a copy of it
    const std::string why = to_string(rejected.why);
    const std::string refusal = name_of(message.from) + " does not accept this node: " + why;
    switch (rejected.why) {
    case Rejection::name_in_use:
    case Rejection::wrong_system:
    case Rejection::cluster_full:
        if (acts())
            return;
        if (reason.find(why) == std::string::npos)
            out.push_back(Note{role, role, durable.term, local.position, "not admitted: " + why});
        reason = "not admitted: " + why;
        return;
    case Rejection::not_member:
        if (acts() || role == Role::joining || !may_know_members(message))
            return;
        return forget_membership(refusal);
    case Rejection::stale_incarnation:
    case Rejection::cloned_identity: // one who remembers is enough, whatever its term
        if (configuration().cluster != no_cluster)
            forget_membership(refusal);
        return;
    }
}

// Not an old copy of a primary, which does not know whom its successors admitted.  This node's own term may be the
// higher one, if it stood for election after it was removed.
bool Node::Impl::may_know_members(const Message &message) const {
    const auto shown = stored_versions.find(message.from);
    if (shown == stored_versions.end())
        return message.term >= durable.term;
    return shown->second > configuration().version || (shown->second == configuration().version && message.term >= durable.term);
}

// Nobody remembers what a removed member, or a copy, has voted.  As somebody else it has voted for nobody, and no
// question that is still on its way reaches it.
void Node::Impl::forget_membership(const std::string &why) {
    if (acts())
        step_down(why);
    shut_gate();
    durable.self = static_cast<NodeId>(static_cast<std::uint64_t>(jitter(Duration::max()).count()) | 1);
    durable.voted_for = NodeId::none;
    durable.configuration = Configuration{};
    leader = NodeId::none;
    ballot.reset();
    pending_vote.reset();
    campaign_after_gate = false;
    election_due = never;
    persist();
    become(role == Role::deposed ? Role::deposed : Role::joining, why); // deposed: it restarts as a standby first
}

} // namespace pg_ha
