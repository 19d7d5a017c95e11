// SPDX-License-Identifier: PostgreSQL
//
// What this node knows of the others: the newest report of each, when it was last heard directly,
// and when news of it last came through others.  A member is suspect after missed exchanges of our
// own, and unreachable only if nobody else brings news of it either.  In large clusters gossip.hpp decides
// that instead, from probes and rumours.
#pragma once

#include "settings.hpp"
#include "status.hpp"

#include <memory>
#include <utility>

namespace pg_ha {

// Which run of a node's worker speaks, and how often its identity's state had been saved by then.
struct Run {
    Incarnation incarnation = Incarnation::none;
    Instance instance = Instance::none; // none: only known through others that know none
    std::uint64_t saves = 0;
};

// What becomes of a message, by what is remembered of its sender's runs.
enum class Hearing {
    accepted,
    late,     // from the run before the present one, whose last words were still under way
    old_copy, // a run that began with a state which this identity has left behind
    cloned,   // began with the same state as the run that is known: one of both is a copy
};

class MemberTable {
public:
    struct Row {
        Run run, previous;          // newest known, and the one before
        bool refused = false;       // another run was, since
        MemberReport report;
        Life life;                  // the newest known, from reports and rumours
        Instant heard = long_ago;   // directly
        Instant news = long_ago;    // report grew newer, directly or through another member
        Duration rtt{0};
        std::uint32_t missed = 0;
    };

    // A message from `id` itself.
    Hearing heard(NodeId id, const Run &run, Instant now);
    bool refused_first(NodeId id) { return !std::exchange(row(id).refused, true); }
    struct Learned {
        bool changed = false; // more than its positions
        bool lives = false;   // a newer life than known
    };
    Learned learn(const MemberReport &report, Instant now);
    void raise_life(NodeId id, Life life);
    void answered(NodeId id, Duration rtt);
    void asked(NodeId id) { ++row(id).missed; }
    void forget_except(const Configuration &configuration);

    const Row *find(NodeId id) const;
    Liveness liveness(NodeId id, const Settings &settings, Instant now) const;
    // The next few rows to pass on, in turn, without those of `except` and `self`.
    std::vector<MemberReport> some_rows(NodeId self, NodeId except, std::size_t count);
    // To all members; of more than members_max to those heard last.
    std::vector<LinkReport> links(const Configuration &configuration, NodeId self, Instant now) const;

private:
    static Hearing hearing(const Row &row, const Run &run);
    static void note_run(Row &row, const Run &run);

    struct Entry {
        NodeId id;
        std::unique_ptr<Row> row;
    };
    Row &row(NodeId id);
    std::vector<Entry>::const_iterator at_or_after(NodeId id) const;

    std::vector<Entry> rows_; // ascending; looked up many times per message
    NodeId turn_ = NodeId::none; // last row that was passed on
};

} // namespace pg_ha
