// SPDX-License-Identifier: PostgreSQL
//
// The promises, checked from outside: only what a client, a disk or a wire could see, never what the
// core thinks.  Names of promises are those of docs/protocol.md and of the fault catalogue: S1 one
// primary per term, S2 one acknowledger, S3 leases never overlap, S4 no acknowledged loss, S6 a vote
// cuts the WAL, S7 whoever elects sees every commit, S8 what was read stays, S9 timeline = term,
// S12 one change at a time, L3 nobody raises the term unasked, S5 asynchronous mode loses no more than
// max_lag, S11 a fence stays shut, S13 who was put back to an earlier time has no vote.
#pragma once

#include "options.hpp"
#include "wal.hpp"

#include "agent/ports.hpp"

#include <map>
#include <set>

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
    std::uint64_t rewinds = 0;
    std::uint64_t liveness_skipped = 0;
    Time longest_wait = 0; // of a commit for the standbys, while the lease ran
    Time virtual_time = 0;
};

class Checkers {
public:
    explicit Checkers(World &world) : world_(world) {}

    void started(Host &host, const DurableState &state);
    void saved(Host &host, const DurableState &state); // only when the agent was told so
    void sent(Host &host, const Message &message);
    void gate_opened(Host &host, const OpenGate &upstream);
    void told_to_stand(NodeId id) { told_to_stand_.insert(id); }
    void rejoin_asked(Host &host, const Rejoin &rejoin);
    void rewound(Host &host, WalPoint before, WalPoint after);
    void opened(Host &host, bool half_rewound);
    void flushed(Host &host, WalPoint before, WalPoint after);
    void promotion_asked(Host &host, Term term);
    void promoted(Host &host);
    void lease_set(Host &host, Instant until);
    void lease_checked(Host &host);
    void begins_write(Host &host);
    void received(Host &host, const Message &message); // asynchronous mode only
    void acknowledged(Host &host, WalPoint commit);
    void seen(WalPoint end);
    void waits(Host &host, Time longest);
    void false_claim(Host &host);
    void finish(WalPoint survivor);

    Statistics statistics;

private:
    struct Stored { // what one identity knows to be on its disk
        Incarnation incarnation = Incarnation::none;
        Term term = Term::none;
        NodeId voted_for = NodeId::none;
        Configuration configuration;
        Version newest; // configuration it has ever had
        Instant started{}; // by its own clock
    };
    struct Promise { // a voter's word to the primary of a term, given with each answer to a heartbeat
        Term term = Term::none;
        Incarnation leader_incarnation = Incarnation::none;
        int host = -1;
        Instant until{}; // by the voter's clock
    };
    void lost_writes(WalPoint head, const std::string &who);
    void leads(Host &host, NodeId id, Term term);
    void stands(Host &host, const DurableState &state);
    void handed_over(Host &host, NodeId successor);
    void enters_sync_set(Host &host, const Stored &stored, const DurableState &state);
    void changes_record(Host &host, const Stored &stored, const DurableState &state);
    void promised(Host &host, const Message &message, const HeartbeatReply &reply);
    void keeps_promise(Host &host, const Message &message, Term term);
    bool elections_see(const Configuration &configuration, WalPoint commit);
    Stored *stored_of(Host &host, NodeId id);
    void loses_no_more_than_allowed(Host &host, Term term);
    void elected_by_members(Host &host, Term term);
    void not_fenced(Host &host, const char *what);
    void vote_sent(Host &host, const Stored &stored, const Message &message, const VoteReply &reply);

    World &world_;
    std::map<NodeId, Stored> stored_;
    std::array<Stored, hosts_max> impostors_; // what those who were put back to an earlier time have on disk
    std::array<Instant, hosts_max> leases_{}; // as the servers were told
    std::map<NodeId, std::pair<Term, Lsn>> primary_known_at_; // by each voter: how far a primary was
    std::map<std::pair<Term, NodeId>, NodeId> votes_; // (term, voter) -> candidate, as answered
    std::map<std::pair<Term, NodeId>, std::set<NodeId>> pre_votes_; // (term, candidate) -> who would vote
    std::map<std::pair<Term, NodeId>, Promise> promises_; // (term, voter)
    std::map<NodeId, Promise> newest_promise_;
    std::set<std::pair<NodeId, Instant>> asked_nothing_; // heartbeats that asked for no promise
    Resignation newest_resignation_;
    std::map<Term, NodeId> leaders_;
    std::set<NodeId> told_to_stand_; // by an operator, or by a primary that handed over
    BranchId newest_acknowledger_ = no_branch;
    BranchId newest_writer_ = no_branch; // highest timeline that passed the last check
};

} // namespace pg_ha::sim
