// SPDX-License-Identifier: PostgreSQL
//
// Each check runs at the moment at which the promise could first be seen broken.
#include "checkers.hpp"
#include "world.hpp"

#include <algorithm>

namespace pg_ha::sim {

namespace {
Time patience(const Options &o) {
    return std::max(o.patience, 5 * o.heartbeat);
}
// The loss is noticed; the steps of both halves, each with a save that may fail and settings that spread.
Time waits_at_most(const Options &o) {
    return 3 * patience(o) + 4 * o.lease;
}
std::string text(Term term) {
    return std::to_string(raw(term));
}
std::string text(NodeId id) {
    return std::to_string(raw(id) % 10000);
}
} // namespace

// ---- votes ---------------------------------------------------------------------------------------------

// A process reads its state: it may know more than it was told (a save that failed and yet was stored),
// never less.
// S13: a host that was put back speaks as somebody who it is not.  What it says is kept apart; it has to have no effect.
Checkers::Stored *Checkers::stored_of(Host &host, NodeId id) {
    if (id == host.impostor && id != NodeId::none)
        return &impostors_[static_cast<std::size_t>(host.index)];
    const auto found = stored_.find(id);
    return found == stored_.end() ? nullptr : &found->second;
}

void Checkers::started(Host &host, const DurableState &state) {
    primary_known_at_.erase(state.self);
    if (state.self == host.impostor) {
        *stored_of(host, state.self) = {state.incarnation, state.term, state.voted_for, state.configuration,
                                        state.configuration.version, host.now()};
        if (!host.known_by_peers_only)
            world_.unsafe("S13: " + host.name + " starts as who it was, although its directories do not belong together");
        return;
    }
    Stored &stored = stored_[state.self];
    if (state.term < stored.term)
        world_.unsafe("S1: " + host.name + " starts in term " + text(state.term) + " after " + text(stored.term));
    if (state.incarnation <= stored.incarnation)
        world_.unsafe("S1: " + host.name + " starts with an incarnation that it had before");
    if (state.term > stored.term)
        stored.voted_for = state.voted_for;
    stored.term = state.term;
    stored.incarnation = state.incarnation;
    stored.started = host.now();
    stored.configuration = state.configuration;
    stored.newest = std::max(stored.newest, state.configuration.version);
}

void Checkers::saved(Host &host, const DurableState &state) {
    if (state.self == host.impostor) {
        Stored &own = *stored_of(host, state.self);
        own = {state.incarnation, state.term, state.voted_for, state.configuration, own.newest, own.started};
        return;
    }
    Stored &stored = stored_[state.self];
    if (state.term < stored.term)
        world_.unsafe("S1: " + host.name + " goes back from term " + text(stored.term) + " to " + text(state.term));
    if (state.incarnation < stored.incarnation)
        world_.unsafe("S1: the incarnation of " + host.name + " goes back");
    if (state.term == stored.term && stored.voted_for != NodeId::none && state.voted_for != stored.voted_for)
        world_.unsafe("S1: " + host.name + " changes its vote in term " + text(state.term));
    if (state.term > stored.term && state.voted_for == state.self)
        stands(host, state);
    if (state.configuration.version != stored.configuration.version)
        changes_record(host, stored, state);
    stored = {state.incarnation, state.term, state.voted_for, state.configuration,
              std::max(stored.newest, state.configuration.version), stored.started};
}

// A switchover loses nothing, in either mode: what its primary acknowledged, the successor has.
void Checkers::handed_over(Host &host, NodeId successor) {
    told_to_stand(successor);
    const WalPoint own = host.postgres.wal;
    const std::uint64_t acknowledged = world_.wal.branch(own.branch).acknowledged;
    for (int i = 0; i < world_.options.hosts; i++) {
        const Host &other = world_.host(i);
        if (other.id() == successor && other.impostor == NodeId::none && acknowledged != 0 &&
             !world_.wal.contains(other.postgres.wal, {own.branch, acknowledged}))
            world_.unsafe("S4: " + host.name + " hands over to " + other.name + ", which lacks a commit acknowledged at " +
                          to_string(world_.wal.position({own.branch, acknowledged})));
    }
}

// A new term deposes the primary of the old one, so nobody may begin one before a majority would vote.
void Checkers::stands(Host &host, const DurableState &state) {
    const std::set<NodeId> &would_vote = pre_votes_[{state.term, state.self}];
    const Stored &before = stored_[state.self];
    const auto last = leaders_.find(before.configuration.version.term);
    // Its record may be all that there is of it, if it died before it said so to anybody.
    const bool led = last != leaders_.end() ? last->second == state.self : before.voted_for == state.self;
    if (before.configuration.paused && !led && !told_to_stand_.contains(state.self))
        world_.unsafe("L4: " + host.name + " begins term " + text(state.term) + " although elections are paused");
    std::size_t count = 0;
    for (const Member &member : state.configuration.members)
        count += member.voter && (member.id == state.self || would_vote.contains(member.id));
    if (2 * count <= state.configuration.voter_count())
        world_.unsafe("L3: " + host.name + " begins term " + text(state.term) + " with the pre-votes of " +
                      std::to_string(count) + " of " + std::to_string(state.configuration.voter_count()) + " voters");
}

// Who enters S must be able to confirm commits: it has streamed a moment ago.  Where clocks stand still with their
// machines, nobody knows what a moment is.
void Checkers::enters_sync_set(Host &host, const Stored &stored, const DurableState &state) {
    if (world_.options.clocks_stop)
        return;
    const std::vector<NodeId> &before = stored.configuration.sync.set, &now = state.configuration.sync.set;
    for (int i = 0; i < world_.options.hosts; i++) {
        Host &other = world_.host(i);
        const auto in = [&](const std::vector<NodeId> &set) {
            return other.disk.state() && std::find(set.begin(), set.end(), other.disk.state()->self) != set.end();
        };
        if (&other != &host && in(now) && !in(before) && !other.postgres.streaming() &&
            world_.now() - other.postgres.last_streamed > patience(world_.options) + world_.options.lease)
            world_.violation(Outcome::stuck, "L2: " + host.name + " lets " + other.name +
                                                 " into the sync set, which does not stream");
    }
}

void Checkers::changes_record(Host &host, const Stored &stored, const DurableState &state) {
    const Version before = stored.configuration.version, now = state.configuration.version;
    const auto leader = leaders_.find(now.term);
    if (now.term != state.term || state.voted_for != state.self ||
        (leader != leaders_.end() && leader->second != state.self))
        return; // somebody else's
    for (BranchId b = 0; world_.options.synchronous && b < world_.wal.count(); b++)
        if (const Branch &branch = world_.wal.branch(b);
            branch.timeline <= timeline_of(now.term) && branch.acknowledged != 0 &&
            !elections_see(state.configuration, {b, branch.acknowledged}))
            world_.unsafe("S7: " + host.name + " records a write quorum of " +
                          std::to_string(state.configuration.sync.quorum) + " of " +
                          std::to_string(state.configuration.sync.set.size()) + ", who do not have the commit at " +
                          to_string(world_.wal.position({b, branch.acknowledged})));
    if (now.term != before.term || now.index <= before.index)
        return;
    enters_sync_set(host, stored, state);
    std::size_t count = 0;
    for (const Member &member : stored.configuration.members)
        if (const auto voter = stored_.find(member.id); member.voter && voter != stored_.end())
            count += voter->second.newest >= before;
    if (2 * count <= stored.configuration.voter_count())
        world_.unsafe("S12: " + host.name + " records configuration " + text(now.term) + "." +
                      std::to_string(now.index) + " while " + text(before.term) + "." + std::to_string(before.index) +
                      " is not on the disks of a majority");
}

// ---- promises and leases ---------------------------------------------------------------------------------

void Checkers::promised(Host &host, const Message &message, const HeartbeatReply &reply) {
    if (asked_nothing_.contains({message.to, reply.sent}))
        return;
    const Stored &leader = stored_[message.to];
    const bool of_this_run = reply.sent >= leader.started;
    const Promise promise{message.term, of_this_run ? leader.incarnation : Incarnation::none, host.index,
                          host.now() + Duration{world_.options.lease}};
    promises_[{message.term, message.from}] = newest_promise_[message.from] = promise;
}

// Where no synchronous standby protects commits, a promise ends early only by the primary's own word.
void Checkers::keeps_promise(Host &host, const Message &message, Term term) {
    const Promise &promise = newest_promise_[message.from];
    const bool resigned = newest_resignation_ >= Resignation{promise.term, promise.leader_incarnation};
    if (!world_.options.synchronous && term > promise.term && host.now() < promise.until && !resigned)
        world_.unsafe("S3: " + host.name + " grants a vote of term " + text(term) +
                      " although it has promised the primary of term " + text(promise.term) + " to wait");
}

// By any clock: until the lease has ended, so many voters are bound that nobody else can be elected.
void Checkers::lease_set(Host &host, Instant until) {
    leases_[static_cast<std::size_t>(host.index)] = until;
    if (until == long_ago || world_.options.clocks_stop)
        return;
    const Stored &stored = stored_[host.id()];
    const Time end = host.world_time(until) - 100 * microsecond; // clocks here move in small steps
    std::size_t bound = 0;
    for (const Member &member : stored.configuration.members) {
        const auto promise = promises_.find({stored.term, member.id});
        bound += member.voter && (member.id == host.id() ||
                                  (promise != promises_.end() &&
                                   world_.host(promise->second.host).local_time(end) <= promise->second.until));
    }
    if (2 * bound <= stored.configuration.voter_count())
        world_.unsafe("S3: " + host.name + " takes a lease that outlives the promises of all but " +
                      std::to_string(bound) + " of " + std::to_string(stored.configuration.voter_count()) + " voters");
}

// Does every group of members that could elect under this record have one that holds the commit?
bool Checkers::elections_see(const Configuration &configuration, WalPoint commit) {
    const std::vector<NodeId> &set = configuration.sync.set;
    if (set.empty())
        return true;
    int holders = 0;
    for (int i = 0; i < world_.options.hosts; i++) {
        const Host &host = world_.host(i);
        const auto counts = [&](NodeId id) { return std::find(set.begin(), set.end(), id) != set.end(); };
        const bool member = host.disk.usable() && host.impostor == NodeId::none && counts(host.disk.usable()->self);
        holders += member && world_.wal.contains(host.postgres.wal, commit);
        // An identity that is lost can't elect any more, with or without the commit.
        const std::vector<NodeId> &lost = host.disk.lost_identities();
        holders += static_cast<int>(std::count_if(lost.begin(), lost.end(), counts));
    }
    return holders >= configuration.sync.quorum;
}

void Checkers::vote_sent(Host &host, const Stored &stored, const Message &message, const VoteReply &reply) {
    if (stored.term != reply.term || stored.voted_for != message.to)
        world_.unsafe("S1: " + host.name + " grants a vote of term " + text(reply.term) + " that is not on its disk");
    const auto [vote, fresh] = votes_.try_emplace({reply.term, message.from}, message.to);
    if (!fresh && vote->second != message.to)
        world_.unsafe("S1: " + host.name + " votes twice in term " + text(reply.term));
    const Position position = host.witness() ? Position{} : world_.wal.position(host.postgres.wal);
    if (host.postgres.in_recovery && reply.position != position)
        world_.unsafe("S6: " + host.name + " reports " + to_string(reply.position) + " with its vote, but has " +
                      to_string(position));
    if (host.postgres.streaming())
        world_.unsafe("S6: " + host.name + " votes while it still receives WAL");
}

void Checkers::sent(Host &host, const Message &message) {
    const Stored *found = stored_of(host, message.from);
    if (!found)
        return world_.unsafe("S1: " + host.name + " speaks as an identity that is not on its disk");
    const Stored &stored = *found;
    if (message.term > stored.term)
        world_.unsafe("S1: " + host.name + " speaks of term " + text(message.term) + " before it is on its disk");
    if (message.incarnation != stored.incarnation)
        world_.unsafe("S1: " + host.name + " speaks with another incarnation than the one on its disk");
    if (message.from == host.impostor)
        return; // nobody may listen; if somebody does, there will be a winner without enough votes
    if (const VoteReply *reply = std::get_if<VoteReply>(&message.body); reply && reply->granted && !reply->pre)
        vote_sent(host, stored, message, *reply);
    else if (reply && reply->granted)
        pre_votes_[{reply->term, message.to}].insert(message.from);
    if (const VoteReply *reply = std::get_if<VoteReply>(&message.body); reply && reply->granted)
        keeps_promise(host, message, reply->term);
    if (const HeartbeatReply *reply = std::get_if<HeartbeatReply>(&message.body); reply && reply->follows)
        promised(host, message, *reply);
    if (const Resign *resign = std::get_if<Resign>(&message.body)) {
        newest_resignation_ = std::max(newest_resignation_, {message.term, message.incarnation});
        if (resign->successor != NodeId::none)
            handed_over(host, resign->successor);
    }
    if (const Heartbeat *heartbeat = std::get_if<Heartbeat>(&message.body);
        heartbeat && heartbeat->leader == message.from)
        leads(host, message.from, message.term);
    if (const Heartbeat *heartbeat = std::get_if<Heartbeat>(&message.body); heartbeat && heartbeat->asks_nothing)
        asked_nothing_.emplace(message.from, heartbeat->sent);
}

// ---- one primary per term --------------------------------------------------------------------------------

void Checkers::leads(Host &host, NodeId id, Term term) {
    const auto [leader, fresh] = leaders_.try_emplace(term, id);
    if (!fresh && leader->second != id)
        world_.unsafe("S1: " + host.name + " (" + text(id) + ") leads term " + text(term) + ", which " +
                      text(leader->second) + " leads");
}

void Checkers::promotion_asked(Host &host, Term term) {
    statistics.elections++;
    if (host.impostor != NodeId::none)
        world_.unsafe("S13: " + host.name + " is elected as who it is not any more");
    const Stored &stored = stored_[host.id()];
    if (!host.postgres.in_recovery)
        world_.unsafe("S1: " + host.name + " is told to promote, but is writable");
    if (stored.term != term || stored.voted_for != host.id())
        world_.unsafe("S1: " + host.name + " promotes to term " + text(term) + " without its own vote on disk");
    if (host.postgres.opening())
        world_.unsafe("L3: " + host.name + " is elected in term " + text(term) + " while it is still promoted for an earlier one");
    leads(host, host.id(), term);
    elected_by_members(host, term);
    if (!world_.options.synchronous)
        loses_no_more_than_allowed(host, term);
}

void Checkers::elected_by_members(Host &host, Term term) {
    const Configuration &configuration = stored_[host.id()].configuration;
    std::size_t count = 0;
    for (const Member &member : configuration.members) {
        const auto vote = votes_.find({term, member.id});
        count += member.voter && (member.id == host.id() || (vote != votes_.end() && vote->second == host.id()));
    }
    if (2 * count <= configuration.voter_count())
        world_.unsafe("S13: " + host.name + " is elected in term " + text(term) + " with the votes of " +
                      std::to_string(count) + " of " + std::to_string(configuration.voter_count()) +
                      " voters that are who they say");
}

// How far the primary was, as far as a voter has heard since it was started.
void Checkers::received(Host &host, const Message &message) {
    const Heartbeat *heartbeat = std::get_if<Heartbeat>(&message.body);
    if (!heartbeat || !host.agent() || heartbeat->leader != message.from || heartbeat->lineage_confirmed == Lsn::none ||
        message.term != host.agent()->durable().term || newest_resignation_ >= Resignation{message.term, message.incarnation})
        return;
    primary_known_at_[host.id()] = {message.term, heartbeat->lineage_confirmed};
}

void Checkers::loses_no_more_than_allowed(Host &host, Term term) {
    const Position end = world_.wal.position(host.postgres.wal);
    for (const auto &[voter, known] : primary_known_at_) {
        const auto vote = votes_.find({term, voter});
        const bool for_it = voter == host.id() || (vote != votes_.end() && vote->second == host.id());
        if (for_it && raw(known.first) < raw(term) && raw(end.timeline) <= raw(known.first) && raw(end.lsn) + world_.options.max_lag < raw(known.second))
            world_.unsafe("S5: " + host.name + " is elected at " + to_string(end) + ", but a voter has heard of " +
                          to_string(known.second) + " in term " + text(known.first));
    }
}

void Checkers::promoted(Host &host) {
    const WalPoint head = host.postgres.wal;
    const Timeline timeline = world_.wal.branch(head.branch).timeline;
    for (BranchId b = 0; b < head.branch; b++)
        if (world_.wal.branch(b).timeline == timeline && !world_.wal.branch(b).by_hand)
            world_.unsafe("S9: timeline " + std::to_string(raw(timeline)) + " is used twice, now by " + host.name);
    if (newest_acknowledger_ != no_branch)
        statistics.failovers++;
    world_.trace(host, "PROMOTED to timeline " + std::to_string(raw(timeline)) + " at " +
                           to_string(world_.wal.position(head)));
    lost_writes(head, host.name + " was promoted");
}

void Checkers::lost_writes(WalPoint head, const std::string &who) {
    for (BranchId b = 0; b < world_.wal.count(); b++) {
        const Branch &branch = world_.wal.branch(b);
        if (branch.timeline > world_.wal.branch(head.branch).timeline)
            continue;
        if (world_.options.synchronous && branch.seen != 0 && !world_.wal.contains(head, {b, branch.seen}))
            world_.unsafe("S8: " + who + " at " + to_string(world_.wal.position(head)) + " without what sessions saw at " +
                          to_string(world_.wal.position({b, branch.seen})));
        if (branch.acknowledged == 0 || world_.wal.contains(head, {b, branch.acknowledged}))
            continue;
        statistics.lost++;
        if (world_.options.synchronous)
            world_.unsafe("S4: " + who + " at " + to_string(world_.wal.position(head)) +
                          " without the acknowledged commit at " +
                          to_string(world_.wal.position({b, branch.acknowledged})));
    }
}

// ---- WAL ---------------------------------------------------------------------------------------------------

void Checkers::gate_opened(Host &host, const OpenGate &upstream) {
    const Stored *stored = stored_of(host, host.id()); // of a copy put back: what the copy knows, until it is refused
    const Term own = stored ? stored->term : Term::none;
    if (upstream.term < own)
        world_.unsafe("S6: " + host.name + " opens its gate for term " + text(upstream.term) + ", older than its own " +
                      text(own));
}

void Checkers::rejoin_asked(Host &host, const Rejoin &rejoin) {
    const WalTree &wal = world_.wal;
    if (rejoin.term != stored_[host.id()].term)
        world_.unsafe("S6: " + host.name + " wants to be rewound to the primary of term " + text(rejoin.term) +
                      " in term " + text(stored_[host.id()].term));
    bool begun = false;
    for (BranchId b = 0; b < wal.count(); b++) {
        if (wal.branch(b).timeline != rejoin.timeline || wal.branch(b).by_hand) // its primary was elected
            continue;
        begun = true;
        if (wal.contains({b, UINT64_MAX}, host.postgres.wal))
            world_.unsafe("S10: " + host.name + " wants to throw away WAL up to " +
                          to_string(wal.position(host.postgres.wal)) + ", which is part of its primary's history");
    }
    if (!begun)
        world_.unsafe("S10: " + host.name + " wants to be rewound to timeline " + std::to_string(raw(rejoin.timeline)) +
                      ", which nobody has begun");
}

// What a member held of acknowledged commits it must hold afterwards: others may have counted it.
void Checkers::rewound(Host &host, WalPoint before, WalPoint after) {
    const WalTree &wal = world_.wal;
    for (BranchId b = 0; b < wal.count() && world_.options.synchronous; b++) {
        const WalPoint commit{b, wal.branch(b).acknowledged};
        if (commit.lsn != 0 && wal.contains(before, commit) && !wal.contains(after, commit))
            world_.unsafe("S4: the rewind of " + host.name + " throws away the acknowledged commit at " +
                          to_string(wal.position(commit)));
    }
    statistics.rewinds++;
}

void Checkers::opened(Host &host, bool half_rewound) {
    leases_[static_cast<std::size_t>(host.index)] = long_ago;
    if (half_rewound)
        world_.unsafe("S10: " + host.name + " starts although its data directory is half rewound");
}

void Checkers::flushed(Host &host, WalPoint before, WalPoint after) {
    if (!world_.wal.contains(after, before))
        world_.unsafe("S9: " + host.name + " at " + to_string(world_.wal.position(before)) +
                      " received other WAL up to " + to_string(world_.wal.position(after)));
}

void Checkers::false_claim(Host &host) {
    world_.unsafe("S9: " + host.name + " streams at " + to_string(world_.wal.position(host.postgres.wal)) +
                  ", which its upstream does not have: each of its replies is a false acknowledgement");
}

// ---- commits -------------------------------------------------------------------------------------------------

// The last check has passed.  Without synchronous replication time alone keeps primaries apart, so at
// this very moment no later primary may have passed it.
// S11: a server that was fenced, or never had a lease since its start, stays so until it is given one.
void Checkers::not_fenced(Host &host, const char *what) {
    if (host.now() >= leases_[static_cast<std::size_t>(host.index)])
        world_.unsafe("S11: " + host.name + what + " although it is fenced");
}

void Checkers::begins_write(Host &host) { not_fenced(host, " begins to write"); }

void Checkers::lease_checked(Host &host) {
    not_fenced(host, " lets a commit pass its last check");
    const WalTree &wal = world_.wal;
    const BranchId branch = host.postgres.wal.branch;
    if (newest_writer_ == no_branch || wal.branch(branch).timeline >= wal.branch(newest_writer_).timeline)
        newest_writer_ = branch;
    else if (!world_.options.synchronous)
        world_.unsafe("S3: " + host.name + " still holds the lease of timeline " +
                      std::to_string(raw(wal.branch(branch).timeline)) + " while timeline " +
                      std::to_string(raw(wal.branch(newest_writer_).timeline)) + " acknowledges");
}

void Checkers::acknowledged(Host &host, WalPoint commit) {
    WalTree &wal = world_.wal;
    statistics.acknowledged++;
    const Timeline timeline = wal.branch(commit.branch).timeline;
    for (BranchId b = 0; b < wal.count(); b++) {
        const Branch &later = wal.branch(b);
        if (later.timeline <= timeline || later.by_hand)
            continue;
        // The start of the later branch is what its primary had when it was promoted.
        if (wal.contains({b, later.fork.lsn}, commit))
            statistics.late_answers++;
        else if (world_.options.synchronous)
            world_.unsafe("S2: " + host.name + " acknowledges " + to_string(wal.position(commit)) + " after timeline " +
                          std::to_string(raw(later.timeline)) + " began without it");
        else
            statistics.overlaps++;
    }
    const Stored &stored = stored_[host.id()];
    if (world_.options.synchronous && timeline == timeline_of(stored.term) &&
        !elections_see(stored.configuration, commit))
        world_.unsafe("S7: " + host.name + " acknowledges " + to_string(wal.position(commit)) +
                      ", which fewer than " + std::to_string(stored.configuration.sync.quorum) +
                      " members of the sync set have");
    Branch &branch = wal.branch(commit.branch);
    branch.acknowledged = std::max(branch.acknowledged, commit.lsn);
    if (newest_acknowledger_ == no_branch || timeline > wal.branch(newest_acknowledger_).timeline)
        newest_acknowledger_ = commit.branch;
}

// An ordinary session of a writable server reads all that is visible there.  Whether it may have is judged at
// every later promotion.
void Checkers::seen(WalPoint end) {
    Branch &branch = world_.wal.branch(end.branch);
    branch.seen = std::max(branch.seen, end.lsn);
}

// A primary that a majority answers takes lost standbys out of S, so commits don't wait for them for ever.
void Checkers::waits(Host &host, Time longest) {
    const Options &o = world_.options;
    statistics.longest_wait = std::max(statistics.longest_wait, longest);
    if (o.synchronous && o.min_sync_standbys == 0 && longest > waits_at_most(o))
        world_.violation(Outcome::stuck, "L2: a commit on " + host.name + " waits for " + std::to_string(longest / millisecond) +
                                             " ms although the lease runs");
}

void Checkers::finish(WalPoint survivor) {
    lost_writes(survivor, "the last primary is");
}

} // namespace pg_ha::sim
