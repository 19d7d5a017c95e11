// SPDX-License-Identifier: PostgreSQL
//
// The order of steps: sync rule first (durability), then who leaves, who comes, who votes.
#include "membership.hpp"
#include "planted.hpp"
#include "quorum.hpp"

#include <algorithm>
#include <utility>

namespace pg_ha {

namespace {

// S shall be all data voters that stay and are not lost; nothing in asynchronous mode.  Of the lost members of
// S so many stay that min_sync_standbys is kept: then commits wait for them, or for others to come in.
std::vector<NodeId> wanted_set(const Configuration &current, const MembershipFacts &facts) {
    std::vector<NodeId> set, lost;
    if (!facts.synchronous)
        return set;
    std::size_t counted = 0;
    for (const Member &member : current.members) {
        if (!member.voter || member.kind != MemberKind::data || facts.replaced.contains(member.id))
            continue;
        const bool counts = contains(current.sync.set, member.id);
        if (!facts.lost.contains(member.id)) {
            set.push_back(member.id);
            counted += counts;
        } else if (counts) {
            lost.push_back(member.id);
        }
    }
    for (NodeId id : lost)
        if (counted < facts.min_sync_standbys + 1u) {
            set.push_back(id);
            ++counted;
        }
    return set;
}

std::string why_lost(const MembershipFacts &facts, NodeId id) {
    auto it = facts.lost.find(id);
    return it == facts.lost.end() ? "" : ": " + it->second;
}

std::optional<MembershipStep> sync_step(const Configuration &current, const MembershipFacts &facts) {
    const SyncRule &now = current.sync;
    const std::vector<NodeId> wanted = wanted_set(current, facts);
    MembershipStep step{current, false, ""};
    SyncRule &next = step.next.sync;

    if (wanted.empty()) {
        if (now.set.empty())
            return std::nullopt;
        if (now.quorum > 1) {
            --next.quorum;
            step.reason = "synchronous mode ends: write quorum lowered";
        } else {
            next.set.clear();
            step.reason = "synchronous mode ends: sync set emptied";
        }
        return step;
    }
    if (now.set.empty()) { // the primary alone counts: what it has, it has
        next = SyncRule{{facts.self}, 1};
        step.reason = "synchronous mode begins";
        return step;
    }
    const auto staying = static_cast<std::size_t>(
        std::count_if(now.set.begin(), now.set.end(), [&](NodeId id) { return contains(wanted, id); }));
    // Only as far as there are members to meet it: one that is gone would stop all writes, and gaining another
    // is the way on.
    const auto present = static_cast<std::size_t>(
        std::count_if(now.set.begin(), now.set.end(), [&](NodeId id) { return facts.ready.contains(id); }));
    const std::size_t quorum = write_quorum(staying, facts.min_sync_standbys);
    if (now.quorum < quorum && now.quorum < present) {
        ++next.quorum;
        step.postgres_first = !planted(Bug::raise_w_in_record_first);
        step.reason = "write quorum raised to " + std::to_string(next.quorum);
        return step;
    }
    // S first, then w: those who leave acknowledge nothing anyway, while each step down of w with them still
    // in S would ask one more member of S to answer an election.
    if (now.quorum > quorum && (staying == now.set.size() || now.quorum > staying)) {
        --next.quorum;
        step.postgres_first = planted(Bug::lower_w_in_postgres_first);
        step.reason = "write quorum lowered to " + std::to_string(next.quorum);
        const char *separator = ": ";
        for (NodeId id : now.set)
            if (!contains(wanted, id) && facts.lost.contains(id))
                step.reason += std::exchange(separator, ", ") + current.find(id)->name + " is " + facts.lost.at(id);
        return step;
    }
    if (staying < now.set.size()) {
        auto leaving = std::find_if(next.set.begin(), next.set.end(), [&](NodeId id) { return !contains(wanted, id); });
        const Member *member = current.find(*leaving);
        step.reason = "sync set loses " + (member ? member->name : std::string("a removed member")) + why_lost(facts, *leaving);
        step.postgres_first = !planted(Bug::leave_in_record_first);
        next.set.erase(leaving);
        return step;
    }
    for (NodeId id : wanted) {
        if (contains(now.set, id) || (!facts.ready.contains(id) && !planted(Bug::enter_not_caught_up)))
            continue;
        next.set.push_back(id);
        std::sort(next.set.begin(), next.set.end());
        step.reason = "sync set gains " + current.find(id)->name;
        return step;
    }
    return std::nullopt;
}

std::optional<MembershipStep> removal_step(const Configuration &current, const MembershipFacts &facts) {
    for (NodeId id : facts.replaced) {
        const Member *member = current.find(id);
        if (!member || id == facts.self || contains(current.sync.set, id))
            continue;
        MembershipStep step{current, false,
                            member->name + (facts.unwanted.contains(id) ? " is removed by an operator"
                                                                        : " is removed: a node of that name with a new identity asks")};
        std::erase_if(step.next.members, [&](const Member &m) { return m.id == id; });
        return step;
    }
    return std::nullopt;
}

std::optional<MembershipStep> admission_step(const Configuration &current, const MembershipFacts &facts) {
    for (const auto &[id, applicant] : facts.applicants) {
        MembershipStep step{current, false, ""};
        auto &members = step.next.members;
        auto it = std::find_if(members.begin(), members.end(), [&, id = id](const Member &m) { return m.id == id; });
        if (it != members.end()) {
            Member changed = applicant;
            changed.voter = it->voter;
            changed.name = it->name;
            changed.kind = it->kind;
            if (changed == *it)
                continue;
            *it = changed;
            step.reason = changed.name + " has a new address or priority";
            return step;
        }
        if (current.find(applicant.name) || members.size() >= facts.members_max)
            continue;
        Member learner = applicant;
        learner.voter = false;
        members.push_back(learner);
        std::sort(members.begin(), members.end(), [](const Member &a, const Member &b) { return a.id < b.id; });
        step.reason = learner.name + " is admitted as learner";
        return step;
    }
    return std::nullopt;
}

// Learners that may vote now, data nodes first.  A witness stands in for a data node that is missing to make the
// count odd, so there are always more data voters than witnesses: votes without data behind them make a majority
// that cannot lead, and take one from those that can.
std::vector<NodeId> ready_to_vote(const Configuration &current, const MembershipFacts &facts) {
    std::vector<NodeId> ready;
    int lead = 0; // of data voters over witnesses that vote
    for (const Member &member : current.members)
        if (member.voter && !facts.replaced.contains(member.id))
            lead += member.kind == MemberKind::data ? 1 : -1;
    for (const MemberKind kind : {MemberKind::data, MemberKind::witness})
        for (const Member &member : current.members) {
            if (member.kind != kind || member.voter || facts.replaced.contains(member.id) ||
                !facts.caught_up.contains(member.id) || (kind == MemberKind::witness && lead < 2))
                continue;
            lead += kind == MemberKind::data ? 1 : -1;
            ready.push_back(member.id);
        }
    return ready;
}

// One voter at a time, but only on the way to an odd number: from an odd count two must be ready.
std::optional<MembershipStep> voter_step(const Configuration &current, const MembershipFacts &facts) {
    const std::vector<NodeId> ready = ready_to_vote(current, facts);
    const bool odd = current.voter_count() % 2 == 1;
    if (ready.size() < (odd ? 2u : 1u))
        return std::nullopt;
    MembershipStep step{current, false, ""};
    for (Member &member : step.next.members)
        if (member.id == ready.front()) {
            member.voter = true;
            step.reason = member.name + " becomes a voter";
        }
    return step;
}

} // namespace

SyncRule first_rule(const SyncRule &before, NodeId winner, const std::set<NodeId> &answered,
                    const std::set<NodeId> &equal, unsigned min_sync_standbys) {
    SyncRule all = before; // the winner counts as one of the w, so it must be in S; the same w of more members is safe
    if (all.set.empty() || planted(Bug::winner_outside_sync_set))
        return all;
    if (!contains(all.set, winner))
        all.set.insert(std::lower_bound(all.set.begin(), all.set.end(), winner), winner);
    SyncRule there;
    std::size_t have = 0;
    for (NodeId id : all.set)
        if (id == winner || answered.contains(id)) {
            there.set.push_back(id);
            have += id == winner || equal.contains(id) || planted(Bug::first_record_unsafe);
        }
    const std::size_t quorum = write_quorum(there.set.size(), min_sync_standbys);
    const bool enough = there.set.size() >= all.quorum && !planted(Bug::first_record_unsafe);
    if (enough || there.set.size() < min_sync_standbys + 1u || have < quorum)
        return all;
    there.quorum = static_cast<std::uint16_t>(quorum);
    return there;
}

std::optional<MembershipStep> next_step(const Configuration &current, const MembershipFacts &facts) {
    if (current.synchronous != facts.synchronous) {
        MembershipStep step{current, false, facts.synchronous ? "synchronous mode asked for" : "asynchronous mode asked for"};
        step.next.synchronous = facts.synchronous;
        return step;
    }
    if (facts.paused && *facts.paused != current.paused) {
        MembershipStep step{current, false, *facts.paused ? "elections are paused by an operator" : "elections go on"};
        step.next.paused = *facts.paused;
        return step;
    }
    if (current.voter_count() % 2 == 0) // two voters can lose none: not a moment longer than needed
        if (auto step = voter_step(current, facts))
            return step;
    if (auto step = sync_step(current, facts))
        return step;
    if (auto step = removal_step(current, facts))
        return step;
    if (auto step = admission_step(current, facts))
        return step;
    return voter_step(current, facts);
}

} // namespace pg_ha
