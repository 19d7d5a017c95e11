// SPDX-License-Identifier: PostgreSQL
//
// The inside of a Node: its state, with the rule of each field, and the handlers by subject.
//   node.cpp           entry, dispatch, deadlines, invariants
//   node_standby.cpp   following a primary, the gate, joining, evidence that a primary is gone
//   node_election.cpp  standing, voting, winning
//   node_forced.cpp    leading because an operator says so
//   node_operator.cpp  switchover, pause, removal of a member
//   node_gossip.cpp    whom to speak to, what to pass on, who lives
//   node_primary.cpp   lease, replies, configuration, stepping down
//   node_sync.cpp      who of the sync set has what, as primary
//   node_status.cpp    the snapshot for people
#pragma once

#include "invariants.hpp"
#include "gossip.hpp"
#include "lease.hpp"
#include "member_table.hpp"
#include "membership.hpp"
#include "node.hpp"
#include "planted.hpp"
#include "quorum.hpp"
#include "stream_watch.hpp"

#include <algorithm>
#include <optional>

namespace pg_ha {

constexpr Duration order_holds = std::chrono::seconds(60); // as long as ha_failover() waits
constexpr std::uint64_t rounds_between_link_reports = 5; // they are bulky

// A vote asked for and not yet answered, because the gate has to be shut first.
struct PendingVote {
    NodeId candidate;
    VoteRequest request;
};

// One round of asking, pre-vote or vote.
struct Ballot {
    bool pre = true;
    Term term = Term::none;
    std::set<NodeId> granted;
    Instant deadline = never;
    std::set<NodeId> equal{};        // who of them has the same WAL, to the byte
    std::set<NodeId> refused{};
    std::string refusal{};           // the newest, for people
    bool passed_on = false;          // another that is ahead has been told to stand
};

// The primary hands over: no commit is acknowledged any more, and the successor has all WAL soon.
struct Handover {
    NodeId successor = NodeId::none;
    Instant began = long_ago;
    Instant give_up = never;
    Instant ask_due = never;         // the next question how far it is
    std::optional<Lsn> needs{};      // the end of our WAL when nothing was answered any more
    std::string why{};
    bool answered = false;           // since it began: it was there a moment ago
};

struct Node::Impl {
    Settings settings;
    DurableState durable;            // what is (or is being made) durable; a failed Persist restores undo
    Role role = Role::passive;
    NodeId leader = NodeId::none;    // primary of durable.term, once known
    LocalState local;
    Lineage lineage;                 // own, while PostgreSQL is writable
    std::string reason;
    Instance instance;               // of this run
    Instant started = long_ago;
    Instant resave_due = never;      // see resave()
    bool save_doubtful = false;      // one failed, and may be on disk all the same
    Instant now = long_ago;          // of the step under way
    std::uint64_t random_state;
    Outputs out;                     // of the step under way
    struct Undo { DurableState durable; Role role; NodeId leader; } undo;

    MemberTable table;
    Gossip gossip;                   // at work in large clusters only
    Version gossip_version;          // of the configuration that it knows
    std::optional<Gossip::Round> gossip_due; // decided at the tick, to be sent with its heartbeats
    std::size_t configurations_pushed = 0;   // in this round
    bool configuration_asked = false;
    std::vector<LinkReport> links_reported;
    std::uint64_t links_of_round = 0;
    std::uint64_t report_sequence = 0;
    std::uint64_t rounds = 0;        // heartbeat rounds sent
    std::size_t turn = 0;            // whose turn it is where a round does not reach everybody
    bool answered_leader = false;    // since the last round: it has our report already
    Instant heartbeat_due = long_ago;
    std::set<NodeId> connected;      // peers whose link came up and was not reset since
    std::map<NodeId, Version> stored_versions; // configuration version each member is known to have

