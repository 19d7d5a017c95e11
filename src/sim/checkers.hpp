// SPDX-License-Identifier: PostgreSQL
//
// The promises, checked from outside: only what a client, a disk or a wire could see, never what the
// core thinks.  Names of promises are those of docs/protocol.md and of the fault catalogue: S1 one
// primary per term, S2 one acknowledger, S3 leases never overlap, S4 no acknowledged loss, S6 a vote
// cuts the WAL, S9 timeline = term.
#pragma once

#include "options.hpp"
#include "wal.hpp"

#include "agent/ports.hpp"

#include <map>
#include <optional>

namespace pg_ha::sim {

class Host;
class World;

struct Statistics {
    std::uint64_t elections = 0; // promotions begun
    std::uint64_t failovers = 0; // promotions after some other primary had acknowledged
    std::uint64_t acknowledged = 0;
    std::uint64_t late_answers = 0; // given after a later primary's, for commits it has
    std::uint64_t overlaps = 0;     // asynchronous: answers after a later primary's, machine paused in between
    std::uint64_t lost = 0;         // asynchronous: promotions that lost acknowledged commits
    std::uint64_t liveness_skipped = 0;
    Time virtual_time = 0;
};

class Checkers {
public:
    explicit Checkers(World &world) : world_(world) {}

    void started(Host &host, const DurableState &state);
    void saved(Host &host, const DurableState &state); // only when the agent was told so
    void sent(Host &host, const Message &message);
    void gate_opened(Host &host, const OpenGate &upstream);
    void flushed(Host &host, WalPoint before, WalPoint after);
    void promotion_asked(Host &host, Term term);
    void promoted(Host &host);
    void lease_checked(Host &host);
    void acknowledged(Host &host, WalPoint commit);
    void false_claim(Host &host);
    void finish(WalPoint survivor);

    Statistics statistics;

private:
    struct Stored { // what one identity knows to be on its disk
        Incarnation incarnation = Incarnation::none;
        Term term = Term::none;
        NodeId voted_for = NodeId::none;
    };
    void lost_writes(WalPoint head, const std::string &who);
    void leads(Host &host, NodeId id, Term term);
    void vote_sent(Host &host, const Stored &stored, const Message &message, const VoteReply &reply);

    World &world_;
    std::map<NodeId, Stored> stored_;
    std::map<std::pair<Term, NodeId>, NodeId> votes_; // (term, voter) -> candidate, as answered
    std::map<Term, NodeId> leaders_;
    BranchId newest_acknowledger_ = no_branch;
    BranchId newest_writer_ = no_branch; // highest timeline that passed the last check
};

} // namespace pg_ha::sim
