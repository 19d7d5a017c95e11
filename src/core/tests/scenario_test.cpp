// SPDX-License-Identifier: PostgreSQL
//
// Scenario files: a script above a line of dashes, below it the whole conversation it must cause.
// A failing test is a diff of two stories.  REWRITE=1 writes the lower half anew; read the diff
// before you commit it.
//
// Commands, one per line; `#` starts a comment:
//   nodes NAME ...       voters of a ready cluster; the first is primary of term 1.  NAME:learner does not vote,
//                        NAME:witness votes and has no data
//   run MS               let so much time pass
//   write BYTES [NAME..] the primary writes; the named standbys do not receive it
//   kill NAME            the process is gone; its kernel answers, its stream ends
//   silence NAME         the host is gone: nothing answers
//   resign NAME [clean]  the server says that it goes down (clean: and ends its stream after the last byte)
//   freeze NAME / thaw NAME
//   stall NAME / resume NAME  WAL does not reach it any more, though its stream stays connected
//   mute NAME / unmute NAME   WAL reaches it, but what it confirms does not reach the primary's walsender
//   restart NAME [writable]  starts again, as a standby; writable: as the only voter that it believes to be
//   force NAME           the operator's ha_failover(accept_data_loss => true)
//   cut A B / mend A B   the link between two nodes, both ways
#include "core/node.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <sstream>

using namespace pg_ha;
using std::chrono::milliseconds;

namespace {

constexpr Duration network_delay = milliseconds(1);
constexpr Duration promotion_time = milliseconds(25);

struct Server {
    std::string name;
    Settings settings;
    DurableState disk;
    LocalState local;
    std::unique_ptr<Node> node; // null: not running
    bool frozen = false;
    bool stalled = false;
    bool mute = false;
    Lsn told = Lsn::none; // the newest position that its walsender knows
    NodeId upstream = NodeId::none;
};

struct Happening {
    Instant at;
    NodeId to;
    Event event;
};

class Cluster {
public:
    std::string story;

    void command(const std::string &line) {
        std::istringstream in(line);
        std::string verb, a, b;
        in >> verb;
        if (verb == "nodes") {
            std::vector<std::string> names;
            while (in >> a)
                names.push_back(a);
            create(names);
            return;
        }
        tell("", line);
        if (verb == "run") {
            int ms = 0;
            in >> ms;
            run(now_ + milliseconds(ms));
        } else if (verb == "write") {
            std::uint64_t bytes = 0;
            in >> bytes;
            std::set<std::string> missing;
            while (in >> a)
                missing.insert(a);
            write(bytes, missing);
        } else if (verb == "cut" || verb == "mend") {
            in >> a >> b;
            for (auto pair : {std::pair(id(a), id(b)), std::pair(id(b), id(a))})
                verb == "cut" ? (void)cuts_.insert(pair) : (void)cuts_.erase(pair);
        } else {
            in >> a >> b;
            one(verb, server(a), b);
        }
    }

private:
    Instant now_{std::chrono::seconds(100)};
    std::vector<std::unique_ptr<Server>> servers_;
    std::deque<Happening> happenings_;
    std::set<std::pair<NodeId, NodeId>> cuts_;
    ClusterId cluster_{1, 2};

    NodeId id(const std::string &name) {
        for (std::size_t i = 0; i < servers_.size(); ++i)
            if (servers_[i]->name == name)
                return static_cast<NodeId>(i + 1);
        throw std::runtime_error("no node " + name);
    }
    Server &server(const std::string &name) { return *servers_[raw(id(name)) - 1]; }
    Server &server(NodeId node) { return *servers_[raw(node) - 1]; }

    void tell(const std::string &who, const std::string &what) {
        char head[64];
        const auto ms = std::chrono::duration_cast<milliseconds>(now_.time_since_epoch()).count() - 100000;
        std::snprintf(head, sizeof head, "%6lld  %-7s ", static_cast<long long>(ms), who.c_str());
        story += std::string(head) + (who.empty() ? "== " : "") + what + "\n";
    }

    void create(std::vector<std::string> names) {
        Configuration c;
        c.cluster = cluster_;
        c.lease = Settings{}.lease_duration;
        c.version = {static_cast<Term>(1), 1};
        for (std::size_t i = 0; i < names.size(); ++i) {
            const std::size_t colon = names[i].find(':');
            const std::string kind = colon == std::string::npos ? "" : names[i].substr(colon);
            names[i].resize(names[i].size() - kind.size());
            const bool data = kind != ":witness", voter = kind != ":learner";
            c.members.push_back({static_cast<NodeId>(i + 1), names[i], data ? MemberKind::data : MemberKind::witness, voter,
                                 {names[i], 7432}, {names[i], 5432}, 100});
            if (data && voter)
                c.sync.set.push_back(static_cast<NodeId>(i + 1));
        }
        c.sync.quorum = static_cast<std::uint16_t>(c.sync.set.size() / 2 + 1);
        for (std::size_t i = 0; i < names.size(); ++i) {
            auto s = std::make_unique<Server>();
            s->name = names[i];
            s->settings.cluster = cluster_;
            s->settings.node_name = names[i];
            s->settings.peer = {names[i], 7432};
            s->settings.postgres = {names[i], 5432};
            s->settings.kind = c.members[i].kind;
            s->settings.tracing = true;
            s->disk = {static_cast<NodeId>(i + 1), names[i], static_cast<Incarnation>(0), static_cast<Term>(1),
                       static_cast<NodeId>(i == 0 ? 1 : 0), c};
            s->local = {i != 0, true, {static_cast<Timeline>(1), static_cast<Lsn>(0x1000)}, static_cast<Lsn>(0x1000), false, 0};
            servers_.push_back(std::move(s));
        }
        for (auto &s : servers_)
            start(*s);
        run(now_ + milliseconds(500));
        story.clear(); // the quiet beginning is not part of the story
    }