    // -- as standby
    Lineage leader_lineage;          // empty until the primary of this term is open for writes
    Lsn leader_position = Lsn::none; // last known flush position of a primary (asynchronous bound)
    Term leader_position_term = Term::none;
    Instant promise_until = long_ago; // no vote for another before this ...
    bool promise_void = false;        // ... unless there is hard evidence
    Resignation resigned;             // the newest known
    Incarnation leader_incarnation = Incarnation::none; // of the newest heartbeat that was followed
    Instant clean_stop_until = never; // a clean stop under way: wait so long for the end of the stream
    bool leader_gone = false;         // its kernel says nobody is there
    bool stream_ended = false;
    std::string waits_noted;          // for whom, as was said last
    bool gate_open = false;
    bool gate_shutting = false;       // asked for; until GateClosed the position may be older than what was received
    NodeId gate_leader = NodeId::none;
    Instant election_due = never;
    Position diverged_at;             // our position, if it is no part of the primary's history ...
    Instant diverged_since = never;   // ... and since when it stands there
    bool rejoin_asked = false;        // of this primary

    // -- in an election
    std::optional<Ballot> ballot;
    unsigned ballots_lost = 0;        // in a row: the pause between them grows
    bool demotion_asked = false;
    std::optional<PendingVote> pending_vote;
    bool campaign_after_gate = false;
    bool force_after_gate = false;    // an operator wants this node to lead
    Instant ordered_until = long_ago; // told to stand, by the primary that handed over or by an operator: also while paused
    OrderStatus order;                // by an operator, who waits for what comes of it
    NodeId predecessor = NodeId::none; // it handed over to this node, and restarts now

    // -- as primary
    LeaseTracker leases;
    LeaseTracker contacts;            // like leases, but also of heartbeats that asked for no promise
    bool asks_promise = true;
    std::optional<Handover> handover;
    Instant hand_over_due = long_ago; // with priority 0 it leads no longer than it must; not again before this
    unsigned handovers_begun = 0;     // because of that, in this term
    NodeId handed_over_to = NodeId::none; // with the last of these: another one is tried next
    Instant candidate_lacks_wal_until = long_ago; // one that was refused for this may ask again until then
    Instant demote_at = long_ago;     // deposed by a handover: its vote may be needed first
    std::optional<bool> pause_wanted;
    std::set<NodeId> unwanted;        // members that an operator removes
    Instant leading_since = long_ago;
    Instant last_without_promise = long_ago; // when the last heartbeat left that asked for none
    Instant round_sent = long_ago;
    Instant lease_until = long_ago;   // as told to the server
    bool fenced_noted = false;
    bool record_in_force = false;     // the newest record was stored by a majority
    bool term_in_force = false;       // a record of the own term was: commits may be acknowledged
    SyncRule sync_in_effect;
    bool sync_known = false;
    std::optional<SyncRule> sync_asked;
    bool sync_pending = false;        // the answer for sync_asked is still to come
    std::vector<SyncRule> sync_under_way; // asked since the newest answer: some processes may wait for one of these by now
    std::optional<MembershipStep> postgres_first; // waiting for PostgreSQL, then for members to catch up
    std::optional<Lsn> catch_up_to;
    std::optional<Lsn> opened_at;     // what sessions could see from the beginning; empty once it is settled
    Lsn confirmed = Lsn::none;        // up to where the rule in effect is met, as PostgreSQL says
    Instant confirmed_grew = long_ago; // or was all that there is
    std::optional<Lsn> hung_at;       // confirmations do not get through: none since this one
    std::set<NodeId> unasked;         // the only voter restarted: members that may have been made primary meanwhile
    std::vector<RejoinSeen> rejoins;  // of other members
    std::map<NodeId, StreamWatch> streams;
    WalHistory own_wal;
    Instant streams_looked_at = long_ago;
    Instant listening_since = long_ago; // with a lease, and without a pause; no standby is lost sooner
    bool commits_wait = false;          // noted: S keeps lost members because of min_sync_standbys
    std::map<NodeId, Member> applicants;
    std::set<NodeId> replaced;

    Impl(const Settings &settings, const DurableState &state, const LocalState &local, std::uint64_t seed, Instant now);

