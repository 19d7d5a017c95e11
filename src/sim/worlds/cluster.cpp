// SPDX-License-Identifier: PostgreSQL
//
// Runs one small world: all is well, then at one moment the graph takes hold, then it is watched.
#include "cluster.hpp"

#include <algorithm>
#include <cstdio>

namespace pg_ha::worlds {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::seconds;

namespace {

constexpr std::uint64_t newest_lsn = 0x100000;
constexpr std::uint64_t lag_unit = 0x100;
// What an election costs at the most if nothing goes wrong in it: the promises run out (lease), then a
// pre-vote and a vote may each take their whole wait.
constexpr Duration election_timeout = seconds(2) + 2 * milliseconds(250);
constexpr Duration emerges_within = 4 * election_timeout;
constexpr Duration stays_for = seconds(5);
constexpr unsigned terms_max = 8; // one election per timeout allowed, doubled

} // namespace

Cluster::Cluster(const SmallWorld &world, bool verbose) : world_(world), verbose_(verbose) { create(); }

void Cluster::create() {
    Configuration c;
    c.cluster = {1, 2};
    c.version = {static_cast<Term>(1), 1};
    c.synchronous = world_.synchronous;
    c.lease = Settings{}.lease_duration;
    for (unsigned n = 0; n < world_.nodes; ++n) {
        const std::string name = "n" + std::to_string(n + 1);
        c.members.push_back({static_cast<NodeId>(n + 1), name, MemberKind::data, true, {name, 1}, {name, 2}, 100});
        if (world_.synchronous)
            c.sync.set.push_back(static_cast<NodeId>(n + 1));
    }
    if (world_.synchronous)
        c.sync.quorum = static_cast<std::uint16_t>(world_.majority());
    for (unsigned n = 0; n < world_.nodes; ++n) {
        Settings settings;
        settings.cluster = c.cluster;
        settings.node_name = c.members[n].name;
        settings.peer = c.members[n].peer;
        settings.postgres = c.members[n].postgres;
        settings.synchronous = world_.synchronous;
        settings.tracing = verbose_;
        const bool leads = n == world_.primary;
        const DurableState state{c.members[n].id, c.members[n].name, Incarnation::none, static_cast<Term>(1),
                                 leads ? c.members[n].id : NodeId::none, c};
        const Position end{static_cast<Timeline>(1), static_cast<Lsn>(newest_lsn)};
        hosts_.push_back(std::make_unique<Host>(*this, n, settings, state, LocalState{!leads, true, end, end.lsn, false, 0}));
    }
    for (unsigned n = 0; n < world_.nodes; ++n)
        hosts_[n]->start(n + 1);
}

void Cluster::send(unsigned from, const Message &message) {
    const auto to = static_cast<unsigned>(raw(message.to) - 1);
    if (to >= hosts_.size() || (broken_ && !world_.reaches(from, to)))
        return;
    later(microseconds(900 + 10 * from + 30 * to), to, Received{message}); // no two links alike
}

void Cluster::tell(unsigned host, const std::string &line) const {
    if (verbose_)
        std::printf("%8lld  n%u  %s\n", static_cast<long long>(now_.time_since_epoch() / milliseconds(1)) - 100000, host + 1,
                    line.c_str());
}

void Cluster::one_step(Instant limit) {
    Instant at = queue_.empty() ? never : queue_.top().at;
    Host *ticks = nullptr;
    for (auto &host : hosts_)
        if (host->deadline() < at) {
            at = host->deadline();
            ticks = host.get();
        }
    if (at > limit) {
        now_ = limit;
        return;
    }
    now_ = std::max(now_, at);
    if (ticks) {
        ticks->take(Tick{});
        return;
    }
    const Happening next = queue_.top();
    queue_.pop();
    if (next.restart)
        hosts_[next.to]->start(next.sequence);
    else
        hosts_[next.to]->take(next.event);
}

void Cluster::break_links() {
    broken_ = true;
    for (unsigned n = 0; n < world_.nodes; ++n)
        if (n != world_.primary)
            hosts_[n]->set_position(static_cast<Lsn>(newest_lsn - lag_unit * world_.lag(n)));
    if (world_.fate == Fate::alive)
        return;
    hosts_[world_.primary]->kill();
    if (world_.fate == Fate::silent)
        return;
    for (unsigned n = 0; n < world_.nodes; ++n)
        if (n != world_.primary && world_.both_ways(n, world_.primary)) {
            later(milliseconds(1), n, StreamEnded{false});
            later(milliseconds(1), n, PeerGone{static_cast<NodeId>(world_.primary + 1)});
        }
}

unsigned Cluster::highest_term() const {
    unsigned highest = 0;
    for (const auto &host : hosts_)
        highest = std::max(highest, raw(host->term()));
    return highest;
}

void Cluster::observe(Outcome &outcome) {
    int leader = -1;
    for (unsigned n = 0; n < world_.nodes; ++n) {
        if (!hosts_[n]->leads(now_))
            continue;
        if (leader >= 0)
            outcome.failure = "two primaries have a lease at once";
        leader = static_cast<int>(n);
    }
    if (leader == leader_)
        return;
    leader_ = leader;
    leads_since_ = now_;
}

void Cluster::judge(Outcome &outcome, Instant broke_at) {
    outcome.until_primary = leads_since_ <= broke_at ? Duration{0} : leads_since_ - broke_at;
    outcome.terms = highest_term() - 1;
    outcome.led = leader_ >= 0;
    if (!outcome.failure.empty())
        return;
    if (world_.keeps_primary()) {
        if (leader_ != static_cast<int>(world_.primary) || leads_since_ > broke_at || outcome.terms > 0)
            outcome.failure = "a primary with a majority was disturbed";
    } else if (world_.somebody_eligible()) {
        if (leader_ < 0)
            outcome.failure = "no primary although somebody could lead";
        else if (outcome.until_primary > emerges_within)
            outcome.failure = "the primary came too late, or changed";
    }
    if (outcome.failure.empty() && outcome.terms > terms_max)
        outcome.failure = "too many terms";
}

Outcome Cluster::run() {
    Outcome outcome;
    for (const Instant ready = now_ + milliseconds(450); now_ < ready && outcome.failure.empty(); observe(outcome))
        one_step(ready);
    if (leader_ != static_cast<int>(world_.primary))
        outcome.failure = "the world did not begin well";
    break_links();
    const Instant broke_at = now_, limit = broke_at + emerges_within + stays_for;
    tell(world_.primary, "== the links break");
    while (now_ < limit && outcome.failure.empty()) {
        one_step(limit);
        observe(outcome);
        if (leader_ >= 0 && now_ - std::max(leads_since_, broke_at) >= stays_for)
            break;
    }
    judge(outcome, broke_at);
    if (verbose_)
        for (unsigned n = 0; n < world_.nodes; ++n)
            tell(n, "== " + hosts_[n]->describe());
    return outcome;
}

} // namespace pg_ha::worlds