    void start(Server &s) {
        s.disk.incarnation = static_cast<Incarnation>(++s.disk.saves);
        s.node = std::make_unique<Node>(s.settings, s.disk, s.local, raw(s.disk.self), now_);
        perform(s, s.node->start(now_));
    }

    void stop(Server &s, bool kernel_answers) {
        s.node.reset();
        for (auto &other : servers_)
            if (other->node && other->upstream == s.disk.self) {
                other->local.streaming = !kernel_answers && other->local.streaming;
                if (kernel_answers)
                    later(other->disk.self, StreamEnded{false});
            }
        if (kernel_answers)
            for (auto &other : servers_)
                later(other->disk.self, PeerGone{s.disk.self});
    }

    void one(const std::string &verb, Server &s, const std::string &option) {
        if (verb == "kill" || verb == "silence") {
            stop(s, verb == "kill");
        } else if (verb == "resign") {
            step(s, ShuttingDown{option == "clean"});
            for (auto &other : servers_)
                if (other->node && other->upstream == s.disk.self && option == "clean") {
                    other->local.streaming = false;
                    happenings_.push_back({now_ + milliseconds(20), other->disk.self, StreamEnded{true}});
                }
            stop(s, option != "clean");
        } else if (verb == "force") {
            const ForcedFailover forced = s.node->forced_failover(now_);
            tell(s.name, forced.obstacle.empty() ? "price: " + forced.price : "obstacle: " + forced.obstacle);
            step(s, ForceFailover{});
        } else if (verb == "freeze") {
            s.frozen = true;
        } else if (verb == "thaw") {
            s.frozen = false;
        } else if (verb == "stall" || verb == "resume") {
            s.stalled = verb == "stall";
            if (!s.stalled && s.upstream != NodeId::none)
                s.local.replayed = s.local.position.lsn = server(s.upstream).local.position.lsn;
        } else if (verb == "mute" || verb == "unmute") {
            s.mute = verb == "mute";
        } else if (verb == "restart") {
            s.local.in_recovery = option != "writable";
            s.local.streaming = false;
            s.upstream = NodeId::none;
            start(s);
        } else {
            throw std::runtime_error("unknown command " + verb);
        }
    }

    void write(std::uint64_t bytes, const std::set<std::string> &missing) {
        for (auto &s : servers_)
            if (s->node && !s->local.in_recovery)
                for (auto &t : servers_)
                    if (t == s || (t->upstream == s->disk.self && t->local.streaming && !t->stalled && !missing.contains(t->name)))
                        t->local.replayed = t->local.position.lsn = static_cast<Lsn>(raw(t->local.position.lsn) + bytes);
    }

    void later(NodeId to, Event event) { happenings_.push_back({now_ + network_delay, to, std::move(event)}); }

    void run(Instant until) {
        while (true) {
            std::stable_sort(happenings_.begin(), happenings_.end(),
                             [](const Happening &a, const Happening &b) { return a.at < b.at; });
            Instant next = happenings_.empty() ? never : happenings_.front().at;
            Server *ticking = nullptr;
            for (auto &s : servers_)
                if (s->node && !s->frozen && s->node->next_deadline() < next) {
                    next = std::max(now_, s->node->next_deadline());
                    ticking = s.get();
                }
            if (next > until)
                break;
            now_ = std::max(now_, next);
            if (ticking) {
                step(*ticking, Sampled{ticking->local, ticking->local.in_recovery ? Lineage{} : lineage_of(*ticking),
                                       confirmed_to(*ticking)});
                step(*ticking, Tick{});
                continue;
            }
            Happening h = std::move(happenings_.front());
            happenings_.pop_front();
            Server &s = server(h.to);
            if (!s.node)
                continue;
            if (s.frozen) {
                h.at = now_ + milliseconds(10);
                happenings_.push_back(std::move(h));
                continue;
            }
            sample_first(s, h.event);
            step(s, h.event);
        }
        now_ = until;
    }

    void sample_first(Server &s, const Event &event) { // as the agent does
        const auto *received = std::get_if<Received>(&event);
        if (std::holds_alternative<PeerGone>(event) || std::holds_alternative<StreamEnded>(event) ||
            (received && std::holds_alternative<VoteRequest>(received->message.body)))
            step(s, Sampled{s.local, {}, confirmed_to(s)});
    }

