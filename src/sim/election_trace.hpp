// SPDX-License-Identifier: PostgreSQL
//
// What happens in a seed, told in the steps of models/election.pml: one line per step, so that Spin can
// say whether the model allows it (scripts/check-traces).  It looks where the checkers look: at disks,
// messages on the wire, gates, WAL and commits that pass their last check; never at what the core
// thinks, but for the notes that say it has given up an office.  It decides which step an event is; it
// must never decide whether the step was allowed.
//
// A line: step, node, then what is seen of the node after the step (term and vote on its disk, term its
// gate is open for, timeline and end of its WAL), then what the step needs.  Nodes count from 0, votes
// from 1, and 0 is nobody.
#pragma once

#include "options.hpp"
#include "postgres_fake.hpp"
#include "wal.hpp"

#include <functional>
#include <optional>

namespace pg_ha::sim {

class Host;
class World;

// A cluster as the model has it: 3 or 5 voters, all data nodes, synchronous, nobody loses its identity.
Options options_of_model(Options options);

class ElectionTrace {
public:
    ElectionTrace(World &world) : world_(world) {}
    using Writer = std::function<void(const std::string &)>;
    void begin(Writer writer); // after the cluster was set up; without it nothing is written

    void saved(Host &host, const DurableState &state);
    void read_state(Host &host); // what is on disk counts from now on
    void sent(Host &host, const Message &message);
    void gate_changed(Host &host); // has been opened or shut
    void promotion_asked(Host &host);
    void opens(Host &host); // PostgreSQL is about to leave recovery
    void promotion_failed(Host &host);
    void released(Host &host, std::uint64_t lsn, const StandbyRule &rule);
    void passed_last_check(Host &host, std::uint64_t lsn, const std::vector<StandbyRule> &rules);
    void became(Host &host, Role role);
    void started(Host &host); // PostgreSQL, as a standby
    void read_wal(Host &host);
    void wal_changes(Host &host); // before a clone: what it had still counts
    void cloned(Host &host, Host &source);
    void identity_lost() { writer_ = nullptr; } // the model ends here

private:
    struct Answer {
        std::uint64_t lsn;
        StandbyRule rule;
    };
    struct Seen {
        Term term = Term::none;
        int vote = 0;
        Term gate = Term::none;
        WalPoint wal;
        bool candidate = false, elected = false, acts = false;
        Term asked = Term::none;  // of its newest vote request
        SyncRule record;          // by which it counts votes
        std::uint64_t answered = 0;
        std::vector<Answer> released;
        std::optional<Answer> answer; // passed its last check, and is not written yet
    };
    Seen &seen(const Host &host);
    int node_of(NodeId id) const;
    unsigned set_of(const std::vector<NodeId> &ids) const;
    unsigned number(Term term) const;
    void catch_up();
    void give_vote(Host &host, Term term, int candidate);
    void win(Host &host);
    void step(const char *name, Host &host, const std::string &arguments = "");

    World &world_;
    Writer writer_;
    std::array<Seen, hosts_max> seen_;
    std::array<NodeId, hosts_max> ids_{};
};

} // namespace pg_ha::sim
