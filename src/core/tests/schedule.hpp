// SPDX-License-Identifier: PostgreSQL
//
// A bench for schedules: one node under test, and the test plays everybody else, in any order.
#pragma once

#include "core/node.hpp"
#include "core/quorum.hpp"

#include <gtest/gtest.h>

#include <stdexcept>

using namespace pg_ha;
using std::chrono::milliseconds;
using std::chrono::seconds;

namespace {

constexpr ClusterId cluster{1, 2};

NodeId id(unsigned n) { return static_cast<NodeId>(n); }
Term term(unsigned n) { return static_cast<Term>(n); }
Position position(unsigned timeline, std::uint64_t lsn) { return {static_cast<Timeline>(timeline), static_cast<Lsn>(lsn)}; }

// Three data voters, n1 the first primary, in term 1; all of them in S, w = 2.
Configuration three_voters() {
    Configuration c;
    c.cluster = cluster;
    c.lease = Settings{}.lease_duration;
    c.version = {term(1), 1};
    for (unsigned n = 1; n <= 3; ++n) {
        c.members.push_back({id(n), "n" + std::to_string(n), MemberKind::data, true, {"h", 1}, {"h", 2}, 100});
        c.sync.set.push_back(id(n));
    }
    c.sync.quorum = 2;
    return c;
}

// One node under test; the test plays everybody else.
class Schedule : public testing::Test {
protected:
    Settings settings;
    DurableState disk;
    LocalState local;
    std::unique_ptr<Node> node;
    Instant now{seconds(1000)};
    Outputs out; // of everything since the last clear()

    void SetUp() override {
        settings.cluster = cluster;
        disk.incarnation = static_cast<Incarnation>(7);
        disk.term = term(1);
        disk.configuration = three_voters();
        local.position_known = true;
        local.position = position(1, 1000);
    }

    void start(unsigned self) {
        disk.self = id(self);
        disk.node_name = settings.node_name = "n" + std::to_string(self);
        node = std::make_unique<Node>(settings, disk, local, 1, now);
        take(node->start(now));
    }
    void start_as_primary() {
        local.in_recovery = false;
        disk.voted_for = id(1);
        start(1);
        step(SyncInEffect{disk.configuration.sync});
    }

    void take(const Outputs &more) {
        out.insert(out.end(), more.begin(), more.end());
        for (const Output &output : more) {
            if (const auto *o = std::get_if<Persist>(&output))
                disk = o->state;
            if (std::holds_alternative<CloseGate>(output))
                step(GateClosed{local});
        }
    }
    void step(const Event &event) { take(node->step(event, now)); }
    void sample() { step(Sampled{local, {}}); }
    void hear(unsigned from, unsigned in_term, Body body, unsigned incarnation = 1) {
        step(Received{{cluster, id(from), disk.self, static_cast<Incarnation>(incarnation), term(in_term), std::move(body)}});
    }
    void pass(Duration time) { // with ticks where they are wanted
        const Instant until = now + time;
        while (node->next_deadline() <= until) {
            now = std::max(now, node->next_deadline());
            sample();
            step(Tick{});
        }
        now = until;
    }

    MemberReport report(unsigned n, unsigned in_term) {
        MemberReport r;
        r.id = id(n);
        r.incarnation = static_cast<Incarnation>(1);
        r.sequence = ++sequence_;
        r.role = Role::standby;
        r.term = term(in_term);
        r.local.position_known = r.local.streaming = true;
        r.local.position = local.position;
        return r;
    }
    // What a follower says to the newest heartbeat.
    void answer(unsigned from, unsigned in_term, std::optional<LocalState> state = std::nullopt) {
        MemberReport self = report(from, in_term);
        if (state)
            self.local = *state;
        hear(from, in_term, HeartbeatReply{now, true, node->durable().configuration.version, self});
    }
    Heartbeat primary_heartbeat(unsigned from, unsigned in_term) {
        Heartbeat h;
        h.sent = now;
        h.wants_reply = true;
        h.leader = id(from);
        h.config_version = {term(in_term), 2};
        h.lineage = {{static_cast<Timeline>(1), Lsn::none}};
        h.self = report(from, in_term);
        h.self.role = Role::primary;
        return h;
    }
    // n2 has replayed all its WAL, up to `ours`, and hears n1, primary of this term and history, for a second.
    void follow_with(Position ours, unsigned in_term, const Lineage &lineage) {
        local.position = ours;
        local.replayed = ours.lsn;
        start(2);
        Heartbeat heartbeat = primary_heartbeat(1, in_term);
        heartbeat.lineage = lineage;
        hear(1, in_term, heartbeat);
        pass(seconds(1));
    }
    VoteRequest request(bool pre, unsigned in_term, Position at) { return {pre, term(in_term), at, {}, disk.configuration.version}; }

    template <class T> std::vector<T> sent() const {
        std::vector<T> bodies;
        for (const Output &output : out)
            if (const auto *send = std::get_if<Send>(&output))
                if (const auto *body = std::get_if<T>(&send->body))
                    bodies.push_back(*body);
        return bodies;
    }
    template <class T> std::vector<T> all() const {
        std::vector<T> found;
        for (const Output &output : out)
            if (const auto *o = std::get_if<T>(&output))
                found.push_back(*o);
        return found;
    }
    void win(unsigned in_term) { // with the vote of node 3
        hear(3, in_term - 1, VoteReply{true, term(in_term), true, Refusal::none, local.position, {}});
        hear(3, in_term, VoteReply{false, term(in_term), true, Refusal::none, local.position, {}});
    }
    void open(unsigned in_term) {
        local.in_recovery = false;
        local.position = position(in_term, raw(local.position.lsn) + 100);
        step(Promoted{local, {{static_cast<Timeline>(in_term), Lsn::none}}});
    }
    Role role() const { return node->status(now).role; }
    bool has_lease() const { return node->status(now).lease_until > now; }

private:
    std::uint64_t sequence_ = 0;
};

} // namespace
