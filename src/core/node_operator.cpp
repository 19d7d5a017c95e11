// SPDX-License-Identifier: PostgreSQL
//
// What operators ask of a cluster that works: hand over to another server, no elections for a while,
// forget a member that is gone for good.
//
// Decides when that may be asked for, and carries it out by the ways there are: a switchover is a fence,
// a wait, a resignation and an election; the others are steps of the configuration.  It must never end a
// primary before its successor has all its WAL, and whatever goes wrong before leaves the primary as it was.
#include "node_impl.hpp"

#include <algorithm>

namespace pg_ha {

using std::chrono::milliseconds;
using std::chrono::seconds;

namespace {
constexpr Duration handover_within = seconds(3);        // commits wait so long at the most
constexpr Duration ask_successor_every = milliseconds(5);
constexpr int leases_between_handovers = 10;           // each attempt may cost as much as a switchover that is given up
constexpr unsigned doublings_at_most = 5;              // of the time between them
constexpr Duration wait_for_votes = milliseconds(250);  // that of the old primary may be needed
constexpr std::uint64_t near_bytes = 16 << 20;          // one WAL segment
} // namespace

std::string Node::Impl::obstacle(const Command &command, Instant at) const {
    return std::visit([&](const auto &asked) { return obstacle_to(asked, at); }, command);
}

std::string Node::Impl::obstacle_to_lead(Instant at) const {
    if (role != Role::primary)
        return "this node is not the primary";
    if (handover)
        return "a switchover to " + name_of(handover->successor) + " is under way";
    if (lease_until <= at)
        return "the primary is fenced: " + reason;
    return "";
}

// Empty: this member could take over now.
std::string Node::Impl::cannot_succeed(const Member &member, Instant at) const {
    const MemberTable::Row *row = table.find(member.id);
    if (member.id == durable.self)
        return "is the primary already";
    if (member.kind == MemberKind::witness)
        return "is a witness and has no data";
    if (!member.voter)
        return "is not a voter yet";
    if (member.priority == 0)
        return "has failover_priority 0";
    if (!row || liveness(member.id, at) != Liveness::alive || !answers(member.id))
        return "is not heard";
    const LocalState &theirs = row->report.local;
    if (row->report.role != Role::standby || row->report.term != durable.term || !theirs.streaming ||
        theirs.position.timeline != local.position.timeline)
        return "does not stream from this server";
    if (raw(theirs.position.lsn) + near_bytes < raw(local.position.lsn))
        return "lags " + std::to_string(raw(local.position.lsn) - raw(theirs.position.lsn)) + " bytes behind";
    if (raw(theirs.replayed) + near_bytes < raw(local.position.lsn))
        return "has " + std::to_string(raw(local.position.lsn) - raw(theirs.replayed)) + " bytes of WAL to replay";
    if (!theirs.promotable)
        return "has not replayed what its data files need";
    if (configuration().synchronous && !contains(configuration().sync.set, member.id))
        return "is not in the sync set yet";
    if (const std::string why = why_cannot_follow(settings.parameters, row->report.parameters); !why.empty())
        return "could not be followed by this server: " + why;
    return "";
}

std::string Node::Impl::nobody_can_succeed(Instant at) const {
    std::string all;
    for (const Member &member : configuration().members)
        if (member.id != durable.self)
            all += (all.empty() ? "" : ", ") + member.name + " " + cannot_succeed(member, at);
    return all.empty() ? "there is no other server" : all;
}

NodeId Node::Impl::best_successor(Instant at, NodeId rather_not) const {
    const Member *best = nullptr;
    const auto rank = [&](const Member &m) {
        return std::tuple(m.id != rather_not, m.priority, table.find(m.id)->report.local.position.lsn);
    };
    for (const Member &member : configuration().members)
        if (cannot_succeed(member, at).empty() && (!best || rank(member) > rank(*best)))
            best = &member;
    return best ? best->id : NodeId::none;
}

std::string Node::Impl::obstacle_to(const Switchover &command, Instant at) const {
    if (std::string own = obstacle_to_lead(at); !own.empty())
        return own;
    if (command.target != NodeId::none) {
        const Member *target = configuration().find(command.target);
        const std::string why = target ? cannot_succeed(*target, at) : "is no member";
        if (!why.empty())
            return name_of(command.target) + " " + why;
    } else if (best_successor(at) == NodeId::none) {
        return nobody_can_succeed(at);
    }
    std::set<NodeId> here; // without this node: it restarts, which may take long; nor those on another timeline, which may be rewound
    for (const Member &member : configuration().members)
        if (member.id != durable.self && liveness(member.id, at) == Liveness::alive &&
            (member.kind == MemberKind::witness || table.find(member.id)->report.local.position.timeline == local.position.timeline))
            here.insert(member.id);
    return wins_election(configuration(), here) ? "" : "not enough voters besides this server follow it to elect a successor";
}

std::string Node::Impl::obstacle_to(const SetPaused &, Instant at) const { return obstacle_to_lead(at); }

std::string Node::Impl::obstacle_to(const RemoveMember &command, Instant at) const {
    if (std::string own = obstacle_to_lead(at); !own.empty())
        return own;
    const Member *member = configuration().find(command.member);
    if (!member)
        return "no member has that identity";
    if (member->id == durable.self)
        return member->name + " is the primary: switch over first";
    if (liveness(member->id, at) != Liveness::unreachable || at < started + promised_lease())
        return member->name + " was heard a moment ago, and would ask to be admitted again: stop it first, and wait one lease";
    const SyncRule &sync = configuration().sync;
    if (contains(sync.set, member->id) && sync.set.size() <= settings.min_sync_standbys + 1u)
        return "commits wait for " + member->name + ", because min_sync_standbys = " + std::to_string(settings.min_sync_standbys) +
               ": lower that first";
    return "";
}

std::string Node::Impl::obstacle_to(const StandByOrder &, Instant at) const {
    if (!configuration().paused)
        return "elections are not paused: a primary is elected without an order";
    if (!promise_void && at < promise_until && leader != NodeId::none)
        return "this node has heard " + name_of(leader) + " less than one lease ago";
    if (role != Role::standby || !is_voter() || settings.kind != MemberKind::data)
        return "this node may not become the primary";
    if (!local.position_known || !local.promotable)
        return "this node has not replayed its own WAL";
    if (local.opening)
        return "this node is still being promoted for an earlier term: try again in a moment";
    if (lags(local.position))
        return "this node lacks more of the last primary's WAL than max_lag_on_failover allows to lose";
    if (settings.priority == 0 && !stands_in(at))
        return "this node has failover_priority 0, and no WAL that others lack";
    std::set<NodeId> able{durable.self};
    for (const Member &member : configuration().members) {
        const MemberTable::Row *row = table.find(member.id);
        if (member.id == durable.self || !row || liveness(member.id, at) != Liveness::alive)
            continue;
        if (member.voter && member.kind == MemberKind::data && row->report.local.position_known && row->report.local.position > local.position)
            return member.name + " has more WAL: call it there";
        able.insert(member.id);
    }
    return wins_election(configuration(), able) ? "" : "not enough voters are heard for an election";
}

void Node::Impl::obey(const Command &command) {
    if (const std::string why = obstacle(command, now); !why.empty()) {
        trace("an operator's command is refused: " + why);
        return;
    }
    if (const auto *switchover = std::get_if<Switchover>(&command)) {
        begin_handover(switchover->target != NodeId::none ? switchover->target : best_successor(now), "by an operator's order");
    } else if (const auto *pause = std::get_if<SetPaused>(&command)) {
        pause_wanted = pause->paused;
        advance_configuration();
    } else if (const auto *removal = std::get_if<RemoveMember>(&command)) {
        unwanted.insert(removal->member);
        advance_configuration();
    } else {
        order = {true, "", NodeId::none};
        ordered_until = now + order_holds;
        ballots_lost = 0;
        election_due = now;
    }
}

void Node::Impl::begin_handover(NodeId to, const std::string &why) {
    handover = Handover{to, now, now + handover_within, now, {}, why};
    reason = "hands over to " + name_of(to) + " " + why + ": commits wait";
    out.push_back(Note{role, role, durable.term, local.position, reason});
    update_lease();
    ask_successor();
}

// Its heartbeats are too far apart for a wait in which nobody may commit.
void Node::Impl::ask_successor() {
    asked(handover->successor);
    send(handover->successor, make_heartbeat(handover->successor, true));
    handover->ask_due = now + ask_successor_every;
}

// Nothing is acknowledged since the handover began.  Once the successor has said that it has, and has replayed, what was
// flushed here by then, the term ends by its own primary's word.  Transactions that run on write on; what they write
// beyond is no commit, and this node is rewound for it.
void Node::Impl::consider_handover() {
    if (!handover)
        return;
    if (role != Role::primary) {
        handover.reset();
        return;
    }
    const Handover h = *handover;
    const MemberTable::Row *row = table.find(h.successor);
    const Member *member = configuration().find(h.successor);
    if (!row || !member || row->report.role != Role::standby || liveness(h.successor, now) == Liveness::unreachable)
        return give_up_handover("it is gone");
    const LocalState &theirs = row->report.local;
    const bool has_all = h.needs && h.answered && theirs.position.timeline == local.position.timeline && theirs.position.lsn >= *h.needs &&
                         theirs.replayed >= *h.needs;
    if (!has_all && !planted(Bug::handover_without_wait)) {
        if (now >= h.give_up)
            give_up_handover(h.answered ? "it has not replayed all WAL in time" : "it has not answered in time");
        return;
    }
    send_members(Resign{false, h.successor});
    send(h.successor, StandNow{});
    step_down("handed over to " + name_of(h.successor) + " " + h.why);
    demote_at = now + wait_for_votes;
}

void Node::Impl::give_up_handover(const std::string &why) {
    reason = "switchover to " + name_of(handover->successor) + " given up, " + why + ": goes on as primary";
    handover.reset();
    out.push_back(Note{role, role, durable.term, local.position, reason});
    update_lease();
}

// Who has priority 0 and leads all the same, because nobody else had its WAL, or an operator forced it or has changed the
// setting since, does so until another can.  One that never has replayed all, because of a long query, say, shall not cost
// commits a wait again and again: ever more seldom, and with another one first if there is one.
void Node::Impl::end_stand_in() {
    if (configuration().paused || !obstacle(Switchover{}, now).empty())
        return;
    hand_over_due = now + leases_between_handovers * promised_lease() * (1 << std::min(handovers_begun++, doublings_at_most));
    handed_over_to = best_successor(now, handed_over_to);
    begin_handover(handed_over_to, "because its failover_priority is 0");
}

// What it compared was up to a heartbeat old.  An election later, when nobody waits for it any more, would surprise.
void Node::Impl::end_order(const std::string &why, NodeId ahead) {
    order = {false, why, ahead};
    ordered_until = long_ago;
    out.push_back(Note{role, role, durable.term, local.position, "an operator's order to stand has ended: " + why});
}

void Node::Impl::stand_now() {
    if (role == Role::standby && !ballot && may_stand())
        election_due = now;
}

} // namespace pg_ha
