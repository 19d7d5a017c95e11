// SPDX-License-Identifier: PostgreSQL
//
// What an operator may override: ha_failover(accept_data_loss => true) makes a standby the primary
// where no election can be won, because too many voters, or too many members of S, are gone for good.
//
// Decides when that may be asked for and what it costs.  It must never depose a primary that is heard,
// never replace an election that can be won, and never promote a node while one that has more WAL is
// heard.  It cannot know whether a primary that is not heard still runs: that is what the operator
// answers for.  The new term lies well above those that members out of sight may reach by elections, so
// that whoever of them comes back is deposed by this one (docs/protocol.md, "What an operator may override").
#include "node_impl.hpp"

#include <algorithm>

namespace pg_ha {

namespace {
// Elections that members out of sight may hold before they are heard again; and chance, so that two
// operators who force two nodes that don't hear each other don't make two primaries of one term.
constexpr std::uint32_t terms_skipped = 16;
constexpr std::int64_t terms_of_chance = 48;

bool leads(Role role) { return role == Role::promoting || role == Role::primary; }
} // namespace

// Empty: what concerns this node alone does not stand in the way.
std::string Node::Impl::own_obstacle_to_force(Instant at) const {
    if (acts())
        return "this node is the primary";
    if (settings.kind == MemberKind::witness || !is_member())
        return "this node is no data node of the cluster";
    if (role != Role::standby || !local.in_recovery)
        return std::string("this node is ") + to_string(role) + ", not a standby: try again in a moment";
    if (!local.position_known)
        return "this node has not read its own WAL to the end";
    if (local.opening)
        return "this node is still being promoted for an earlier term: try again in a moment";
    if (!local.promotable)
        return "this node's data files need more WAL than there is here: it cannot be opened for writes";
    if (!promise_void && at < promise_until && leader != NodeId::none)
        return "this node has heard " + name_of(leader) + " less than one lease ago";
    if (at < started + promised_lease())
        return "this node was started less than one lease ago and cannot know yet whether there is a primary";
    return "";
}

std::string Node::Impl::forced_obstacle(Instant at) const {
    if (std::string own = own_obstacle_to_force(at); !own.empty())
        return own;
    std::set<NodeId> able{durable.self};
    bool candidate = may_stand();
    for (const Member &member : configuration().members) {
        const MemberTable::Row *row = table.find(member.id);
        if (member.id == durable.self || !row)
            continue;
        const Liveness seen = liveness(member.id, at);
        const LocalState &theirs = row->report.local;
        if (leads(row->report.role) && seen != Liveness::unreachable)
            return member.name + " is the primary and was heard less than one lease ago";
        if (seen != Liveness::alive)
            continue;
        const bool data = member.kind == MemberKind::data;
        if (data && theirs.position_known && theirs.position > local.position)
            return member.name + " has more WAL (up to " + to_string(theirs.position) + ", here up to " +
                   to_string(local.position) + "): let that one take over";
        if (!data || (theirs.position_known && theirs.in_recovery))
            able.insert(member.id);
        candidate |= data && member.voter && member.priority > 0;
    }
    if (candidate && wins_election(configuration(), able))
        return configuration().paused ? "elections are paused, and nothing has to be lost: call ha_failover() without accept_data_loss"
                                      : "the voters that are here can elect a primary by themselves";
    return "";
}

std::string Node::Impl::missing_voters(Instant at) const {
    std::string names;
    for (const Member &member : configuration().members)
        if (member.voter && member.id != durable.self && liveness(member.id, at) != Liveness::alive)
            names += (names.empty() ? "" : ", ") + member.name;
    return names;
}

// What the operator accepts, in words.
std::string Node::Impl::forced_price() const {
    const SyncRule &sync = configuration().sync;
    const bool has_all = contains(sync.set, durable.self) && sync.quorum >= sync.set.size() && configuration().synchronous;
    std::string price = has_all ? "this node has every acknowledged commit, as far as it knows (configuration " +
                                      std::to_string(raw(configuration().version.term)) + "." +
                                      std::to_string(configuration().version.index) + ")"
                                : "acknowledged commits after " + to_string(local.position) + " are lost";
    if (!has_all && leader_position > local.position.lsn)
        price += ", of which there are some: a primary was last known to be at " + to_string(leader_position);
    std::string others;
    for (const Member &member : configuration().members)
        if (member.kind == MemberKind::data && member.id != durable.self)
            others += (others.empty() ? "" : ", ") + member.name;
    if (!others.empty())
        price += "; what " + others + " may have acknowledged since, or goes on acknowledging while it cannot reach this node, is lost too";
    return price;
}

void Node::Impl::force_failover() {
    if (const std::string obstacle = forced_obstacle(now); !obstacle.empty()) {
        trace("forced failover refused: " + obstacle);
        return;
    }
    ballot.reset();
    election_due = never;
    force_after_gate = true; // what is lost begins at a position that can't move any more
    shut_gate();
}

// The gate is shut.  All in one record, stored at once: term, own vote, and a configuration in which this
// node alone votes.  The others stay members, as learners, and are told when they are heard again.
void Node::Impl::take_over() {
    if (const std::string obstacle = forced_obstacle(now); !obstacle.empty()) {
        trace("forced failover refused: " + obstacle);
        schedule_election();
        consider_gate();
        return;
    }
    const auto chance = static_cast<std::uint32_t>(jitter(Duration(terms_of_chance)).count());
    const std::uint32_t newest = std::max(raw(durable.term), raw(local.position.timeline));
    out.push_back(Note{role, role, durable.term, local.position, "FORCED FAILOVER by an operator: " + forced_price()});
    durable.term = static_cast<Term>(newest + terms_skipped + chance);
    durable.voted_for = durable.self;
    durable.by_hand = Timeline::none; // whoever wrote this WAL, the operator chooses it
    Configuration &record = durable.configuration;
    for (Member &member : record.members)
        member.voter = member.id == durable.self;
    record.sync = record.synchronous ? SyncRule{{durable.self}, 1} : SyncRule{};
    win("took over by force");
}

} // namespace pg_ha
