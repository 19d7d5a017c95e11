// SPDX-License-Identifier: PostgreSQL
//
// The snapshot for people: the same facts for SQL, log and tools, and in words why a failover would
// not be possible now.
#include "node_impl.hpp"

#include <algorithm>

namespace pg_ha {

Status Node::Impl::status(Instant at) const {
    Status status;
    status.self = durable.self;
    status.role = role;
    status.term = durable.term;
    status.primary = acts() ? durable.self : leader;
    status.lease_until = lease_until;
    status.handing_over = handover.has_value();
    status.order = order;
    status.order.holds = order_stands(at);
    status.configuration = configuration();
    status.configuration_in_force = acts() ? record_in_force : leader != NodeId::none;
    status.reason = reason_now(at);
    std::set<NodeId> heard;
    const Lsn primary_lsn = role == Role::primary ? local.position.lsn : leader_position;
    for (const Member &member : configuration().members) {
        MemberStatus row;
        row.member = member;
        row.self = member.id == durable.self;
        row.is_primary = member.id == status.primary;
        row.in_sync_set = contains(configuration().sync.set, member.id);
        if (row.self) {
            row.report.id = durable.self;
            row.report.incarnation = durable.incarnation;
            row.report.instance = instance;
            row.report.saves = durable.saves;
            row.report.role = role;
            row.report.term = durable.term;
            row.report.local = local;
            row.report.reason = status.reason;
            row.report.parameters = settings.parameters;
            row.report.links = table.links(configuration(), durable.self, at);
            row.liveness = Liveness::alive;
            row.last_heard = Duration{0};
        } else if (const MemberTable::Row *known = table.find(member.id)) {
            row.report = known->report;
            row.report.saves = known->run.saves;
            row.liveness = liveness(member.id, at);
            row.last_heard = known->heard == long_ago ? Duration{-1} : at - known->heard;
        }
        if (member.kind == MemberKind::data && primary_lsn != Lsn::none && row.report.local.position.lsn != Lsn::none)
            row.lag_bytes = std::max<std::int64_t>(
                0, static_cast<std::int64_t>(raw(primary_lsn)) - static_cast<std::int64_t>(raw(row.report.local.position.lsn)));
        if (row.liveness == Liveness::alive)
            heard.insert(member.id);
        status.members.push_back(std::move(row));
    }
    std::sort(status.members.begin(), status.members.end(),
              [](const MemberStatus &a, const MemberStatus &b) { return a.member.name < b.member.name; });
    tell_rejoins(status);
    warn_of_parameters(status);
    status.quorum = !configuration().members.empty() && has_majority(configuration(), heard);
    status.failover_reason = failover_obstacle(at);
    status.failover_possible = status.failover_reason.empty();
    return status;
}

// A member that is down while its helper works says nothing itself.
void Node::Impl::tell_rejoins(Status &status) const {
    const auto primary = std::find_if(status.members.begin(), status.members.end(),
                                      [](const MemberStatus &row) { return row.is_primary && row.liveness == Liveness::alive; });
    if (primary == status.members.end())
        return;
    const std::vector<RejoinSeen> seen = primary->self ? rejoins : primary->report.rejoins;
    for (const RejoinSeen &rejoin : seen)
        for (MemberStatus &row : status.members)
            if (row.member.id == rejoin.member && row.liveness != Liveness::alive)
                row.report.reason = std::string("is being ") + (rejoin.clone ? "cloned anew" : "rewound") +
                                    (rejoin.total_mb == 0 ? "" : ": " + std::to_string(rejoin.percent) + " % of " +
                                                                     std::to_string(rejoin.total_mb) + " MB");
}

// Who could not follow which other data node, if that is the primary or became it?  Added to what each says itself.
void Node::Impl::warn_of_parameters(Status &status) const {
    for (MemberStatus &row : status.members) {
        std::string warning;
        bool of_primary = false;
        for (const MemberStatus &other : status.members) {
            if (other.member.id == row.member.id || other.member.kind != MemberKind::data ||
                (other.member.priority == 0 && !other.is_primary))
                continue;
            const std::string why = why_cannot_follow(row.report.parameters, other.report.parameters);
            if (why.empty() || of_primary)
                continue;
            of_primary = other.is_primary;
            warning = (of_primary ? "cannot follow " : "could not follow ") + other.member.name +
                      (of_primary ? "" : " as primary") + ": " + why + ": raise it and restart this server";
        }
        if (row.self) {
            status.alarm = warning;
            status.cannot_follow = of_primary;
        }
        if (!warning.empty())
            row.report.reason += (row.report.reason.empty() ? "" : "; ") + warning;
    }
}

// Would the voters that this node hears elect another primary if the present one died now?
std::string Node::Impl::failover_obstacle(Instant at) const {
    if (role == Role::passive)
        return "no cluster yet: run SELECT ha_bootstrap() on the first server";
    if (role == Role::joining)
        return reason.empty() ? "this node waits to be admitted" : reason;
    const NodeId primary = acts() ? durable.self : leader;
    const bool silent = primary == NodeId::none || (!acts() && (promise_void || at >= promise_until));
    if (configuration().paused && !silent)
        return "elections are paused: SELECT ha_resume() on the primary ends that";
    if (configuration().paused) {
        const std::string why_not = obstacle_to(StandByOrder{}, at);
        return "elections are paused and there is no primary: " +
               (why_not.empty() ? "SELECT ha_failover() makes this server one" : why_not);
    }
    if (primary == NodeId::none)
        return why_no_primary(at);
    if (configuration().voter_count() < 3)
        return std::string("automatic failover needs three voters, there ") +
               (configuration().voter_count() == 1 ? "is 1" : "are 2") + ": add a server or a witness" +
               (silent ? way_on_alone(at, "") : "");
    std::map<NodeId, Position> able; // who could vote, with the WAL that it has
    std::string missing;
    Position best;                   // of those who could stand
    bool somebody = false;           // among them one that may lead for good
    for (const Member &member : configuration().members) {
        if (!member.voter || member.id == primary)
            continue;
        const bool self = member.id == durable.self;
        const MemberTable::Row *row = table.find(member.id);
        const LocalState &state = self ? local : row ? row->report.local : LocalState{};
        const bool alive = self || liveness(member.id, at) == Liveness::alive;
        const bool witness = member.kind == MemberKind::witness;
        if (!alive || (!witness && !(state.position_known && state.in_recovery))) {
            missing += (missing.empty() ? "" : ", ") + member.name + (alive ? " (not ready)" : " (not heard)");
            continue;
        }
        able[member.id] = witness ? Position{} : state.position;
        if (witness || !state.streaming)
            continue;
        best = std::max(best, state.position);
        somebody |= member.priority > 0;
    }
    std::set<NodeId> would_vote;
    for (const auto &[id, position] : able)
        if (position <= best || best == Position{})
            would_vote.insert(id);
        else // it streams nothing and yet has more: it would refuse everybody, and can't lead
            missing += (missing.empty() ? "" : ", ") + name_of(id) + " (has other WAL)";
    if (!has_majority(configuration(), would_vote))
        return "not enough voters without the primary: missing " + missing;
    if (!wins_election(configuration(), would_vote))
        return "no other node is sure to have every commit: " + outside_sync_set(would_vote);
    if (!somebody)
        return "no voter that may become primary receives WAL";
    return "";
}

// Whom an election lacks, among those whom this node hears; empty: it can be held.
std::string Node::Impl::lacks_for_election(Instant at) const {
    std::set<NodeId> able;
    bool somebody = settings.kind == MemberKind::data && (settings.priority > 0 || may_stand()); // who may lead
    std::string ruled_out;
    for (const Member &member : configuration().members) {
        const bool self = member.id == durable.self;
        const MemberTable::Row *row = table.find(member.id);
        const LocalState &state = self ? local : row ? row->report.local : LocalState{};
        const bool data = member.kind == MemberKind::data;
        if ((!self && liveness(member.id, at) != Liveness::alive) || (data && !(state.position_known && state.in_recovery)))
            continue;
        able.insert(member.id);
        somebody |= data && !self && member.priority > 0;
        if (data)
            ruled_out += (ruled_out.empty() ? "" : ", ") + member.name;
    }
    const bool enough_voters = has_majority(configuration(), able);
    if (enough_voters && wins_election(configuration(), able))
        return somebody ? "" : "there is no primary: nobody who is heard may lead, because of failover_priority 0: " + ruled_out;
    std::string missing;
    for (const Member &member : configuration().members)
        if (!able.contains(member.id) && (enough_voters ? contains(configuration().sync.set, member.id) : member.voter))
            missing += (missing.empty() ? "" : ", ") + member.name +
                       (member.id == durable.self ? " (reads its own WAL)" : "");
    return (enough_voters ? "there is no primary: nobody who is heard is sure to have every commit: missing "
                          : "there is no primary, and no majority of the voters: missing ") + missing + way_on_alone(at, "");
}

// `reason` is of the last decision; of a silence that leads to none people are told, too.
std::string Node::Impl::reason_now(Instant at) const {
    if (role == Role::primary && fenced_noted)
        return reason + way_on_alone(at, "restart this server, wait for one lease, then ");
    if (role == Role::standby && local.opening)
        return "PostgreSQL is still being promoted for an earlier term: this node stands for no other meanwhile";
    if (role == Role::standby && leader != NodeId::none && (promise_void || at >= promise_until))
        if (const std::string way_on = way_on_alone(at, ""); !way_on.empty())
            return "there is no primary: " + name_of(leader) + " is not heard" + way_on;
    return reason;
}

// Fewer than three voters elect nobody when one of them is gone: only a person can go on, and know whether it is.
std::string Node::Impl::way_on_alone(Instant at, const std::string &before_that) const {
    const std::string gone = missing_voters(at);
    if (settings.kind == MemberKind::witness || configuration().voter_count() >= 3 || gone.empty())
        return "";
    return "; if " + gone + " is gone for good, " + before_that + "SELECT ha_failover(accept_data_loss => true) here";
}

// Is an election under way, or what does it lack?
std::string Node::Impl::why_no_primary(Instant at) const {
    const std::string lack = lacks_for_election(at);
    return lack.empty() ? "there is no primary at the moment" : lack;
}

// A standby that can do nothing but wait says for whom: to people, to the log, to the others.
void Node::Impl::note_waits() {
    if (role != Role::standby || leader != NodeId::none || now < started + promised_lease())
        return waits_noted.clear();
    const std::string lack = lacks_for_election(now);
    if (lack.empty())
        return waits_noted.clear();
    reason = "waits: " + lack;
    if (reason == waits_noted)
        return;
    waits_noted = reason;
    out.push_back(Note{role, role, durable.term, local.position, reason});
}

// Which standbys would have to catch up, so that a majority without the primary can know every commit.
std::string Node::Impl::outside_sync_set(const std::set<NodeId> &would_vote) const {
    std::string counted, behind;
    for (const Member &member : configuration().members) {
        const bool in_set = contains(configuration().sync.set, member.id);
        if (in_set)
            counted += (counted.empty() ? "" : ", ") + member.name;
        if (member.voter && member.kind == MemberKind::data && !(in_set && would_vote.contains(member.id)) &&
            member.id != (acts() ? durable.self : leader))
            behind += (behind.empty() ? "" : ", ") + member.name;
    }
    return "the sync set is " + counted + "; " + (behind.empty() ? "a standby" : behind) +
           " must stream and catch up first";
}

} // namespace pg_ha
