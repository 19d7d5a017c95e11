// SPDX-License-Identifier: PostgreSQL
//
// One cluster under one kind of conditions, from its start to its figures.
#include "experiment.hpp"

#include <algorithm>

namespace pg_ha::gossip_scale {

using std::chrono::milliseconds;
using std::chrono::seconds;

namespace {

constexpr Duration look_every = milliseconds(10);
constexpr Duration warm_up_at_most = seconds(120);
constexpr Duration settling = seconds(10);
constexpr Duration detected_within = seconds(60);

double in_seconds(Duration d) { return std::chrono::duration<double>(d).count(); }

Spread spread(std::vector<double> samples) {
    if (samples.empty())
        return {};
    std::sort(samples.begin(), samples.end());
    return {samples[samples.size() / 2], samples.back()};
}

// Everybody has heard of everybody, and nobody is doubted.
bool at_rest(Cluster &cluster) {
    for (std::size_t i = 0; i < cluster.size(); ++i)
        for (std::size_t j = 0; j < cluster.size(); ++j)
            if (i != j) {
                const MemberReport *report = cluster.host(i).node().report(cluster.host(j).id());
                if (!report || report->id == NodeId::none)
                    return false;
            }
    return true;
}

void watch(Cluster &cluster, const Plan &plan, Figures &out) {
    std::vector<Traffic> before;
    for (std::size_t i = 0; i < cluster.size(); ++i)
        before.push_back(cluster.host(i).traffic);
    const auto members = static_cast<double>(cluster.size());
    const Duration time = std::max<Duration>(seconds(10), Duration(static_cast<std::int64_t>(plan.watched_hours * 3600e9 / members)));
    const double hours = in_seconds(time) / 3600 * members;
    std::size_t raised = 0, of_sound = 0, unreachable = 0, looks = 0, leased = 0;
    cluster.doubted = [&](const Host &, const Host &target, const Doubted &doubt, bool newly) {
        if (doubt.own && newly) {
            ++raised;
            of_sound += !target.slow;
        }
        unreachable += doubt.liveness == Liveness::unreachable;
    };
    cluster.run(time, milliseconds(100), [&] {
        ++looks;
        leased += cluster.host(0).has_lease(cluster.now());
        return false;
    });
    cluster.doubted = nullptr;
    for (std::size_t i = 0; i < cluster.size(); ++i) {
        const Traffic &traffic = cluster.host(i).traffic;
        const double messages = static_cast<double>(traffic.messages - before[i].messages) / in_seconds(time);
        const double bytes = static_cast<double>(traffic.bytes - before[i].bytes) / in_seconds(time);
        out.messages_mean += messages / members;
        out.bytes_mean += bytes / members;
        out.messages_max = std::max(out.messages_max, messages);
        out.bytes_max = std::max(out.bytes_max, bytes);
        out.largest_heartbeat = std::max(out.largest_heartbeat, traffic.largest_heartbeat);
    }
    out.suspicions_raised = static_cast<double>(raised) / hours;
    out.suspicions_of_sound = static_cast<double>(of_sound) / hours;
    out.unreachable = static_cast<double>(unreachable) / hours;
    out.lease_held = static_cast<double>(leased) / static_cast<double>(looks);
}

// Different members, never the primary, a sound one each; as many at once as a large cluster bears.
std::vector<std::size_t> choose(Cluster &cluster, std::size_t count) {
    std::vector<std::size_t> chosen;
    while (chosen.size() < std::min(count, std::max<std::size_t>(1, cluster.size() / 50))) {
        const std::size_t i = 1 + cluster.random.below(cluster.size() - 1);
        if (!cluster.host(i).slow && std::find(chosen.begin(), chosen.end(), i) == chosen.end())
            chosen.push_back(i);
    }
    return chosen;
}

struct Seen {
    std::size_t host;
    double first_suspects = -1, all_suspect = -1, first_unreachable = -1, all_unreachable = -1;
};

// How many of those who live hold the member to be suspect, or unreachable.
void look(Cluster &cluster, Seen &seen, double age) {
    std::size_t alive = 0, suspect = 0, unreachable = 0;
    for (std::size_t i = 0; i < cluster.size(); ++i) {
        Host &host = cluster.host(i);
        if (!host.running())
            continue;
        const Liveness liveness = host.node().liveness(cluster.host(seen.host).id(), cluster.now());
        ++alive;
        suspect += liveness != Liveness::alive;
        unreachable += liveness == Liveness::unreachable;
    }
    const auto once = [&](double &at, bool happened) {
        if (at < 0 && happened)
            at = age;
    };
    once(seen.first_suspects, suspect > 0);
    once(seen.all_suspect, suspect == alive);
    once(seen.first_unreachable, unreachable > 0);
    once(seen.all_unreachable, unreachable == alive);
}

void kill_some(Cluster &cluster, const Plan &plan, Figures &out) {
    std::vector<double> first_suspects, all_suspect, first_unreachable, all_unreachable;
    for (std::size_t done = 0; done < plan.kills;) {
        cluster.run(cluster.random.between(seconds(0), seconds(1)));
        std::vector<Seen> all;
        for (const std::size_t i : choose(cluster, plan.kills - done)) {
            cluster.host(i).kill();
            all.push_back({i});
        }
        const Instant killed = cluster.now();
        cluster.run(detected_within, look_every, [&] {
            for (Seen &seen : all)
                if (seen.all_unreachable < 0)
                    look(cluster, seen, in_seconds(cluster.now() - killed));
            return std::all_of(all.begin(), all.end(), [](const Seen &seen) { return seen.all_unreachable >= 0; });
        });
        for (const Seen &seen : all) {
            out.not_detected += seen.all_unreachable < 0;
            first_suspects.push_back(seen.first_suspects);
            all_suspect.push_back(seen.all_suspect);
            first_unreachable.push_back(seen.first_unreachable);
            all_unreachable.push_back(seen.all_unreachable);
            cluster.restart(seen.host);
        }
        done += all.size();
        if (done < plan.kills)
            cluster.run(settling);
    }
    out.first_suspects = spread(first_suspects);
    out.all_suspect = spread(all_suspect);
    out.first_unreachable = spread(first_unreachable);
    out.all_unreachable = spread(all_unreachable);
}

bool all_know(Cluster &cluster, std::size_t changed, bool position_known) {
    for (std::size_t i = 0; i < cluster.size(); ++i) {
        const MemberReport *report = cluster.host(i).node().report(cluster.host(changed).id());
        if (i != changed && (!report || report->local.position_known != position_known))
            return false;
    }
    return true;
}

// PostgreSQL of one member begins, or ceases, to know its position; its reason changes with it.
void change_some(Cluster &cluster, const Plan &plan, Figures &out) {
    std::vector<double> times;
    for (std::size_t done = 0; done < plan.changes;) {
        cluster.run(cluster.random.between(seconds(2), seconds(3)));
        const std::vector<std::size_t> changed = choose(cluster, plan.changes - done);
        for (const std::size_t i : changed)
            cluster.host(i).local().position_known = !cluster.host(i).local().position_known;
        const Instant began = cluster.now();
        std::vector<double> known(changed.size(), -1);
        cluster.run(detected_within, look_every, [&] {
            bool all = true;
            for (std::size_t k = 0; k < changed.size(); ++k) {
                if (known[k] < 0 && all_know(cluster, changed[k], cluster.host(changed[k]).local().position_known))
                    known[k] = in_seconds(cluster.now() - began);
                all = all && known[k] >= 0;
            }
            return all;
        });
        out.not_known += static_cast<std::size_t>(std::count(known.begin(), known.end(), -1));
        times.insert(times.end(), known.begin(), known.end());
        done += changed.size();
    }
    out.all_know = spread(times);
}

} // namespace

Figures measure(const Plan &plan, std::uint64_t seed) {
    Figures out;
    Cluster cluster(plan.members, seed);
    cluster.run(warm_up_at_most, seconds(1), [&] { return at_rest(cluster); });
    cluster.loss = plan.conditions.loss;
    auto slow = static_cast<std::size_t>(plan.conditions.slow_share * static_cast<double>(plan.members) + 0.5);
    for (; slow > 0; --slow)
        cluster.host(1 + cluster.random.below(cluster.size() - 1)).slow = true;
    cluster.run(settling);
    watch(cluster, plan, out);
    change_some(cluster, plan, out);
    kill_some(cluster, plan, out);
    return out;
}

} // namespace pg_ha::gossip_scale
