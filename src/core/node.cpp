// SPDX-License-Identifier: PostgreSQL
//
// Entry of the core: take an event, let the parts act, check the invariants, hand the outputs back.
#include "node_impl.hpp"

#include <algorithm>

namespace pg_ha {

using std::chrono::milliseconds;
using std::chrono::minutes;

namespace {

// How young a copy of the data directory may be and still be taken for the real one, if the server crashed.
constexpr Duration resave_interval = minutes(5);

std::uint64_t scrambled(std::uint64_t z) { // splitmix64
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return z ^ (z >> 31);
}

} // namespace

namespace {

// Everything but the list of members, which `to` keeps as it has it.
void copy_without_members(DurableState &from, DurableState &to) {
    std::vector<Member> from_members = std::move(from.configuration.members);
    std::vector<Member> to_members = std::move(to.configuration.members);
    from.configuration.members.clear();
    to = from;
    from.configuration.members = std::move(from_members);
    to.configuration.members = std::move(to_members);
}

} // namespace

Node::Impl::Impl(const Settings &s, const DurableState &state, const LocalState &l, std::uint64_t seed, Instant t)
    : settings(s), durable(state), local(l), instance(static_cast<Instance>(scrambled(~seed) | 1)), started(t), now(t),
      random_state(seed), undo{state, Role::passive, NodeId::none}, gossip(seed) {}

Node::Node(const Settings &settings, const DurableState &state, const LocalState &local, std::uint64_t seed, Instant now)
    : impl_(std::make_unique<Impl>(settings, state, local, seed, now)) {}
Node::~Node() = default;
Node::Node(Node &&) noexcept = default;
Node &Node::operator=(Node &&) noexcept = default;

Outputs Node::start(Instant now) {
    Impl &n = *impl_;
    n.now = n.started = now;
    n.out.clear();
    n.out.push_back(SetLease{long_ago});
    n.heartbeat_due = now;
    n.resave_due = now + resave_interval;
    n.undo.role = n.resting_role(); // what it is if the first save fails
    if (n.configuration().cluster == no_cluster) {
        n.become(n.settings.cluster == no_cluster ? Role::passive : Role::joining, "started without a membership");
        return std::move(n.out);
    }
    n.out.push_back(SetPeers{n.configuration().members});
    n.know_members();
    const bool alone = n.configuration().voter_count() == 1 && n.is_voter();
    const bool own_term = n.durable.voted_for == n.durable.self && n.local.position.timeline == timeline_of(n.durable.term);
    if (!n.local.in_recovery && (alone || own_term)) {
        // The worker restarted under a running primary, or a cluster of one: nobody else can have
        // been elected in this term.  The lease comes back only when a majority answers.
        n.leader = n.durable.self;
        n.leading_since = now;
        if (n.durable.voted_for != n.durable.self) {
            n.durable.term = next(n.durable.term);
            n.durable.voted_for = n.durable.self;
            n.persist();
        }
        if (alone) // nobody can have been elected meanwhile, but an operator may have forced somebody
            for (const Member &member : n.configuration().members)
                if (member.id != n.durable.self)
                    n.unasked.insert(member.id);
        n.become(Role::primary, n.unasked.empty() ? "resumes its term"
                                                  : "resumes its term when the other members have answered, or after one lease");
        n.opened_at = n.local.position.lsn;
        n.apply_sync();
        if (n.configuration().version.term == n.durable.term)
            n.heartbeat_round();
        else
            n.first_record({});
    } else {
        n.become(Role::standby, "started");
        n.check_writable();
        n.apply_sync();
        n.schedule_election();
    }
    check_state(n.view());
    return std::move(n.out);
}

Outputs Node::step(const Event &event, Instant now) {
    Impl &n = *impl_;
    const CoreView before = n.view();
    n.now = std::max(now, n.now);
    n.out.clear();
    n.know_members();
    if (!std::holds_alternative<PersistFailed>(event))
        n.remember();
    n.dispatch(event);
    n.consider_settled();
    n.consider_handover();
    const CoreView after = n.view();
    if (!std::holds_alternative<PersistFailed>(event))
        check_step(before, after);
    check_state(after);
    return std::move(n.out);
}

Instant Node::next_deadline() const { return impl_->next_deadline(); }

void Node::reconfigure(const Settings &settings) {
    const Settings old = impl_->settings;
    impl_->settings = settings;
    impl_->settings.node_name = old.node_name;
    impl_->settings.kind = old.kind;
    impl_->settings.cluster = old.cluster;
    impl_->settings.system_identifier = old.system_identifier;
}

ForcedFailover Node::forced_failover(Instant now) const {
    std::string obstacle = impl_->forced_obstacle(now);
    return {obstacle, impl_->missing_voters(now), obstacle.empty() ? impl_->forced_price() : ""};
}
std::string Node::obstacle(const Command &command, Instant now) const { return impl_->obstacle(command, now); }
Status Node::status(Instant now) const { return impl_->status(now); }
const DurableState &Node::durable() const { return impl_->durable; }
Instance Node::instance() const { return impl_->instance; }
std::vector<Doubted> Node::doubts(Instant now) const { return impl_->doubts(now); }
Liveness Node::liveness(NodeId member, Instant now) const { return impl_->liveness(member, now); }

const MemberReport *Node::report(NodeId member) const {
    const MemberTable::Row *row = impl_->table.find(member);
    return row ? &row->report : nullptr;
}

// ---- dispatch ------------------------------------------------------------------------------------

void Node::Impl::dispatch(const Event &event) {
    struct Visitor {
        Impl &n;
        void operator()(const Tick &) { n.tick(); }
        void operator()(const Received &e) { n.receive(e.message); }
        void operator()(const Sampled &e) { n.sampled(e); }
        void operator()(const GateClosed &e) { n.gate_closed(e.local); }
        void operator()(const PersistFailed &e) { n.persist_failed(e.stored); }
        void operator()(const LinkUp &e) { n.link_up(e.peer); }
        void operator()(const PeerGone &e) { n.peer_gone(e.peer); }
        void operator()(const StreamEnded &e) { n.stream_end(e.finished); }
        void operator()(const Promoted &e) { n.promoted(e.local, e.lineage); }
        void operator()(const PromotionFailed &e) { n.promotion_failed(e.reason); }
        void operator()(const ShuttingDown &e) { n.shutting_down(e.clean); }
        void operator()(const SyncInEffect &e) { n.sync_in_effect_now(e.rule); }
        void operator()(const Bootstrap &e) { n.bootstrap(e); }
        void operator()(const ForceFailover &) { n.force_failover(); }
        void operator()(const Command &e) { n.obey(e); }
    };
    if (role == Role::stopping)
        return; // it has resigned; nothing it says or does counts any more
    std::visit(Visitor{*this}, event);
}

void Node::Impl::receive(const Message &message) {
    if (message.cluster != settings.cluster || message.to != durable.self || message.from == durable.self ||
        message.from == NodeId::none)
        return;
    const bool member = configuration().find(message.from) != nullptr;
    const Run run{message.incarnation, message.instance, message.saves};
    if (const Hearing hearing = table.heard(message.from, run, now); hearing != Hearing::accepted)
        return refuse(message, hearing);
    connected.insert(message.from);
    heard_from(message.from);
    struct Visitor {
        Impl &n;
        const Message &m;
        void operator()(const Heartbeat &b) { n.on_heartbeat(m, b); }
        void operator()(const HeartbeatReply &b) { n.on_heartbeat_reply(m, b); }
        void operator()(const VoteRequest &b) { n.on_vote_request(m, b); }
        void operator()(const VoteReply &b) { n.on_vote_reply(m, b); }
        void operator()(const Resign &b) { n.on_resign(m, b); }
        void operator()(const StandNow &) { n.stand_now(); }
        void operator()(const JoinRequest &b) { n.on_join(m, b); }
        void operator()(const Rejected &b) { n.on_rejected(m, b); }
        void operator()(const IndirectProbe &b) { n.on_indirect_probe(m, b); }
        void operator()(const IndirectReply &b) { n.on_indirect_reply(b); }
    };
    const bool any_sender = std::holds_alternative<JoinRequest>(message.body) ||
                            std::holds_alternative<Rejected>(message.body) ||
                            std::holds_alternative<Heartbeat>(message.body);
    if (member || any_sender)
        std::visit(Visitor{*this, message}, message.body);
    else if (role == Role::primary && record_in_force && std::holds_alternative<HeartbeatReply>(message.body))
        send(message.from, Rejected{Rejection::not_member, message.incarnation, message.instance}); // removed while it was away
}

// I2: whoever remembers what this identity has been may say so; it needs no majority to be true.
void Node::Impl::refuse(const Message &message, Hearing hearing) {
    if (hearing == Hearing::late)
        return;
    const Rejection why = hearing == Hearing::cloned ? Rejection::cloned_identity : Rejection::stale_incarnation;
    if (table.refused_first(message.from))
        out.push_back(Note{role, role, durable.term, local.position,
                           "does not hear a server that speaks as " + name_of(message.from) + ": " + to_string(why)});
    send(message.from, Rejected{why, message.incarnation, message.instance});
}

void Node::Impl::tick() {
    if (now >= heartbeat_due) {
        gossip_round();
        note_waits();
        if (role == Role::joining)
            ask_admission();
        else if (role != Role::passive)
            heartbeat_round();
        heartbeat_due = now + settings.heartbeat_interval;
    }
    if (now >= resave_due)
        resave();
    if (save_doubtful && role == Role::primary)
        save_again();
    if (acts())
        update_lease();
    if (handover && now >= handover->ask_due)
        ask_successor();
    if (role == Role::primary && settings.priority == 0 && now >= hand_over_due)
        end_stand_in();
    if (role == Role::deposed && !demotion_asked && now >= demote_at) { // not in the step that deposed it: its vote leaves first
        demotion_asked = true;
        out.push_back(Demote{reason});
    }
    if (clean_stop_until <= now) {
        clean_stop_until = never;
        void_promise("the primary did not finish its clean stop in time");
    }
    if (ballot && now >= ballot->deadline)
        lose_ballot("no majority in time");
    if (now >= election_due) {
        election_due = never;
        stand();
    }
}

Instant Node::Impl::next_deadline() const {
    if (role == Role::stopping)
        return never;
    Instant next = role == Role::passive ? never : heartbeat_due;
    next = std::min({next, election_due, clean_stop_until});
    if (ballot)
        next = std::min(next, ballot->deadline);
    if (handover)
        next = std::min(next, handover->ask_due);
    if (role == Role::deposed && !demotion_asked && demote_at != long_ago)
        next = std::min(next, demote_at);
    if (acts() && lease_until != long_ago && lease_until > now)
        next = std::min(next, lease_until);
    return next;
}

CoreView Node::Impl::view() {
    CoreView view{{}, role,         leader,
                  lease_until,  term_in_force, gate_open,
                  gate_open ? durable.term : Term::none, sync_in_effect, sync_known};
    copy_without_members(durable, view.durable);
    return view;
}

// What a failed Persist goes back to.  The same version is the same list of members, which is long.
void Node::Impl::remember() {
    const Configuration &old = undo.durable.configuration;
    undo.role = role;
    undo.leader = leader;
    if (old.cluster != configuration().cluster || old.version != configuration().version)
        undo.durable = durable;
    else
        copy_without_members(durable, undo.durable);
}

// ---- small helpers ---------------------------------------------------------------------------------

void Node::Impl::send_members(const Body &body) {
    for (const Member &member : configuration().members)
        if (member.id != durable.self)
            send(member.id, body);
}

void Node::Impl::trace(const std::string &line) {
    if (settings.tracing)
        out.push_back(Trace{line});
}

void Node::Impl::become(Role next, const std::string &why) {
    reason = why;
    if (next == role)
        return;
    out.push_back(Note{role, next, durable.term, local.position, why});
    trace(std::string("role ") + to_string(role) + " -> " + to_string(next) + ": " + why);
    role = next;
}

void Node::Impl::persist() {
    ++durable.saves;
    out.push_back(Persist{durable});
}

// Nothing new to store, perhaps for weeks.  But a copy of the data directory is told from the real one only by
// what was saved since it was made: two saves, as one of difference is what a crash may leave.
void Node::Impl::resave() {
    resave_due = now + resave_interval;
    persist();
    persist();
}

// What a failed save has left on disk is what this node will show after a restart, perhaps a record by which fewer
// elect.  Only when the state of now has been saved over it, PostgreSQL may go back to the rule of now.
void Node::Impl::save_again() {
    save_doubtful = false;
    persist();
    apply_sync();
}

// The only chance in the core, from the seed it was given.
Duration Node::Impl::jitter(Duration most) {
    const std::uint64_t z = scrambled(random_state += 0x9E3779B97F4A7C15ull);
    return most <= Duration{0} ? Duration{0} : Duration{static_cast<std::int64_t>(z % static_cast<std::uint64_t>(most.count()))};
}

std::string Node::Impl::name_of(NodeId id) const {
    const Member *member = configuration().find(id);
    return member ? member->name : "node " + std::to_string(raw(id) % 10000);
}

// ---- events about this server ------------------------------------------------------------------------

void Node::Impl::bootstrap(const Bootstrap &event) {
    if (configuration().cluster != no_cluster)
        return;
    durable.term = std::max(durable.term, static_cast<Term>(raw(event.timeline)));
    durable.voted_for = durable.self;
    Configuration &c = durable.configuration;
    c.cluster = event.cluster;
    c.system_identifier = event.system_identifier;
    c.version = {durable.term, 1};
    c.synchronous = settings.synchronous;
    c.lease = settings.lease_duration;
    c.recorded_by = durable.self;
    c.members = {own_member()};
    c.members[0].voter = true;
    if (settings.synchronous)
        c.sync = SyncRule{{durable.self}, 1};
    persist();
    leader = durable.self;
    record_in_force = term_in_force = true; // a majority of one has stored it
    stored_versions[durable.self] = c.version;
    become(Role::primary, "bootstrapped");
    opened_at = local.position.lsn;
    apply_sync();
    heartbeat_round();
    heartbeat_due = now + settings.heartbeat_interval;
}

void Node::Impl::sampled(const Sampled &seen) {
    local = seen.local;
    if (handover && !handover->needs)
        handover->needs = local.position.lsn; // the lease was over before: whatever was answered ends here
    if (seen.confirmed != confirmed || seen.confirmed >= local.position.lsn)
        confirmed_grew = now;
    confirmed = seen.confirmed;
    rejoins = seen.rejoins;
    if (!seen.lineage.empty())
        lineage = seen.lineage;
    if (local.streaming)
        stream_ended = false; // it goes on, on the next timeline; the end seen before was that of the last one
    // Commits of the old rule end here at the latest: looked at after the new one came into effect.
    if (postgres_first && !catch_up_to && sync_known && !sync_pending && sync_in_effect == postgres_first->next.sync)
        catch_up_to = local.position.lsn;
    if (role == Role::standby) {
        check_writable();
        if (seen.foreign != Timeline::none && seen.foreign == local.position.timeline && local.in_recovery &&
            !promoted_by_hand())
            disown_wal("its timeline " + std::to_string(raw(seen.foreign)) + " is not the primary's of that number");
        if (!local.streaming)
            consider_evidence();
        consider_gate();
        if (election_due == never && !ballot)
            schedule_election();
    }
}

void Node::Impl::shutting_down(bool clean) {
    out.push_back(SetLease{long_ago});
    lease_until = long_ago;
    if (acts())
        send_members(Resign{clean});
    if (!clean)
        shut_gate(); // on a clean stop the server itself ends the stream, after the last byte
    gate_open = false;
    ballot.reset();
    pending_vote.reset();
    become(Role::stopping, clean ? "the server stops" : "the server has crashed or stops at once");
}

// What a node is that neither stands nor leads.
Role Node::Impl::resting_role() const {
    if (configuration().cluster == no_cluster)
        return settings.cluster == no_cluster ? Role::passive : Role::joining;
    return local.in_recovery || settings.kind == MemberKind::witness ? Role::standby : Role::deposed;
}

// The state file could not be written: nothing of the step since its last good save has left this node.
// Go back to what is on disk; elections and changes are tried again later.
void Node::Impl::persist_failed(const std::optional<DurableState> &stored) {
    const bool was_acting = undo.role == Role::promoting || undo.role == Role::primary;
    const bool same_term = !stored || stored->term == undo.durable.term;
    durable = stored ? *stored : undo.durable;
    leader = same_term ? undo.leader : NodeId::none;
    const bool opened = undo.role == Role::promoting && role == Role::primary; // in this step; nobody says it again
    const bool admitted = undo.role == Role::joining && configuration().cluster != no_cluster; // and that was stored
    const Role before = opened ? Role::primary : undo.role;
    Role back = same_term && before != Role::candidate && !admitted ? before : resting_role();
    if (back == Role::deposed && undo.role != Role::deposed && !was_acting)
        back = Role::standby; // the next look finds it writable, and stores whose WAL that is (check_writable)
    ballot.reset();
    pending_vote.reset();
    campaign_after_gate = force_after_gate = false;
    postgres_first.reset();
    if (acts() && !(was_acting && same_term))
        drop_primary_state();
    if (back == Role::primary) // perhaps sessions were let in by this step, or it was deposed, and that was dropped
        opened_at = local.position.lsn;
    become(back, "the state file cannot be written");
    reason = "the state file cannot be written: this node cannot vote or change the configuration";
    // Outputs after the failed one were dropped: ask again for what they should have done.
    shut_gate();
    sync_asked.reset();
    save_doubtful = true;
    leader_lineage.clear(); // perhaps of a primary that could not be followed: the next heartbeat brings it again
    if (acts()) { // perhaps the lease was taken away, for a handover that nobody has been told of
        handover.reset();
        lease_until = long_ago;
        out.push_back(SetLease{long_ago});
        update_lease();
    }
    apply_sync();
    schedule_election();
}

} // namespace pg_ha
