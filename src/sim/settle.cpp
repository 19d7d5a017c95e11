// SPDX-License-Identifier: PostgreSQL
//
// The second phase: faults are over, links are whole.  Within a bounded number of leases somebody must
// acknowledge commits, then all members must agree, stream and be admitted, and then nothing more may
// happen: a calm cluster does not change its primary.
#include "world.hpp"

#include <algorithm>

namespace pg_ha::sim {

namespace {
constexpr int leases_until_writable = 20;
constexpr int leases_until_whole = 60;
constexpr int leases_of_calm = 5;
} // namespace

// A majority that has forgotten who it is, or the loss of the only member that had a commit, is beyond
// help without a person.  Judged by the newest configuration on any disk, and the newest that any worker acts by:
// of a save that failed, and was stored all the same, workers know nothing until they start again.  And where some are
// left out, by what the rest knows.
bool World::quorum_survives(HostSet without) const {
    Configuration stored, acted_by, inside;
    const auto keep_newer = [](Configuration &known, const Configuration &c) {
        if (known.cluster == no_cluster || c.version > known.version)
            known = c;
    };
    for (const std::unique_ptr<Host> &h : hosts_) {
        if (h->disk.state())
            keep_newer(stored, h->disk.state()->configuration);
        if (h->agent())
            keep_newer(acted_by, h->agent()->status().configuration);
        if (h->disk.state() && !(without & host_bit(*h)))
            keep_newer(inside, h->disk.state()->configuration);
    }
    return stored.cluster != no_cluster && could_elect(stored, without) &&
           (acted_by.cluster == no_cluster || could_elect(acted_by, without)) && could_elect(inside, without);
}

// Why the cluster has not settled yet; empty if it has.
std::string World::obstacle(bool wholly) {
    Host *primary = acting_primary();
    if (!primary)
        return "nobody may acknowledge commits";
    if (apart_ & host_bit(*primary))
        return primary->name + " leads though it is cut off";
    if (primary->postgres.last_acknowledged < now() - 3 * options.lease)
        return primary->name + " holds the lease but acknowledges nothing";
    if (!wholly)
        return "";
    if (options.priority[static_cast<std::size_t>(primary->index)] == 0)
        return primary->name + " still stands in";
    const Status truth = primary->agent()->status();
    if (truth.configuration.paused)
        return "elections are paused";
    std::size_t voters = 0;
    for (const std::unique_ptr<Host> &h : hosts_) {
        const std::string found = member_obstacle(*h, *primary, truth);
        if (!found.empty())
            return h->name + ": " + found;
        voters += truth.configuration.is_voter(h->id());
    }
    const std::size_t expected = expected_voters();
    if (truth.configuration.members.size() != hosts_.size())
        return std::to_string(truth.configuration.members.size()) + " members";
    if (voters != expected || truth.configuration.voter_count() != expected)
        return std::to_string(voters) + " live voters of " + std::to_string(truth.configuration.voter_count()) +
               ", expected " + std::to_string(expected);
    const std::size_t data = expected - static_cast<std::size_t>(options.witnesses);
    const std::size_t quorum = std::max(data / 2 + 1, std::min<std::size_t>(data, options.min_sync_standbys + 1));
    if (options.synchronous &&
        (truth.configuration.sync.set.size() != data || truth.configuration.sync.quorum != quorum))
        return "sync rule " + std::to_string(truth.configuration.sync.quorum) + " of " +
               std::to_string(truth.configuration.sync.set.size());
    if (!(primary->postgres.wanted_rule() == truth.configuration.sync)) // a step of which PostgreSQL has the first half
        return "the sync rule is being changed";
    return truth.configuration_in_force ? "" : "configuration is not in force";
}

std::string World::member_obstacle(Host &h, Host &primary, const Status &truth) {
    if (!h.agent())
        return "no worker";
    const Status status = h.agent()->status();
    if (status.primary != primary.id() || status.term != truth.term)
        return std::string("follows somebody else, as ") + to_string(status.role) + ": " + status.reason;
    if (&h == &primary)
        return status.role == Role::primary ? "" : "writes without being primary";
    if (status.role != Role::standby)
        return std::string("is ") + to_string(status.role) + ": " + status.reason;
    if (!h.witness() && (!h.postgres.streaming() || h.postgres.upstream() != primary.index))
        return "does not stream from the primary: " + status.reason;
    return truth.configuration.find(h.id()) ? "" : "is not a member";
}

// For the reader of a stuck seed: what each host thinks.
void World::trace_hosts() {
    for (const std::unique_ptr<Host> &h : hosts_) {
        if (!h->agent()) {
            trace(*h, h->powered ? "no worker" : "no power");
            continue;
        }
        const Status status = h->agent()->status();
        const Configuration &c = status.configuration;
        std::string members;
        for (const Member &member : c.members) {
            const bool counted = std::find(c.sync.set.begin(), c.sync.set.end(), member.id) != c.sync.set.end();
            std::string who = "dead identity of " + member.name;
            for (const std::unique_ptr<Host> &other : hosts_)
                if (other->id() == member.id)
                    who = member.name;
            members += " " + who + (member.voter ? "(voter" : "(learner") + (counted ? ", sync)" : ")");
        }
        trace(*h, std::string(to_string(status.role)) + " at " + to_string(wal.position(h->postgres.wal)) +
                      (h->postgres.in_recovery ? "" : ", writable") + (h->postgres.streaming() ? ", streams" : "") +
                      "; configuration " + std::to_string(raw(c.version.term)) + "." + std::to_string(c.version.index) +
                      ":" + members + "; w " + std::to_string(c.sync.quorum) + "; " + status.reason);
    }
}

bool World::settles_within(Time limit, bool wholly) {
    const Time deadline = now() + limit;
    for (;;) {
        run_until(now() + options.lease / 2);
        if (stopped())
            return false;
        const std::string why = obstacle(wholly);
        if (why.empty())
            return true;
        if (now() >= deadline) {
            if (tracing())
                trace_hosts();
            violation(Outcome::stuck,
                      (wholly ? "L7: not whole after healing: " : "L1: not writable after healing: ") + why);
            return false;
        }
    }
}

void World::separate(HostSet set, bool apart) {
    for (const std::unique_ptr<Host> &a : hosts_)
        for (const std::unique_ptr<Host> &b : hosts_)
            if (((set & host_bit(*a)) != 0) != ((set & host_bit(*b)) != 0))
                for (const Plane plane : {Plane::peers, Plane::replication})
                    apart ? network.cut(plane, a->index, b->index) : network.uncut(plane, a->index, b->index);
    apart_ = apart ? set : 0;
}

std::size_t World::expected_voters() const {
    return static_cast<std::size_t>(options.hosts % 2 == 1 ? options.hosts : options.hosts - 1);
}

// First only as many are whole as can elect somebody, whoever they are: the primary may be among the others.  Not where
// others may be needed all the same: by commits (min_sync_standbys), as the only ones that lag no further than allowed
// (asynchronous), or as voters by a record that is still to come.
bool World::heal_core() {
    Random chance(options.seed ^ 0x2127599BF4325C37ull); // of its own: half of the seeds have nothing of this
    const bool all_vote = std::all_of(hosts_.begin(), hosts_.end(), [&](const std::unique_ptr<Host> &h) {
        return !h->agent() || h->agent()->status().configuration.voter_count() == expected_voters();
    });
    HostSet set = 0;
    if (chance.chance(0.5) && all_vote && options.synchronous && options.min_sync_standbys == 0)
        for (const std::unique_ptr<Host> &h : hosts_)
            if (chance.chance(0.5) && quorum_survives(set | host_bit(*h)))
                set |= host_bit(*h);
    if (set == 0)
        return true;
    separate(set, true);
    for (const std::unique_ptr<Host> &h : hosts_)
        if (tracing() && (set & host_bit(*h)))
            trace(*h, "is still cut off from all that are whole");
    const bool writable = settles_within(leases_until_writable * options.lease, false);
    separate(set, false);
    return writable;
}

void World::liveness_phase() {
    faults_on = false;
    faults.end();
    for (int i = 0; i < 40; i++) { // what is frozen, paused or down comes back by itself
        run_until(now() + options.lease / 2);
        bool all_up = true;
        for (const std::unique_ptr<Host> &h : hosts_)
            all_up &= h->agent() && !h->blocked(Lane::worker);
        if (all_up || stopped())
            break;
    }
    if (stopped())
        return;
    if (!quorum_survives(0)) {
        checkers.statistics.liveness_skipped++;
        return;
    }
    if (!heal_core() || !settles_within(leases_until_writable * options.lease, false) ||
        !settles_within(leases_until_whole * options.lease, true))
        return;
    const BranchId branches = wal.count();
    const Host *primary = acting_primary();
    run_until(now() + leases_of_calm * options.lease);
    if (stopped())
        return;
    if (wal.count() != branches || acting_primary() != primary)
        violation(Outcome::stuck, "L4: the primary changes although nothing happens");
    else if (const std::string why = obstacle(true); !why.empty())
        violation(Outcome::stuck, "L7: a whole cluster falls apart by itself: " + why);
}

} // namespace pg_ha::sim