    // Up to where the rule of the record is met, as a primary's walsenders know it.
    Lsn confirmed_to(const Server &s) {
        const SyncRule &rule = s.node->durable().configuration.sync;
        if (s.local.in_recovery || rule.quorum < 2)
            return Lsn::none;
        std::vector<Lsn> flushed;
        for (NodeId member : rule.set) {
            Server &t = server(member);
            if (&t == &s || t.upstream != s.disk.self || !t.local.streaming)
                continue;
            if (!t.mute)
                t.told = t.local.position.lsn;
            flushed.push_back(t.told);
        }
        std::sort(flushed.rbegin(), flushed.rend());
        return flushed.size() + 1 < rule.quorum ? Lsn::none : flushed[rule.quorum - 2u];
    }

    void step(Server &s, const Event &event) {
        if (s.node)
            perform(s, s.node->step(event, now_));
    }

    Lineage lineage_of(const Server &s) {
        Lineage lineage;
        for (unsigned t = 1; t < raw(s.local.position.timeline); ++t)
            lineage.push_back({static_cast<Timeline>(t), s.local.position.lsn});
        lineage.push_back({s.local.position.timeline, Lsn::none});
        return lineage;
    }

    static std::string text_of(const std::vector<std::string> &names, int needed) {
        std::string text = std::to_string(needed) + " of";
        for (const std::string &name : names)
            text += (&name == &names.front() ? " " : ", ") + name;
        return text;
    }

    void perform(Server &s, const Outputs &outputs) {
        bool gate = false;
        for (const Output &output : outputs) {
            if (const auto *o = std::get_if<Send>(&output)) {
                const DurableState &d = s.node->durable();
                if (!cuts_.contains({d.self, o->to}))
                    later(o->to, Received{{cluster_, d.self, o->to, d.incarnation, d.term, o->body}});
            } else if (const auto *o = std::get_if<Persist>(&output)) {
                s.disk = o->state;
            } else if (std::holds_alternative<CloseGate>(output)) {
                s.upstream = NodeId::none;
                s.local.streaming = false;
                gate = true;
            } else if (const auto *o = std::get_if<OpenGate>(&output)) {
                s.upstream = o->leader;
                s.local.streaming = true;
                s.local.position = server(o->leader).local.position;
                later(s.disk.self, Sampled{s.local, {}});
            } else if (const auto *o = std::get_if<Promote>(&output)) {
                s.local.in_recovery = false;
                s.local.position.timeline = timeline_of(o->term);
                happenings_.push_back({now_ + promotion_time, s.disk.self, Promoted{s.local, lineage_of(s)}});
            } else if (const auto *o = std::get_if<ApplySync>(&output)) {
                if (s.node->status(now_).primary == s.disk.self)
                    tell(s.name, "its commits shall wait for " + text_of(o->names, o->rule.quorum - 1));
                later(s.disk.self, SyncInEffect{o->rule});
            } else if (const auto *o = std::get_if<Demote>(&output)) {
                tell(s.name, "demotes itself: " + o->reason);
                s.node.reset();
                happenings_.clear();
                one("restart", s, "");
                return;
            } else if (const auto *o = std::get_if<Rejoin>(&output)) {
                tell(s.name, "has itself rewound from " + to_string(o->own) + " to where " + o->leader_name +
                                 " left its history, " + to_string(o->fork));
                s.local.position = server(o->leader).local.position;
                s.local.replayed = s.local.position.lsn;
                s.node.reset();
                one("restart", s, "");
                return;
            } else if (const auto *o = std::get_if<Trace>(&output)) {
                tell(s.name, o->line);
            }
        }
        if (gate)
            step(s, GateClosed{s.local});
    }
};

std::filesystem::path folder() { return std::filesystem::path(PG_HA_SOURCE_DIR) / "src/core/tests/scenarios"; }

class Scenario : public testing::TestWithParam<std::string> {};

std::vector<std::string> scenario_names() {
    std::vector<std::string> names;
    for (const auto &entry : std::filesystem::directory_iterator(folder()))
        if (entry.path().extension() == ".txt")
            names.push_back(entry.path().stem());
    std::sort(names.begin(), names.end());
    return names;
}

} // namespace

TEST_P(Scenario, TellsItsStory) {
    const std::filesystem::path path = folder() / (GetParam() + ".txt");
    std::ifstream in(path);
    std::string script, expected, line;
    bool below = false;
    Cluster cluster;
    while (std::getline(in, line)) {
        if (below) {
            expected += line + "\n";
            continue;
        }
        script += line + "\n";
        if (line.starts_with("----"))
            below = true;
        else if (!line.empty() && line[0] != '#')
            cluster.command(line);
    }
    ASSERT_TRUE(below) << path << " has no line of dashes";
    if (std::getenv("REWRITE"))
        std::ofstream(path) << script << cluster.story;
    else
        EXPECT_EQ(expected, cluster.story) << "set REWRITE=1 to accept the new story";
}

INSTANTIATE_TEST_SUITE_P(Files, Scenario, testing::ValuesIn(scenario_names()),
                         [](const auto &info) { return info.param; });
