// SPDX-License-Identifier: PostgreSQL
//
// One line per event, in fixed columns: virtual ms, host, role letter, term, what happened.  Nothing is
// formatted unless somebody reads it: a failing seed is simply run again with a reader.
#include "world.hpp"

#include <cstdio>

namespace pg_ha::sim {

namespace {

char letter(Role role) {
    switch (role) {
    case Role::passive:
        return '-';
    case Role::joining:
        return 'J';
    case Role::standby:
        return 's';
    case Role::candidate:
        return 'c';
    case Role::promoting:
        return 'p';
    case Role::primary:
        return 'P';
    case Role::deposed:
        return 'd';
    case Role::stopping:
        return 'x';
    }
    return '?';
}

std::string describe(const Body &body) {
    struct Visitor {
        std::string operator()(const Heartbeat &b) {
            return std::string("heartbeat") + (raw(b.leader) ? "" : ", no leader") +
                   (b.configuration ? ", with configuration " : ", configuration ") +
                   std::to_string(raw(b.config_version.term)) + "." + std::to_string(b.config_version.index);
        }
        std::string operator()(const HeartbeatReply &b) {
            return std::string("reply, ") + (b.follows ? "follows" : "does not follow") + ", configuration " +
                   std::to_string(raw(b.config_version.term)) + "." + std::to_string(b.config_version.index);
        }
        std::string operator()(const VoteRequest &b) {
            return std::string(b.pre ? "asks (pre-vote) for term " : "asks for term ") + std::to_string(raw(b.term)) +
                   " with " + to_string(b.position);
        }
        std::string operator()(const VoteReply &b) {
            return std::string(b.granted ? "grants " : "refuses ") + (b.pre ? "pre-vote " : "vote ") +
                   std::to_string(raw(b.term)) + " at " + to_string(b.position) +
                   (b.granted ? "" : std::string(": ") + to_string(b.refusal));
        }
        std::string operator()(const Resign &b) { return b.clean ? "resigns, clean stop" : "resigns"; }
        std::string operator()(const StandNow &) { return "stand now"; }
        std::string operator()(const JoinRequest &) { return "asks for admission"; }
        std::string operator()(const Rejected &b) { return std::string("rejects: ") + to_string(b.why); }
        std::string operator()(const IndirectProbe &b) { return "asks for an indirect probe of " + std::to_string(raw(b.target) % 10000); }
        std::string operator()(const IndirectReply &b) { return b.reached ? "its indirect probe succeeded" : "its indirect probe failed"; }
    };
    return std::visit(Visitor{}, body);
}

} // namespace

void World::trace(Host &h, const std::string &text) {
    if (!sink_)
        return;
    char columns[64];
    const std::uint32_t term = h.disk.state() ? raw(h.disk.state()->term) : 0;
    std::snprintf(columns, sizeof columns, "%10.3f  %s %c %3u  ", static_cast<double>(now()) / 1e6, h.name.c_str(),
                  h.agent() ? letter(h.role_seen) : '.', term);
    sink_->line(columns + text);
}

void World::trace_message(Host &h, const Message &message) {
    if (!sink_)
        return;
    const bool regular =
        std::holds_alternative<Heartbeat>(message.body) || std::holds_alternative<HeartbeatReply>(message.body);
    if (regular && !sink_->everything)
        return;
    std::string to = "?";
    for (const std::unique_ptr<Host> &other : hosts_)
        if (other->id() == message.to)
            to = other->name;
    trace(h, "-> " + to + ": " + describe(message.body));
}

} // namespace pg_ha::sim
