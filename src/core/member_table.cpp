// SPDX-License-Identifier: PostgreSQL
//
// The member table.  Newest (incarnation, sequence) wins; nothing here decides about roles.
#include "member_table.hpp"

#include "planted.hpp"

#include <algorithm>

namespace pg_ha {

namespace {

std::uint32_t milliseconds_capped(Duration age) {
    const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(age).count();
    return ms < 0 ? 0 : ms > 0xFFFFFFFEll ? 0xFFFFFFFEu : static_cast<std::uint32_t>(ms);
}

bool newer(const MemberReport &a, const MemberReport &b) {
    return std::pair(a.incarnation, a.sequence) > std::pair(b.incarnation, b.sequence);
}

// Positions change all the time, and are passed on in turn; of the rest others shall hear soon.  What is new to
// a node that has just started is not new to the others.
bool says_something_new(const MemberReport &now, const MemberReport &before) {
    if (before.id == NodeId::none)
        return false;
    return now.incarnation != before.incarnation || now.role != before.role || now.term != before.term ||
           now.reason != before.reason || now.parameters != before.parameters || now.rejoins != before.rejoins || now.local.in_recovery != before.local.in_recovery ||
           now.local.position_known != before.local.position_known || now.local.streaming != before.local.streaming ||
           now.local.position.timeline != before.local.position.timeline;
}

} // namespace

std::vector<MemberTable::Entry>::const_iterator MemberTable::at_or_after(NodeId id) const {
    return std::lower_bound(rows_.begin(), rows_.end(), id, [](const Entry &entry, NodeId wanted) { return entry.id < wanted; });
}

MemberTable::Row &MemberTable::row(NodeId id) {
    auto it = at_or_after(id);
    if (it == rows_.end() || it->id != id)
        it = rows_.insert(it, {id, std::make_unique<Row>()});
    return *it->row;
}

// I2.  An identity's saves only grow, so a run that began with one the peers know of already is a copy.
Hearing MemberTable::hearing(const Row &row, const Run &run) {
    const bool same_start = run.incarnation == row.run.incarnation;
    if (same_start && (run.instance == row.run.instance || run.instance == Instance::none ||
                       row.run.instance == Instance::none || planted(Bug::cloned_identity_heard)))
        return Hearing::accepted;
    if (same_start)
        return Hearing::cloned;
    if (raw(run.incarnation) > row.run.saves || planted(Bug::stale_incarnation_heard))
        return Hearing::accepted;
    const bool last_words = run.incarnation == row.previous.incarnation && run.instance == row.previous.instance;
    return last_words ? Hearing::late : Hearing::old_copy;
}

void MemberTable::note_run(Row &row, const Run &run) {
    if (run.incarnation != row.run.incarnation) {
        row.previous = std::exchange(row.run, run);
        row.refused = false;
    }
    if (run.instance != Instance::none)
        row.run.instance = run.instance;
    row.run.saves = std::max({row.run.saves, run.saves, raw(run.incarnation)});
}

Hearing MemberTable::heard(NodeId id, const Run &run, Instant now) {
    Row &row = this->row(id);
    const Hearing result = hearing(row, run);
    if (result != Hearing::accepted)
        return result;
    note_run(row, run);
    row.heard = now;
    return result;
}

MemberTable::Learned MemberTable::learn(const MemberReport &report, Instant now) {
    Row &row = this->row(report.id);
    const Run run{report.incarnation, report.instance, report.saves};
    if (hearing(row, run) != Hearing::accepted)
        return {};
    note_run(row, run);
    if (!newer(report, row.report))
        return {};
    const Life life{report.incarnation, report.refutations};
    const Learned learned{says_something_new(report, row.report), life > row.life};
    row.life = std::max(row.life, life);
    std::vector<LinkReport> links = std::move(row.report.links);
    row.report = report;
    if (report.links.empty())
        row.report.links = std::move(links);
    row.news = now;
    return learned;
}

void MemberTable::raise_life(NodeId id, Life life) {
    Row &row = this->row(id);
    row.life = std::max(row.life, life);
}

void MemberTable::answered(NodeId id, Duration rtt) {
    Row &row = this->row(id);
    row.missed = 0;
    row.rtt = row.rtt == Duration{0} ? rtt : (row.rtt * 7 + rtt) / 8; // TCP's smoothing
}

void MemberTable::forget_except(const Configuration &configuration) {
    std::erase_if(rows_, [&](const auto &entry) { return !configuration.find(entry.id); });
}

const MemberTable::Row *MemberTable::find(NodeId id) const {
    auto it = at_or_after(id);
    return it == rows_.end() || it->id != id ? nullptr : it->row.get();
}

Liveness MemberTable::liveness(NodeId id, const Settings &settings, Instant now) const {
    const Row *row = find(id);
    if (!row || row->heard == long_ago)
        return Liveness::unreachable;
    const Duration missed_exchange = std::max(settings.heartbeat_interval * 3, settings.lease_duration / 2);
    if (now - row->heard < missed_exchange)
        return Liveness::alive;
    if (now - row->heard < settings.lease_duration || now - row->news < settings.lease_duration)
        return Liveness::suspect;
    return Liveness::unreachable;
}

std::vector<MemberReport> MemberTable::some_rows(NodeId self, NodeId except, std::size_t count) {
    std::vector<MemberReport> rows;
    if (rows_.empty())
        return rows;
    auto it = at_or_after(static_cast<NodeId>(raw(turn_) + 1));
    for (std::size_t i = 0; i < rows_.size() && rows.size() < count; ++i, ++it) {
        if (it == rows_.end())
            it = rows_.begin();
        turn_ = it->id;
        if (it->id != self && it->id != except && it->row->report.id != NodeId::none) {
            rows.push_back(it->row->report);
            rows.back().links.clear(); // links travel only from their owner: they are bulky
        }
    }
    return rows;
}

std::vector<LinkReport> MemberTable::links(const Configuration &configuration, NodeId self, Instant now) const {
    std::vector<LinkReport> links;
    for (const Member &member : configuration.members) {
        if (member.id == self)
            continue;
        LinkReport link{member.id, 0, 0xFFFFFFFFu, 0};
        if (const Row *row = find(member.id)) {
            link.rtt_us = static_cast<std::uint32_t>(row->rtt / std::chrono::microseconds(1));
            link.missed = row->missed;
            if (row->heard != long_ago)
                link.last_heard_ms = milliseconds_capped(now - row->heard);
        }
        links.push_back(link);
    }
    if (links.size() > members_max) {
        const auto last = links.begin() + static_cast<std::ptrdiff_t>(members_max);
        std::nth_element(links.begin(), last, links.end(),
                         [](const LinkReport &a, const LinkReport &b) { return a.last_heard_ms < b.last_heard_ms; });
        links.erase(last, links.end());
    }
    return links;
}

} // namespace pg_ha
