// SPDX-License-Identifier: PostgreSQL
//
// Who lives, in clusters too large for everybody to speak to everybody in every round: SWIM (probe,
// indirect probe, suspect, refute) with Lifeguard's local health.  Decides whom to greet and to probe,
// whom to suspect and for how long, and which news to pass on.  docs/protocol.md, "Gossip".
//
// Time is counted in own rounds: a node that is late has fewer of them, so it is slower to suspect.
// It must never decide about roles, votes, leases or the configuration, and never sends anything itself.
#pragma once

#include "configuration.hpp"
#include "status.hpp"

#include <map>
#include <set>

namespace pg_ha {

inline constexpr std::size_t all_to_all_members_max = 17; // up to here everybody hears everybody

// Things to pass on, each so many times: the least often passed on first, of these the newest first.
class NewsQueue {
public:
    void add(NodeId about); // anew, if it is there already
    void remove(NodeId about);
    bool contains(NodeId about) const { return entries_.contains(about); }
    std::size_t size() const { return order_.size(); }
    std::vector<NodeId> first(std::size_t count) const;
    void passed_on(NodeId about, unsigned limit); // at the limit it is dropped

private:
    struct Entry {
        unsigned times = 0;
        std::uint64_t age = 0; // counts down: smaller is newer
    };
    void place(NodeId about, Entry entry);

    std::map<NodeId, Entry> entries_;
    std::set<std::tuple<unsigned, std::uint64_t, NodeId>> order_;
    std::uint64_t next_age_ = UINT64_MAX;
};

// Members in random order, each once before any comes twice (SWIM, section 4.3).
class RandomCycle {
public:
    void reset(std::vector<NodeId> members) { order_ = std::move(members), at_ = order_.size(); }
    std::size_t size() const { return order_.size(); }
    template <typename Random> NodeId next(Random &&random) {
        if (at_ >= order_.size()) {
            for (std::size_t i = order_.size(); i > 1; --i)
                std::swap(order_[i - 1], order_[random(i)]);
            at_ = 0;
        }
        return order_[at_++];
    }
    template <typename Random> NodeId any(Random &&random) const { return order_[random(order_.size())]; }

private:
    std::vector<NodeId> order_;
    std::size_t at_ = 0;
};

class Gossip {
public:
    struct Round {
        std::vector<NodeId> probe;                   // heartbeats that want an answer
        std::vector<NodeId> greet;                   // heartbeats that do not
        std::vector<std::pair<NodeId, NodeId>> ask;  // (helper, target) of indirect probes
        std::vector<std::pair<NodeId, NodeId>> deny; // (asker, target): it has not answered us either
    };

    explicit Gossip(std::uint64_t seed) : random_state_(seed) {}

    void set_members(const Configuration &configuration, NodeId self, Incarnation incarnation);
    bool at_scale() const { return cycle_.size() + 1 > all_to_all_members_max; }

    // The next round of a node that has just ticked; late: by more than a round.
    // heartbeats: how many to send, probes included, as far as these do not need more; 0: probes only.
    Round next_round(bool late, std::size_t heartbeats);
    NodeId next_to_greet() { return cycle_.next([this](std::size_t n) { return random(n); }); }
    void probing(NodeId target, Life known); // it was asked for an answer
    unsigned health() const { return health_; } // 0: good; Lifeguard's local health multiplier less one

    // A direct message from `peer`.  Returns who waits for news of it.
    std::vector<NodeId> heard(NodeId peer);
    bool silent(std::uint64_t rounds) const { return round_ - heard_in_round_ > rounds; } // nobody was heard in so many
    // `asker` wants to know whether `target` answers us.  False: too many such questions.
    bool relay(NodeId asker, NodeId target);
    void helper_answered(NodeId target, bool reached);

    // A rumour that was told to us.  `known`: the member's newest life as far as we know; `just_heard`: by
    // us, directly.  True: the rumour shows a life newer than that.
    bool told(const Rumour &rumour, Life known, bool just_heard);
    void lives(NodeId member, Life life);  // its own report showed a newer life
    void changed(NodeId member) { rows_.add(member); } // its report says something new: pass the row on
    // Somebody doubts that we live.  True: it has to be refuted at once.
    bool accused(Life doubted);
    std::uint32_t refutations() const { return own_.refutations; }

    Liveness liveness(NodeId member) const; // alive unless there is a doubt
    std::vector<Doubted> doubts() const;

    std::vector<Rumour> rumours_for(NodeId to, std::size_t count);
    std::vector<NodeId> newest_rows(std::size_t count) const { return rows_.first(count); }
    void row_passed_on(NodeId member) { rows_.passed_on(member, times_passed_on()); }
    unsigned times_passed_on() const;

private:
    struct Probe {
        NodeId target;
        Life life;            // as known when it began
        std::uint64_t began = 0;
        unsigned asked = 0;   // helpers
        unsigned answers = 0; // of helpers, whatever they said
    };
    struct Relay {
        NodeId asker, target;
        std::uint64_t began = 0;
    };
    struct Doubt {
        Life life;
        bool unreachable = false;
        std::uint64_t began = 0;
        std::vector<NodeId> accusers;
    };

    std::size_t random(std::size_t bound);
    unsigned probe_rounds() const;
    std::uint64_t suspicion_rounds(std::size_t accusers) const;
    void doubt(const Rumour &rumour);
    void spread(const Rumour &rumour);
    void conclude_probes(Round &out);
    void ask_helpers(Probe &probe, Round &out);
    void conclude_doubts(Round &out);

    NodeId self_ = NodeId::none;
    Life own_;
    std::uint64_t random_state_;
    std::uint64_t round_ = 0;
    std::uint64_t heard_in_round_ = 0;
    unsigned health_ = 0;
    RandomCycle cycle_, probe_cycle_;
    std::vector<Probe> probes_; // open
    std::vector<Relay> relays_;
    std::map<NodeId, Doubt> doubts_;
    std::map<NodeId, Rumour> rumours_;
    NewsQueue rumour_queue_, rows_;
};

} // namespace pg_ha
