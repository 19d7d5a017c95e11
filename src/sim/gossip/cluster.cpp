// SPDX-License-Identifier: PostgreSQL
//
// The queue of happenings, and the fakes of one host.
#include "cluster.hpp"

#include "agent/codec.hpp"

#include <algorithm>

namespace pg_ha::gossip_scale {

using std::chrono::microseconds;
using std::chrono::milliseconds;

namespace {

constexpr std::size_t voters = 5;
const Position end_of_wal{static_cast<Timeline>(1), static_cast<Lsn>(0x5000000)};
constexpr Duration fastest = microseconds(300), slowest = microseconds(1500); // one way, within a data centre
constexpr Duration stall_min = std::chrono::seconds(1), stall_max = std::chrono::seconds(3);

// Scattered over the range, as real ids are.
NodeId node_id(std::size_t index) { return static_cast<NodeId>((index + 1) * 0x0000100000001000ull); }
std::size_t index_of(NodeId id) { return static_cast<std::size_t>(raw(id) / 0x0000100000001000ull) - 1; }

} // namespace

std::uint64_t Random::next() {
    std::uint64_t z = (state_ += 0x9E3779B97F4A7C15ull);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return z ^ (z >> 31);
}

Duration Random::between(Duration low, Duration high) {
    return low + Duration(static_cast<std::int64_t>(next() % static_cast<std::uint64_t>((high - low).count() + 1)));
}

// ---- one host -----------------------------------------------------------------------------------------

Host::Host(Cluster &cluster, std::size_t index, const Settings &settings, const DurableState &state, const LocalState &local)
    : cluster_(cluster), index_(index), settings_(settings), disk_(state), local_(local) {}

void Host::start(std::uint64_t seed) {
    begin_run(disk_, *this);
    agent_ = std::make_unique<Agent>(Ports{*this, *this, *this, *this}, settings_, disk_, local_, seed);
    running_ = true;
    doubts.clear();
    agent_->start();
}

void Host::take(const Event &event) {
    if (running_)
        agent_->handle(event);
}

Instant Host::now() { return cluster_.now(); }

bool Host::save(const DurableState &state) {
    disk_ = state;
    return true;
}

void Host::send(const Message &message) {
    const std::size_t bytes = encode(message).size();
    ++traffic.messages;
    traffic.bytes += bytes;
    if (const auto *heartbeat = std::get_if<Heartbeat>(&message.body); heartbeat && !heartbeat->configuration)
        traffic.largest_heartbeat = std::max(traffic.largest_heartbeat, bytes);
    cluster_.send(message);
}

Sampled Host::sample() {
    if (local_.in_recovery)
        return {local_, {}};
    return {local_, Lineage{{end_of_wal.timeline, Lsn::none}}, local_.position.lsn}; // who streams has confirmed all
}

void Host::apply_sync(const ApplySync &sync) { cluster_.post(index_, milliseconds(5), SyncInEffect{sync.rule}); }

// ---- all of them --------------------------------------------------------------------------------------

Cluster::Cluster(std::size_t members, std::uint64_t seed) : random(seed) { create(members); }

void Cluster::create(std::size_t members) {
    Configuration c;
    c.cluster = {1, 2};
    c.version = {static_cast<Term>(1), 1};
    c.lease = Settings{}.lease_duration;
    for (std::size_t i = 0; i < members; ++i) {
        const std::string name = "db" + std::to_string(i + 1);
        c.members.push_back({node_id(i), name, MemberKind::data, i < voters, {name, 7432}, {name, 5432}, 100});
        if (i < voters)
            c.sync.set.push_back(node_id(i));
    }
    c.sync.quorum = static_cast<std::uint16_t>(c.sync.set.size() / 2 + 1);
    for (std::size_t i = 0; i < members; ++i) {
        Settings settings;
        settings.cluster = c.cluster;
        settings.node_name = c.members[i].name;
        settings.peer = c.members[i].peer;
        settings.postgres = c.members[i].postgres;
        settings.members_max = members;
        const bool leads = i == 0;
        const DurableState state{node_id(i), c.members[i].name, Incarnation::none, static_cast<Term>(1),
                                 leads ? node_id(i) : NodeId::none, c};
        const LocalState local{!leads, true, end_of_wal, end_of_wal.lsn, i > 0 && i < voters, 0};
        hosts_.push_back(std::make_unique<Host>(*this, i, settings, state, local));
    }
    for (std::size_t i = 0; i < members; ++i) {
        now_ += Settings{}.heartbeat_interval / static_cast<std::int64_t>(members); // not all at the same moment
        restart(i);
    }
}

void Cluster::restart(std::size_t host) {
    hosts_[host]->start(random.next());
    arm(host);
}

void Cluster::send(const Message &message) {
    if (random.unit() < loss)
        return;
    post(index_of(message.to), random.between(fastest, slowest), Received{message});
}

void Cluster::post(std::size_t host, Duration delay, Event event) {
    std::size_t slot = slots_.size();
    if (free_.empty()) {
        slots_.push_back(std::move(event));
    } else {
        slot = free_.back();
        free_.pop_back();
        slots_[slot] = std::move(event);
    }
    queue_.push({awake(*hosts_[host], now_ + delay), ++sequence_, host, slot});
}

Instant Cluster::awake(Host &host, Instant at) {
    if (!host.slow)
        return at;
    while (host.wakes < at)
        host.wakes = std::max(host.wakes, now_) + random.between(stall_min, stall_max);
    return host.wakes;
}

void Cluster::arm(std::size_t index) {
    Host &host = *hosts_[index];
    const Instant at = awake(host, std::max(now_, host.deadline()));
    if (at == host.tick_at)
        return;
    host.tick_at = at;
    queue_.push({at, ++sequence_, index, no_slot});
}

void Cluster::happen(const Happening &next) {
    Host &host = *hosts_[next.host];
    if (next.slot != no_slot) {
        const Event event = std::move(slots_[next.slot]);
        free_.push_back(next.slot);
        if (!host.running())
            return;
        host.take(event);
    } else {
        if (!host.running() || next.at != host.tick_at)
            return;
        host.tick_at = never;
        host.take(Tick{});
        compare_doubts(host);
    }
    arm(next.host);
}

void Cluster::compare_doubts(Host &host) {
    std::vector<Doubted> doubts = host.node().doubts(now_);
    if (doubted)
        for (const Doubted &doubt : doubts) {
            const Host &target = *hosts_[index_of(doubt.member)];
            const auto before = std::find_if(host.doubts.begin(), host.doubts.end(),
                                             [&](const Doubted &old) { return old.member == doubt.member; });
            const bool newly = before == host.doubts.end();
            if (target.running() && (newly || before->liveness != doubt.liveness))
                doubted(host, target, doubt, newly);
        }
    host.doubts = std::move(doubts);
}

bool Cluster::run(Duration time, Duration step, const std::function<bool()> &look) {
    const Instant end = now_ + time;
    Instant next_look = step > time ? never : now_ + step;
    while (true) {
        const Instant at = queue_.empty() ? never : queue_.top().at;
        if (next_look <= std::min(at, end)) {
            now_ = next_look;
            next_look += step;
            if (look())
                return true;
            continue;
        }
        if (at > end)
            break;
        const Happening next = queue_.top();
        queue_.pop();
        now_ = next.at;
        happen(next);
    }
    now_ = end;
    return false;
}

} // namespace pg_ha::gossip_scale