    // node.cpp
    void dispatch(const Event &event);
    void tick();
    void receive(const Message &message);
    void refuse(const Message &message, Hearing hearing);
    Instant next_deadline() const;
    CoreView view();
    void remember();
    void send(NodeId to, Body body) { out.push_back(Send{to, std::move(body)}); }
    void send_members(const Body &body);
    void persist();
    void resave();
    void save_again();
    void trace(const std::string &line);
    void become(Role next, const std::string &why);
    Duration jitter(Duration most);
    std::string name_of(NodeId id) const;
    const Configuration &configuration() const { return durable.configuration; }
    bool is_member() const { return configuration().find(durable.self) != nullptr; }
    bool is_voter() const { return configuration().is_voter(durable.self); }
    // Settings may differ between servers: a primary uses the shorter, a voter promises the longer.
    Duration own_lease() const { return std::min(settings.lease_duration, configuration().lease); }
    Duration promised_lease() const { return std::max(settings.lease_duration, configuration().lease); }
    bool acts() const { return role == Role::promoting || role == Role::primary; }
    bool sync_protects() const { return configuration().synchronous && configuration().sync.quorum >= 2; }
    void bootstrap(const Bootstrap &event);
    void sampled(const Sampled &seen);
    void shutting_down(bool clean);
    void persist_failed(const std::optional<DurableState> &stored);
    Role resting_role() const;

    // node_standby.cpp
    void on_heartbeat(const Message &message, const Heartbeat &heartbeat);
    void show_configuration(NodeId former);
    bool may_know_members(const Message &message) const;
    void look_for_primary_among(const std::vector<Member> &members);
    void follow(const Message &message, const Heartbeat &heartbeat);
    void promise();
    void adopt_term(Term term);
    void consider_configuration(const Configuration &shown, Term shown_in);
    void adopt_configuration(const Configuration &configuration, bool store);
    void shut_gate();
    void consider_gate();
    bool data_ahead() const;
    void consider_rejoin();
    void forget_divergence();
    void on_resign(const Message &message, const Resign &resign);
    void note_resigned(const Resignation &which, bool clean, const std::string &how);
    bool ends_leadership(const Resignation &which) const;
    void link_up(NodeId peer);
    void peer_gone(NodeId peer);
    void stream_end(bool finished);
    void consider_evidence();
    void void_promise(const std::string &why);
    void on_join(const Message &message, const JoinRequest &request);
    void on_rejected(const Message &message, const Rejected &rejected);
    void forget_membership(const std::string &why);
    void ask_admission();
    void check_writable();
    void disown_wal(const std::string &why);
    bool promoted_by_hand() const { return durable.by_hand != Timeline::none && local.position.timeline >= durable.by_hand; }
    Member own_member() const;

    // node_election.cpp
    bool may_stand() const;
    bool stands_in(Instant at) const;
    bool leads_through_pause() const { return configuration().paused && configuration().recorded_by == durable.self; }
    std::size_t rank() const;
    void schedule_election();
    void stand();
    void begin_campaign();
    void on_vote_request(const Message &message, const VoteRequest &request);
    Refusal refusal_before_gate(NodeId candidate, const VoteRequest &request) const;
    bool behind(const VoteRequest &request) const;
    bool lags(Position position) const;
    bool just_restarted() const {
        return promise_until == long_ago && now < started + promised_lease() && !planted(Bug::restarted_votes_at_once);
    }
    bool overlooks_position_of(NodeId candidate) const { // never, but for the planted bug
        return planted(Bug::priority_beats_lsn) && configuration().find(candidate)->priority > settings.priority;
    }
    void answer_vote(NodeId candidate, const VoteRequest &request, Refusal refusal);
    void gate_closed(const LocalState &state);
    void decide_vote();
    void on_vote_reply(const Message &message, const VoteReply &reply);
    void count_ballot();
    bool can_still_win() const;
    void lose_ballot(const std::string &why);
    void win(const std::string &how);

    // node_forced.cpp
    std::string own_obstacle_to_force(Instant at) const;
    std::string forced_obstacle(Instant at) const;
    std::string missing_voters(Instant at) const;
    std::string forced_price() const;
    void force_failover();
    void take_over();

