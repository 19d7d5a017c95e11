// SPDX-License-Identifier: PostgreSQL
//
// The limits are judged by the member's position where it is known, and by its slot otherwise.  Slots move
// by whole segments only, because PostgreSQL removes whole segments.
#include "retention.hpp"

#include <algorithm>
#include <set>

namespace pg_ha {

namespace {

// However little room there is, so much WAL lies there anyway.
constexpr std::uint64_t least_segments = 4;

std::string text_of_bytes(std::uint64_t bytes) {
    constexpr std::uint64_t mb = 1 << 20, gb = 1 << 30;
    return bytes >= 10 * gb ? std::to_string(bytes / gb) + " GB"
           : bytes >= mb    ? std::to_string(bytes / mb) + " MB"
                            : std::to_string(bytes / 1024) + " kB";
}

std::string text_of_time(Duration time) {
    const auto s = std::chrono::duration_cast<std::chrono::seconds>(time).count();
    return s >= 7200 ? std::to_string(s / 3600) + " h" : s >= 120 ? std::to_string(s / 60) + " min" : std::to_string(s) + " s";
}

// From where on a member at `position` has to be sent WAL: from its end, or from where our history left its
// timeline.  Of a timeline that we never were on only the newest one before it can be common to both.
Lsn needed_from(Position position, const RetentionSight &sight) {
    const Lsn from = std::min(position.lsn, sight.own.lsn);
    for (auto entry = sight.lineage.rbegin(); entry != sight.lineage.rend(); ++entry)
        if (entry->timeline <= position.timeline)
            return entry->end == Lsn::none ? from : std::min(from, entry->end);
    return from;
}

const HeldSlot *find_slot(const std::vector<HeldSlot> &slots, NodeId member) {
    const auto it = std::find_if(slots.begin(), slots.end(), [&](const HeldSlot &slot) { return slot.member == member; });
    return it == slots.end() ? nullptr : &*it;
}

// Held WAL may never take more than is left free.
std::uint64_t limit_of(std::uint64_t held, const RetentionSight &sight) {
    const std::uint64_t room = (held + sight.free_bytes) / 2;
    return std::min(sight.limits.bytes, std::max(room, least_segments * sight.segment_bytes));
}

// Why no WAL is kept for a member any more; empty: it is.
std::string why_given_up(const RetentionRow &row, bool gone, bool has_slot, const RetentionSight &sight) {
    if (gone)
        return "the WAL that it needs, from " + to_string(row.from) + " on, is gone";
    // A little less for who has none, so that nobody's slot comes and goes at the limit.
    if (row.bytes > (has_slot ? row.limit_bytes : row.limit_bytes / 4 * 3))
        return text_of_bytes(row.bytes) + " behind, limit " + text_of_bytes(row.limit_bytes) +
               (row.limit_bytes < sight.limits.bytes ? " for want of disk space" : "");
    if (row.away_since != never && sight.now - row.away_since > sight.limits.time)
        return "away for " + text_of_time(sight.now - row.away_since) + ", limit " + text_of_time(sight.limits.time);
    return "";
}

} // namespace

const char *to_string(Retention state) {
    switch (state) {
    case Retention::following: return "following";
    case Retention::holding: return "holding";
    case Retention::dropped: return "dropped";
    case Retention::none: return "none";
    }
    return "unknown";
}

RetentionDecision RetentionRule::decide(const RetentionSight &sight) {
    RetentionDecision decision;
    std::set<NodeId> members;
    for (const RetainedMember &member : sight.members)
        members.insert(member.id);
    std::erase_if(away_since_, [&](const auto &away) { return !members.contains(away.first); });
    for (const HeldSlot &slot : sight.slots)
        if (!members.contains(slot.member)) // of who is a member no more, or of this server itself
            decision.steps.push_back({slot.member, Lsn::none, ""});
    for (const RetainedMember &member : sight.members)
        judge(member, sight, decision);
    return decision;
}

void RetentionRule::judge(const RetainedMember &member, const RetentionSight &sight, RetentionDecision &decision) {
    const HeldSlot *slot = find_slot(sight.slots, member.id);
    const auto segment = [&](Lsn lsn) { return raw(lsn) / sight.segment_bytes; };
    if (member.present)
        away_since_.erase(member.id);
    RetentionRow row;
    row.id = member.id;
    row.name = member.name;
    row.away_since = member.present ? never : away_since_.try_emplace(member.id, sight.now).first->second;
    row.from = member.position ? needed_from(*member.position, sight) : slot ? slot->lsn : Lsn::none;
    row.bytes = row.from != Lsn::none && sight.own.lsn > row.from ? raw(sight.own.lsn) - raw(row.from) : 0;
    row.limit_bytes = limit_of(row.bytes, sight);
    // A slot may be older than the WAL that is here after a crash; that alone says nothing of its member.
    const bool gone = member.position && !member.present && segment(row.from) < segment(sight.oldest);
    const bool wanted = sight.limits.bytes > 0 && row.from != Lsn::none;
    const std::string why = wanted ? why_given_up(row, gone, slot != nullptr, sight) : "";
    if (!wanted) {
        row.bytes = 0;
        row.reason = sight.limits.bytes == 0 ? "switched off: pg_ha.retention_size or max_slot_wal_keep_size is 0" : "its position is not known";
    } else if (!why.empty()) {
        row.state = Retention::dropped;
        row.reason = why + ": clone it again if it does not come back by itself";
    } else {
        row.state = member.present ? Retention::following : Retention::holding;
    }
    if (row.state == Retention::dropped || row.state == Retention::none) {
        if (slot)
            decision.steps.push_back({member.id, Lsn::none, why.empty() ? "" : "keeps no more WAL for " + member.name + ": " + row.reason});
    } else if (Lsn hold = std::max(row.from, sight.oldest); !slot || slot->lsn == Lsn::none || segment(hold) != segment(slot->lsn)) {
        if (slot && slot->lsn == Lsn::none)
            decision.steps.push_back({member.id, Lsn::none, ""});
        decision.steps.push_back({member.id, hold, ""});
    }
    decision.rows.push_back(std::move(row));
}

} // namespace pg_ha
