// SPDX-License-Identifier: PostgreSQL
//
// The decision table: what a node in each role does about each event, messages of each kind with a lower,
// the same and a higher term included.  decision_table.txt beside this file pins every outcome, so that a change
// of any of them is a line in a diff.  REWRITE=1 writes it anew; read the diff before you commit it.
// No event may break an invariant in any role.
#include "core/invariants.hpp"
#include "core/node.hpp"

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <functional>
#include <sstream>
#include <stdexcept>

using namespace pg_ha;
using std::chrono::milliseconds;
using std::chrono::seconds;

namespace {

constexpr ClusterId cluster{1, 2};
constexpr unsigned first_term = 5;
constexpr unsigned self = 1, other_primary = 2, voter = 3, learner = 4, stranger = 9;

NodeId id(unsigned n) { return static_cast<NodeId>(n); }
Term term(unsigned n) { return static_cast<Term>(n); }

// Three data voters and a learner; n1 is the node under test.
Configuration configuration(unsigned in_term) {
    Configuration c;
    c.cluster = cluster;
    c.version = {term(in_term), 3};
    c.lease = Settings{}.lease_duration;
    for (unsigned n = 1; n <= 4; ++n)
        c.members.push_back({id(n), "n" + std::to_string(n), MemberKind::data, n != learner, {"h", 1}, {"h", 2}, 100});
    c.sync = {{id(1), id(2), id(3)}, 2};
    return c;
}

// One node, brought into a role by the shortest way.
class Subject {
public:
    Settings settings;
    DurableState disk;
    LocalState local;
    Instant now{seconds(1000)};
    std::unique_ptr<Node> node;

    Subject() {
        settings.cluster = cluster;
        settings.node_name = "n1";
        disk = {id(self), "n1", static_cast<Incarnation>(7), term(first_term), NodeId::none, configuration(first_term)};
        local.position_known = true;
        local.position = {static_cast<Timeline>(first_term), static_cast<Lsn>(1000)};
    }
    void start() {
        node = std::make_unique<Node>(settings, disk, local, 1, now);
        node->start(now);
    }
    Role role() const { return node->status(now).role; }
    unsigned in_term() const { return raw(node->durable().term); }