    // node_operator.cpp
    std::string obstacle(const Command &command, Instant at) const;
    std::string obstacle_to_lead(Instant at) const;
    std::string obstacle_to(const Switchover &command, Instant at) const;
    std::string obstacle_to(const SetPaused &command, Instant at) const;
    std::string obstacle_to(const RemoveMember &command, Instant at) const;
    std::string obstacle_to(const StandByOrder &command, Instant at) const;
    std::string cannot_succeed(const Member &member, Instant at) const;
    NodeId best_successor(Instant at, NodeId rather_not = NodeId::none) const;
    std::string nobody_can_succeed(Instant at) const;
    void obey(const Command &command);
    void ask_successor();
    void begin_handover(NodeId to, const std::string &why);
    void consider_handover();
    void end_stand_in();
    void give_up_handover(const std::string &why);
    void stand_now();
    bool order_stands(Instant at) const { return order.holds && at < ordered_until && !acts(); }
    void end_order(const std::string &why, NodeId ahead);

    // node_gossip.cpp
    struct Peer { NodeId id; bool asks; };
    void know_members();
    void gossip_round();
    std::vector<Peer> peers_of_round();
    std::vector<Peer> primary_peers();
    std::vector<Peer> gossip_peers();
    bool lacks_configuration(NodeId to) const;
    const std::vector<LinkReport> &link_reports();
    void add_news(NodeId to, std::size_t bytes, std::vector<MemberReport> &rows, std::vector<Rumour> &rumours);
    void add_news(NodeId to, Heartbeat &heartbeat);
    void add_news(NodeId to, HeartbeatReply &reply);
    void learn(const MemberReport &report);
    void learn(NodeId from, const std::vector<MemberReport> &rows, const std::vector<Rumour> &rumours);
    void asked(NodeId peer);
    void greet(NodeId peer, bool with_configuration);
    void compare_configurations(NodeId peer, Version theirs, bool told_ours);
    void heard_from(NodeId peer);
    void on_indirect_probe(const Message &message, const IndirectProbe &probe);
    void on_indirect_reply(const IndirectReply &reply);
    Liveness liveness(NodeId id, Instant at) const;
    std::vector<Doubted> doubts(Instant at) const;

    // node_primary.cpp
    void heartbeat_round();
    Heartbeat make_heartbeat(NodeId to, bool asks);
    MemberReport own_report(bool with_links);
    void on_heartbeat_reply(const Message &message, const HeartbeatReply &reply);
    void update_lease();
    bool asked_everybody() const { return unasked.empty() || now >= started + promised_lease(); }
    void consider_contact();
    void update_record();
    void advance_configuration();
    void first_record(const Ballot &ballot);
    void record(Configuration next, const std::string &why);
    void finish_postgres_first();
    void apply_sync();
    bool postgres_meets(const SyncRule &recorded) const;
    bool caught_up_to(Lsn lsn, const SyncRule &rule) const;
    bool answers(NodeId id) const;
    MembershipFacts membership_facts() const;
    void promoted(const LocalState &state, const Lineage &history);
    void promotion_failed(const std::string &why);
    void sync_in_effect_now(const SyncRule &rule);
    void step_down(const std::string &why);
    void drop_primary_state();

    // node_sync.cpp
    Duration stream_patience() const { return std::max(settings.standby_patience, 5 * settings.heartbeat_interval); }
    void look_for_hanging_streams();
    void watch_streams();
    void note_waiting();
    std::string why_lost(NodeId id) const;
    void consider_settled();

    // node_status.cpp
    Status status(Instant at) const;
    std::string failover_obstacle(Instant at) const;
    void tell_rejoins(Status &status) const;
    void warn_of_parameters(Status &status) const;
    std::string lacks_for_election(Instant at) const;
    std::string reason_now(Instant at) const;
    std::string way_on_alone(Instant at, const std::string &before_that) const;
    std::string why_no_primary(Instant at) const;
    void note_waits();
    std::string outside_sync_set(const std::set<NodeId> &would_vote) const;
};

} // namespace pg_ha
