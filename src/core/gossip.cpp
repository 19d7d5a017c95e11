// SPDX-License-Identifier: PostgreSQL
//
// SWIM in rounds.  Figures are from the arithmetic in docs/protocol.md, "Gossip".
#include "gossip.hpp"
#include "planted.hpp"

#include <algorithm>
#include <bit>

namespace pg_ha {

namespace {

constexpr unsigned probe_rounds_min = 5;       // unanswered so long, directly and through helpers: suspect
constexpr std::size_t helpers_per_attempt = 3; // of an indirect probe
constexpr std::size_t attempts_per_round = 5;  // probes sent again; more only if most of the cluster is gone
constexpr std::size_t doubted_per_round = 2;   // probed again, so that they know and may answer yet
constexpr std::size_t greetings_min = 3;
constexpr std::uint64_t relay_rounds = 2;      // so long a helper waits for the target
constexpr std::size_t relays_max = 64;
constexpr unsigned health_max = 8;             // as in the Lifeguard paper, section IV-A
constexpr std::size_t accusers_needed = 4;     // so many make a suspicion as short as it gets
constexpr std::uint64_t suspicion_rounds_min = 20; // and one more for each doubling of the members
constexpr unsigned passes_per_doubling = 2;

bool contains(const std::vector<NodeId> &list, NodeId id) { return std::find(list.begin(), list.end(), id) != list.end(); }

void add_once(std::vector<NodeId> &list, NodeId id) {
    if (!contains(list, id))
        list.push_back(id);
}

} // namespace

// ---- what is passed on --------------------------------------------------------------------------------

void NewsQueue::place(NodeId about, Entry entry) {
    entries_[about] = entry;
    order_.insert({entry.times, entry.age, about});
}

void NewsQueue::add(NodeId about) {
    remove(about);
    place(about, {0, next_age_--});
}

void NewsQueue::remove(NodeId about) {
    auto it = entries_.find(about);
    if (it == entries_.end())
        return;
    order_.erase({it->second.times, it->second.age, about});
    entries_.erase(it);
}

std::vector<NodeId> NewsQueue::first(std::size_t count) const {
    std::vector<NodeId> out;
    for (auto it = order_.begin(); it != order_.end() && out.size() < count; ++it)
        out.push_back(std::get<NodeId>(*it));
    return out;
}

void NewsQueue::passed_on(NodeId about, unsigned limit) {
    auto it = entries_.find(about);
    if (it == entries_.end())
        return;
    Entry entry = it->second;
    remove(about);
    if (++entry.times < limit)
        place(about, entry);
}

// c log n: enough that a rumour reaches everybody, although some of the messages are lost.
unsigned Gossip::times_passed_on() const {
    return passes_per_doubling * static_cast<unsigned>(std::bit_width(cycle_.size() + 1));
}

std::vector<Rumour> Gossip::rumours_for(NodeId to, std::size_t count) {
    std::vector<Rumour> out;
    if (auto it = doubts_.find(to); it != doubts_.end()) // it shall know at once, and refute
        out.push_back({to, it->second.life, it->second.unreachable ? Liveness::unreachable : Liveness::suspect, self_});
    for (NodeId about : rumour_queue_.first(count - out.size())) {
        if (about != to)
            out.push_back(rumours_.at(about));
        rumour_queue_.passed_on(about, times_passed_on());
        if (!rumour_queue_.contains(about))
            rumours_.erase(about);
    }
    return out;
}

void Gossip::spread(const Rumour &rumour) {
    rumours_[rumour.member] = rumour;
    rumour_queue_.add(rumour.member);
}

// ---- rounds ------------------------------------------------------------------------------------------

void Gossip::set_members(const Configuration &configuration, NodeId self, Incarnation incarnation) {
    self_ = self;
    own_.incarnation = incarnation;
    std::vector<NodeId> others;
    for (const Member &member : configuration.members)
        if (member.id != self)
            others.push_back(member.id);
    const auto gone = [&](NodeId id) { return !configuration.find(id); };
    std::erase_if(probes_, [&](const Probe &probe) { return gone(probe.target); });
    std::erase_if(doubts_, [&](const auto &entry) { return gone(entry.first); });
    std::erase_if(rumours_, [&](const auto &entry) {
        if (gone(entry.first))
            rumour_queue_.remove(entry.first);
        return gone(entry.first);
    });
    for (NodeId id : rows_.first(rows_.size()))
        if (gone(id))
            rows_.remove(id);
    probe_cycle_.reset(others);
    cycle_.reset(std::move(others));
}

// splitmix64, apart from the node's own chance: elections shall not depend on gossip.
std::size_t Gossip::random(std::size_t bound) {
    std::uint64_t z = (random_state_ += 0x9E3779B97F4A7C15ull);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return static_cast<std::size_t>((z ^ (z >> 31)) % bound);
}

Gossip::Round Gossip::next_round(bool late, std::size_t heartbeats) {
    Round out;
    ++round_;
    if (late)
        health_ = std::min(health_ + 1, health_max);
    conclude_probes(out);
    conclude_doubts(out);
    for (const Relay &relay : relays_)
        if (round_ - relay.began >= relay_rounds)
            out.deny.emplace_back(relay.asker, relay.target);
    std::erase_if(relays_, [&](const Relay &relay) { return round_ - relay.began >= relay_rounds; });

    const NodeId next = probe_cycle_.next([this](std::size_t n) { return random(n); });
    add_once(out.probe, next);
    std::size_t greetings = heartbeats == 0 ? 0 : std::max(greetings_min, heartbeats - std::min(heartbeats, out.probe.size()));
    for (; greetings > 0; --greetings)
        if (const NodeId peer = next_to_greet(); !contains(out.probe, peer))
            out.greet.push_back(peer);
    return out;
}

void Gossip::probing(NodeId target, Life known) {
    const bool open = std::any_of(probes_.begin(), probes_.end(), [&](const Probe &p) { return p.target == target; });
    if (!open && !doubts_.contains(target))
        probes_.push_back({target, known, round_, 0, 0});
}

// A node whose own health is bad waits longer for others.
unsigned Gossip::probe_rounds() const { return probe_rounds_min * (1 + health_); }

void Gossip::conclude_probes(Round &out) {
    std::vector<Probe> failed;
    std::erase_if(probes_, [&](const Probe &probe) {
        const bool over = round_ - probe.began >= probe_rounds();
        if (over)
            failed.push_back(probe);
        return over;
    });
    std::size_t attempts = 0;
    for (Probe &probe : probes_) { // again, and through others
        if ((round_ - probe.began) % (1 + health_) != 0 || attempts++ >= attempts_per_round)
            continue; // a longer wait, not more attempts
        add_once(out.probe, probe.target);
        ask_helpers(probe, out);
    }
    for (const Probe &probe : failed) {
        if (probe.asked > 0 && probe.answers == 0) // not even those who should have helped: is it us?
            health_ = std::min(health_ + 1, health_max);
        doubt({probe.target, probe.life, Liveness::suspect, self_});
    }
}

void Gossip::ask_helpers(Probe &probe, Round &out) {
    if (planted(Bug::no_indirect_probes))
        return;
    std::vector<NodeId> chosen;
    for (std::size_t tries = 0; tries < 4 * helpers_per_attempt && chosen.size() < helpers_per_attempt; ++tries) {
        const NodeId helper = cycle_.any([this](std::size_t n) { return random(n); });
        if (helper == probe.target || doubts_.contains(helper) || contains(chosen, helper))
            continue;
        chosen.push_back(helper);
        out.ask.emplace_back(helper, probe.target);
        ++probe.asked;
    }
}

// ---- being heard ---------------------------------------------------------------------------------------

std::vector<NodeId> Gossip::heard(NodeId peer) {
    heard_in_round_ = round_;
    if (std::erase_if(probes_, [&](const Probe &probe) { return probe.target == peer; }) > 0 && health_ > 0)
        --health_;
    doubts_.erase(peer); // for us; to end what others believe is its own business
    std::vector<NodeId> waiting;
    for (const Relay &relay : relays_)
        if (relay.target == peer)
            waiting.push_back(relay.asker);
    if (!waiting.empty())
        std::erase_if(relays_, [&](const Relay &relay) { return relay.target == peer; });
    return waiting;
}

bool Gossip::relay(NodeId asker, NodeId target) {
    if (relays_.size() >= relays_max)
        return false;
    relays_.push_back({asker, target, round_});
    return true;
}

void Gossip::helper_answered(NodeId target, bool reached) {
    for (Probe &probe : probes_)
        if (probe.target == target)
            ++probe.answers;
    if (reached)
        std::erase_if(probes_, [&](const Probe &probe) { return probe.target == target; });
}

// ---- doubts ---------------------------------------------------------------------------------------------

bool Gossip::told(const Rumour &rumour, Life known, bool just_heard) {
    if (rumour.life < known) {
        // Whoever still tells it has missed the refutation.
        if (rumour.state != Liveness::alive && !rumours_.contains(rumour.member))
            spread({rumour.member, known, Liveness::alive, NodeId::none});
        return false;
    }
    if (rumour.state == Liveness::alive) {
        if (rumour.life == known)
            return false;
        doubts_.erase(rumour.member);
        spread(rumour);
        return true;
    }
    if (!just_heard)
        doubt(rumour);
    return rumour.life > known;
}

void Gossip::lives(NodeId member, Life life) {
    auto it = doubts_.find(member);
    const bool ends_doubt = it != doubts_.end() && it->second.life < life;
    if (ends_doubt)
        doubts_.erase(it);
    if (ends_doubt || life.refutations > 0)
        spread({member, life, Liveness::alive, NodeId::none});
}

// A doubt grows by each new accuser, and passes on what made it grow.
void Gossip::doubt(const Rumour &rumour) {
    auto [it, added] = doubts_.try_emplace(rumour.member, Doubt{rumour.life, false, round_, {}});
    Doubt &doubt = it->second;
    if (!added && rumour.life > doubt.life)
        doubt = Doubt{rumour.life, false, round_, {}};
    if (doubt.unreachable)
        return;
    if (rumour.state == Liveness::unreachable) {
        doubt.unreachable = true;
        spread(rumour);
        return;
    }
    if (contains(doubt.accusers, rumour.accuser) || doubt.accusers.size() >= accusers_needed)
        return;
    doubt.accusers.push_back(rumour.accuser);
    spread(rumour);
}

// Lifeguard: one accuser alone may be at fault itself, so the accused has long to answer; with each further
// one the time shrinks like the logarithm of their number.
std::uint64_t Gossip::suspicion_rounds(std::size_t accusers) const {
    constexpr std::uint64_t shrunk_percent[accusers_needed] = {0, 50, 79, 100}; // log(c) / log(4)
    const std::uint64_t least = suspicion_rounds_min + static_cast<std::uint64_t>(std::bit_width(cycle_.size() + 1));
    const std::size_t c = std::clamp<std::size_t>(accusers, 1, accusers_needed);
    return 2 * least - least * shrunk_percent[c - 1] / 100;
}

void Gossip::conclude_doubts(Round &out) {
    std::size_t again = 0;
    for (auto &[member, doubt] : doubts_) {
        if (doubt.unreachable)
            continue;
        const bool own = !doubt.accusers.empty() && doubt.accusers.front() == self_;
        if (own && (round_ - doubt.began) % 2 == 1 && again++ < doubted_per_round)
            add_once(out.probe, member);
        if (round_ - doubt.began < suspicion_rounds(doubt.accusers.size()))
            continue;
        doubt.unreachable = true;
        spread({member, doubt.life, Liveness::unreachable, self_});
    }
}

bool Gossip::accused(Life doubted) {
    if (doubted.incarnation != own_.incarnation || doubted.refutations < own_.refutations ||
        planted(Bug::suspicion_not_refuted))
        return false;
    own_.refutations = doubted.refutations + 1;
    spread({self_, own_, Liveness::alive, NodeId::none});
    return true;
}

Liveness Gossip::liveness(NodeId member) const {
    auto it = doubts_.find(member);
    return it == doubts_.end() ? Liveness::alive : it->second.unreachable ? Liveness::unreachable : Liveness::suspect;
}

std::vector<Doubted> Gossip::doubts() const {
    std::vector<Doubted> out;
    for (const auto &[member, doubt] : doubts_)
        out.push_back({member, liveness(member), !doubt.accusers.empty() && doubt.accusers.front() == self_});
    return out;
}

} // namespace pg_ha