    Outputs step(const Event &event) { // with the answer of the gate, which comes at once
        if (const auto *sampled = std::get_if<Sampled>(&event))
            local = sampled->local;
        Outputs all = node->step(event, now);
        for (std::size_t i = 0; i < all.size(); ++i)
            if (std::holds_alternative<CloseGate>(all[i])) {
                local.streaming = false;
                const Outputs more = node->step(GateClosed{local}, now);
                all.insert(all.end(), more.begin(), more.end());
            }
        return all;
    }
    Received message(unsigned from, unsigned of_term, Body body, unsigned incarnation = 4) const {
        return {{cluster, id(from), node->durable().self, static_cast<Incarnation>(incarnation), term(of_term), std::move(body)}};
    }
    Heartbeat heartbeat(unsigned from, unsigned of_term, bool primary) const {
        Heartbeat h;
        h.sent = now;
        h.wants_reply = true;
        h.leader = primary ? id(from) : NodeId::none;
        h.config_version = {term(of_term), 3};
        h.self.id = id(from);
        h.self.incarnation = static_cast<Incarnation>(4);
        h.self.sequence = 1;
        h.self.term = term(of_term);
        if (primary)
            h.lineage = {{static_cast<Timeline>(first_term), Lsn::none}};
        return h;
    }
    void follow() { step(message(other_primary, in_term(), heartbeat(other_primary, in_term(), true))); }
    void to_deadline() {
        for (now = node->next_deadline(); role() == Role::standby; now = node->next_deadline()) {
            for (const Output &output : step(Tick{}))
                if (const auto *send = std::get_if<Send>(&output); send && std::holds_alternative<VoteRequest>(send->body))
                    return;
        }
    }
    void grant(bool pre) {
        step(message(voter, first_term, VoteReply{pre, term(first_term + 1), true, Refusal::none, local.position, {}}));
    }
    void lead() {
        local.in_recovery = false;
        disk.voted_for = id(self);
        start();
        step(SyncInEffect{disk.configuration.sync});
        answer();
    }
    void answer() {
        HeartbeatReply reply{now, true, node->durable().configuration.version, {}};
        step(message(voter, in_term(), reply));
    }
};

struct State {
    const char *name;
    Role role;
    std::function<void(Subject &)> make;
};

const std::vector<State> states = {
    {"passive", Role::passive,
     [](Subject &s) { s.settings.cluster = no_cluster, s.disk.configuration = {}, s.disk.term = term(0), s.start(); }},
    {"joining", Role::joining, [](Subject &s) { s.disk.configuration = {}, s.disk.term = term(0), s.start(); }},
    {"standby, follows n2", Role::standby, [](Subject &s) { s.start(), s.follow(); }},
    {"standby, just restarted", Role::standby, [](Subject &s) { s.start(); }},
    {"standby, diverged from n2", Role::standby,
     [](Subject &s) {
         s.start();
         Heartbeat forked = s.heartbeat(other_primary, first_term, true);
         forked.lineage = {{static_cast<Timeline>(first_term), static_cast<Lsn>(900)}, {static_cast<Timeline>(first_term + 1), Lsn::none}};
         s.local.replayed = s.local.position.lsn;
         s.step(Sampled{s.local, {}});
         s.step(s.message(other_primary, first_term, forked));
         s.now += 2 * s.settings.heartbeat_interval;
     }},
    {"standby, asks for pre-votes", Role::standby, [](Subject &s) { s.start(), s.follow(), s.to_deadline(); }},
    {"candidate", Role::candidate, [](Subject &s) { s.start(), s.follow(), s.to_deadline(), s.grant(true); }},
    {"promoting", Role::promoting,
     [](Subject &s) { s.start(), s.follow(), s.to_deadline(), s.grant(true), s.grant(false); }},
    {"primary, with lease", Role::primary, [](Subject &s) { s.lead(); }},
    {"primary, fenced", Role::primary,
     [](Subject &s) {
         s.lead();
         s.now += seconds(5);
         s.step(Tick{});
     }},
    {"deposed", Role::deposed,
     [](Subject &s) {
         s.lead();
         s.step(s.message(other_primary, first_term + 1, s.heartbeat(other_primary, first_term + 1, true)));
     }},
    {"stopping", Role::stopping, [](Subject &s) { s.start(), s.follow(), s.step(ShuttingDown{true}); }},
};

struct Happening {
    std::string name; // of a message: its kind
    std::function<Event(Subject &)> make;
    std::string sender = "";
    std::string when = "";
};

Position behind(Position position) { return {position.timeline, static_cast<Lsn>(raw(position.lsn) - 500)}; }

void add_own_events(std::vector<Happening> &list) {
    const auto plain = [&](const char *name, Event event) { list.push_back({name, [event](Subject &) { return event; }}); };
    list.push_back({"Tick at its deadline", [](Subject &s) {
                        if (s.node->next_deadline() != never)
                            s.now = std::max(s.now, s.node->next_deadline());
                        return Event(Tick{});
                    }});
    list.push_back({"Tick ten seconds later", [](Subject &s) { return s.now += seconds(10), Event(Tick{}); }});
    list.push_back({"Sampled: as before", [](Subject &s) { return Event(Sampled{s.local, {}}); }});
    for (const bool in_recovery : {true, false})
        list.push_back({in_recovery ? "Sampled: in recovery" : "Sampled: writable", [in_recovery](Subject &s) {
                            LocalState changed = s.local;
                            changed.in_recovery = in_recovery;
                            return Event(Sampled{changed, {}});
                        }});
    list.push_back({"Sampled: position unknown", [](Subject &s) {
                        LocalState changed = s.local;
                        changed.position_known = false;
                        return Event(Sampled{changed, {}});
                    }});
    list.push_back({"GateClosed", [](Subject &s) { return Event(GateClosed{s.local}); }});
    plain("PersistFailed", PersistFailed{});
    plain("LinkUp n2", LinkUp{id(other_primary)});
    plain("LinkUp stranger", LinkUp{id(stranger)});
    plain("PeerGone n2", PeerGone{id(other_primary)});
    plain("PeerGone n3", PeerGone{id(voter)});
    plain("PeerGone stranger", PeerGone{id(stranger)});
    plain("StreamEnded", StreamEnded{false});
    plain("StreamEnded, finished", StreamEnded{true});
    for (const unsigned more : {0u, 1u})
        list.push_back({more ? "Promoted, timeline = term + 1" : "Promoted, timeline = term", [more](Subject &s) {
                            LocalState open = s.local;
                            open.in_recovery = false;
                            open.position.timeline = static_cast<Timeline>(s.in_term() + more);
                            return Event(Promoted{open, {{open.position.timeline, Lsn::none}}});
                        }});
    plain("PromotionFailed", PromotionFailed{"no space"});
    plain("ShuttingDown, clean", ShuttingDown{true});
    plain("ShuttingDown, crash", ShuttingDown{false});
    plain("ForceFailover", ForceFailover{});
    plain("Switchover to n3", Command{Switchover{id(voter)}});
    plain("SetPaused", Command{SetPaused{true}});
    plain("RemoveMember n4", Command{RemoveMember{id(learner)}});
    plain("StandByOrder", Command{StandByOrder{}});
    plain("SyncInEffect: as recorded", SyncInEffect{configuration(first_term).sync});
    plain("SyncInEffect: w = 1", SyncInEffect{{{id(1), id(2), id(3)}, 1}});
    plain("Bootstrap", Bootstrap{cluster, 77, static_cast<Timeline>(1)});
}

// One message from each sender, in a lower, the same and a higher term.
void add_message(std::vector<Happening> &list, const std::string &name, std::vector<unsigned> senders,
                 const std::function<Body(Subject &, unsigned from, unsigned of_term)> &make) {
    for (const unsigned from : senders)
        for (const int difference : {-1, 0, 1}) {
            const std::string who = from == stranger ? "stranger" : "n" + std::to_string(from);
            const std::string when = difference < 0 ? "lower term" : difference > 0 ? "higher term" : "same term";
            const auto event = [=](Subject &s) {
                const int at = static_cast<int>(s.in_term()) + difference;
                const unsigned of_term = at < 0 ? 0 : static_cast<unsigned>(at);
                return Event(s.message(from, of_term, make(s, from, of_term)));
            };
            list.push_back({name, event, who, when});
        }
}

void add_vote_messages(std::vector<Happening> &list) {
    for (const bool pre : {true, false}) {
        const std::string kind = pre ? "pre-vote" : "vote";
        // A candidate asks in the term that it would start, or has started.
        for (const bool enough : {true, false})
            add_message(list, "VoteRequest (" + kind + (enough ? ", WAL as here)" : ", WAL behind)"),
                        {voter, learner, stranger}, [=](Subject &s, unsigned, unsigned of_term) {
                            const Position end = enough ? s.local.position : behind(s.local.position);
                            return VoteRequest{pre, term(of_term + pre), end, {}, s.node->durable().configuration.version};
                        });
        add_message(list, "VoteReply (" + kind + " granted)", {voter, learner, stranger},
                    [=](Subject &s, unsigned, unsigned) {
                        return VoteReply{pre, term(s.in_term() + pre), true, Refusal::none, s.local.position, {}};
                    });
        for (const Refusal why : {Refusal::promised, Refusal::position_behind})
            add_message(list, "VoteReply (" + kind + " refused: " + to_string(why) + ")", {voter},
                        [=](Subject &s, unsigned, unsigned) {
                            Position ahead = s.local.position;
                            ahead.lsn = static_cast<Lsn>(raw(ahead.lsn) + 500);
                            return VoteReply{pre, term(s.in_term() + pre), false, why, ahead, {}};
                        });
    }
    add_message(list, "VoteRequest (pre-vote, its primary has resigned)", {voter}, [](Subject &s, unsigned, unsigned of_term) {
        const Resignation resigned{s.node->durable().term, static_cast<Incarnation>(4)};
        return VoteRequest{true, term(of_term + 1), s.local.position, resigned, s.node->durable().configuration.version};
    });
    add_message(list, "VoteReply (refused, shows a newer record)", {voter}, [](Subject &s, unsigned, unsigned of_term) {
        return VoteReply{true, term(of_term), false, Refusal::promised, s.local.position, configuration(of_term + 1)};
    });
}

std::vector<Happening> all_events() {
    std::vector<Happening> list;
    add_own_events(list);
    add_message(list, "Heartbeat of a primary", {other_primary, voter, stranger},
                [](Subject &s, unsigned from, unsigned of_term) { return s.heartbeat(from, of_term, true); });
    add_message(list, "Heartbeat of a primary that asks nothing", {other_primary}, [](Subject &s, unsigned from, unsigned of_term) {
        Heartbeat h = s.heartbeat(from, of_term, true);
        h.asks_nothing = true;
        return h;
    });
    add_message(list, "Heartbeat of a primary with a newer record", {other_primary, stranger},
                [](Subject &s, unsigned from, unsigned of_term) {
                    Heartbeat h = s.heartbeat(from, of_term, true);
                    h.configuration = configuration(of_term);
                    h.configuration->version.index += 5;
                    return h;
                });
    add_message(list, "Heartbeat of a standby", {voter, stranger},
                [](Subject &s, unsigned from, unsigned of_term) { return s.heartbeat(from, of_term, false); });
    for (const bool follows : {true, false})
        add_message(list, follows ? "HeartbeatReply (follows)" : "HeartbeatReply (does not follow)", {voter, learner, stranger},
                    [=](Subject &s, unsigned, unsigned) {
                        return HeartbeatReply{s.now, follows, s.node->durable().configuration.version, {}};
                    });
    add_vote_messages(list);
    for (const bool clean : {true, false})
        add_message(list, clean ? "Resign (clean)" : "Resign", {other_primary, voter, stranger},
                    [=](Subject &, unsigned, unsigned) { return Resign{clean}; });
    add_message(list, "StandNow", {voter, stranger}, [](Subject &, unsigned, unsigned) { return StandNow{}; });
    add_message(list, "JoinRequest", {voter, stranger}, [](Subject &, unsigned from, unsigned) {
        const std::string name = from == stranger ? "new" : "n" + std::to_string(from);
        return JoinRequest{{id(from), name, MemberKind::data, false, {"moved", 1}, {"moved", 2}, 100}, 0};
    });
    add_message(list, "JoinRequest (other system)", {stranger}, [](Subject &, unsigned from, unsigned) {
        return JoinRequest{{id(from), "new", MemberKind::data, false, {"h", 1}, {"h", 2}, 100}, 99};
    });
    add_message(list, "JoinRequest (name in use)", {stranger}, [](Subject &, unsigned from, unsigned) {
        return JoinRequest{{id(from), "n1", MemberKind::data, false, {"h", 1}, {"h", 2}, 100}, 0};
    });
    for (const Rejection why : {Rejection::name_in_use, Rejection::wrong_system, Rejection::stale_incarnation,
                                Rejection::not_member, Rejection::cluster_full, Rejection::cloned_identity})
        add_message(list, std::string("Rejected (") + to_string(why) + ")", {other_primary}, [=](Subject &, unsigned, unsigned) {
            return Rejected{why, static_cast<Incarnation>(7)};
        });
    add_message(list, "IndirectProbe", {voter, stranger}, [](Subject &, unsigned, unsigned) { return IndirectProbe{id(learner)}; });
    add_message(list, "IndirectReply", {voter, stranger}, [](Subject &, unsigned, unsigned) { return IndirectReply{id(learner), true}; });
    list.push_back({"Message for another cluster", [](Subject &s) {
                        Received r = s.message(other_primary, s.in_term() + 1, s.heartbeat(other_primary, s.in_term() + 1, true));
                        r.message.cluster = {9, 9};
                        return Event(r);
                    }});
    return list;
}

std::string name_of(const Output &output) {
    struct Names {
        std::string operator()(const Send &o) const {
            static const char *const bodies[] = {"Heartbeat", "HeartbeatReply", "VoteRequest", "VoteReply",
                                                 "Resign",    "StandNow",       "JoinRequest", "Rejected",
                                                 "IndirectProbe", "IndirectReply"};
            std::string text = std::string("send ") + bodies[o.body.index()];
            if (const auto *reply = std::get_if<HeartbeatReply>(&o.body))
                text += reply->follows ? " (follows)" : "";
            if (const auto *request = std::get_if<VoteRequest>(&o.body))
                text += request->pre ? " (pre)" : "";
            if (const auto *reply = std::get_if<VoteReply>(&o.body))
                text += reply->granted ? " (granted)" : std::string(" (") + to_string(reply->refusal) + ")";
            if (const auto *rejected = std::get_if<Rejected>(&o.body))
                text += std::string(" (") + to_string(rejected->why) + ")";
            return text;
        }
        std::string operator()(const Persist &) const { return "persist"; }
        std::string operator()(const CloseGate &) const { return "shut gate"; }
        std::string operator()(const OpenGate &o) const { return "open gate to n" + std::to_string(raw(o.leader)); }
        std::string operator()(const SetLease &o) const { return o.until == long_ago ? "fence" : "lease"; }
        std::string operator()(const Settled &) const { return "settled"; }
        std::string operator()(const Promote &) const { return "promote"; }
        std::string operator()(const Demote &) const { return "demote"; }
        std::string operator()(const Rejoin &o) const { return "rejoin n" + std::to_string(raw(o.leader)); }
        std::string operator()(const ApplySync &) const { return "apply sync"; }
        std::string operator()(const SetPeers &) const { return "set peers"; }
        std::string operator()(const Note &) const { return ""; } // the role says it
        std::string operator()(const Trace &) const { return ""; }
    };
    return std::visit(Names{}, output);
}

std::string names_of(const Outputs &outputs) {
    std::string text, last;
    unsigned times = 0;
    const auto flush = [&] {
        if (times > 0)
            text += (text.empty() ? "" : ", ") + last + (times > 1 ? " x" + std::to_string(times) : "");
    };
    for (const Output &output : outputs) {
        const std::string name = name_of(output);
        if (name.empty())
            continue;
        if (name != last)
            flush(), times = 0;
        last = name;
        ++times;
    }
    flush();
    return text.empty() ? "nothing" : text;
}

std::string outcome(const State &state, const Happening &happening) {
    Subject subject;
    state.make(subject);
    EXPECT_EQ(subject.role(), state.role) << state.name;
    const unsigned term_before = subject.in_term();
    const NodeId id_before = subject.node->durable().self;
    const Event event = happening.make(subject);
    std::string outputs;
    try {
        outputs = names_of(subject.step(event));
    } catch (const std::runtime_error &broken) {
        ADD_FAILURE() << state.name << ", " << happening.name << " " << happening.sender << " " << happening.when << ": " << broken.what();
        return broken.what();
    }
    std::string text = subject.role() == state.role ? "" : std::string("-> ") + to_string(subject.role()) + ", ";
    if (subject.in_term() != term_before)
        text += "term " + std::to_string(term_before) + " -> " + std::to_string(subject.in_term()) + ", ";
    if (subject.node->durable().self != id_before)
        text += "new identity, ";
    return text + outputs;
}

struct Line {
    std::string name, sender, when, outcome;
};

// Lines that differ in one column only become one.
std::vector<Line> merged(const std::vector<Line> &lines, std::string Line::*column, const std::string &any) {
    std::vector<Line> result;
    for (std::size_t i = 0; i < lines.size();) {
        std::size_t end = i + 1;
        bool same = true;
        const auto rest = [&](Line line) { return line.*column = "", line.outcome = "", line; };
        const auto alike = [](const Line &a, const Line &b) { return a.name == b.name && a.sender == b.sender && a.when == b.when; };
        for (; end < lines.size() && alike(rest(lines[end]), rest(lines[i])); ++end)
            same = same && lines[end].outcome == lines[i].outcome;
        if (same && end > i + 1) {
            result.push_back(lines[i]);
            result.back().*column = any;
        } else {
            result.insert(result.end(), lines.begin() + static_cast<std::ptrdiff_t>(i), lines.begin() + static_cast<std::ptrdiff_t>(end));
        }
        i = end;
    }
    return result;
}

std::string whole_table() {
    std::string table = "# What a node does about each event, by role.  Written by decision_table_test.cpp: REWRITE=1.\n"
                        "# n1 is the node; n2, n3 voters, n4 a learner.  \"nothing\": no output, and the role stays.\n";
    for (const State &state : states) {
        table += "\n== " + std::string(state.name) + "\n";
        std::vector<Line> lines;
        for (const Happening &happening : all_events())
            lines.push_back({happening.name, happening.sender, happening.when, outcome(state, happening)});
        for (const Line &line : merged(merged(lines, &Line::when, "any term"), &Line::sender, "anybody")) {
            std::string left = line.name;
            if (!line.sender.empty())
                left += " from " + line.sender + ", " + line.when;
            left.resize(std::max<std::size_t>(left.size(), 64), ' ');
            table += left + " | " + line.outcome + "\n";
        }
    }
    return table;
}

TEST(DecisionTable, IsTotalAndAsPinned) {
    set_invariant_handler([](const char *text) { throw std::runtime_error(text); });
    const std::string table = whole_table();
    set_invariant_handler(nullptr);
    const std::string path = std::string(PG_HA_SOURCE_DIR) + "/src/core/tests/decision_table.txt";
    if (std::getenv("REWRITE")) {
        std::ofstream(path) << table;
        return;
    }
    std::ifstream file(path);
    std::istringstream now(table);
    std::string section, pinned, is;
    for (unsigned line = 1; std::getline(now, is); ++line) {
        if (is.starts_with("== "))
            section = is;
        std::getline(file, pinned);
        ASSERT_EQ(pinned, is) << "line " << line << ", in " << section;
    }
    EXPECT_FALSE(std::getline(file, pinned)) << "more is pinned: " << pinned;
}

} // namespace
