// SPDX-License-Identifier: PostgreSQL
//
// Life as primary, the part about the sync set: who of it has what.  Must never call something safe
// that an election under the record in force could miss.
#include "node_impl.hpp"

namespace pg_ha {

namespace {
constexpr Lsn beyond_all = static_cast<Lsn>(UINT64_MAX);
}

// Enough members of S report that they have what commits wait for, and yet PostgreSQL waits on: their
// confirmations do not get through, while heartbeats do.  To have all WAL is then no sign of a stream that works.
// That holds until one gets through or nobody waits for any, also while PostgreSQL takes over another rule: who is
// lost must not look well in between.
void Node::Impl::look_for_hanging_streams() {
    const bool none_wanted = !sync_pending && sync_in_effect.quorum <= 1;
    if (hung_at && (confirmed > *hung_at || none_wanted))
        hung_at.reset();
    const Duration enough = stream_patience() / 2;
    const Lsn due = own_wal.at(now - enough);
    if (!hung_at && sync_known && !sync_pending && sync_in_effect.quorum > 1 &&
        now - std::max(confirmed_grew, listening_since) >= enough && confirmed < due &&
        caught_up_to(due, sync_in_effect))
        hung_at = confirmed;
}

// Who streams on, who is lost to the sync set.  A primary that was not listening, because it had no lease or
// stood still, knows nothing against anybody.
void Node::Impl::watch_streams() {
    const Duration patience = stream_patience();
    if (lease_until <= now || now - streams_looked_at > patience / 2)
        listening_since = now;
    streams_looked_at = now;
    own_wal.add(local.position.lsn, now, 2 * patience);
    look_for_hanging_streams();
    std::erase_if(streams, [&](const auto &entry) { return !configuration().find(entry.first); });
    for (const Member &member : configuration().members) {
        if (member.id == durable.self || member.kind != MemberKind::data)
            continue;
        StreamWatch &watch = streams[member.id];
        if (const MemberTable::Row *row = table.find(member.id); row && row->report.id != NodeId::none) {
            const LocalState &theirs = row->report.local;
            const bool follows = row->report.role == Role::standby && row->report.term == durable.term &&
                                 theirs.streaming && theirs.position.timeline == local.position.timeline;
            const bool near = theirs.position.lsn >= own_wal.at(row->news - patience / 2);
            watch.report(follows, near, theirs.position.lsn, hung_at ? beyond_all : local.position.lsn, row->news, patience);
        }
        if (!watch.lost() && contains(configuration().sync.set, member.id) &&
            watch.overdue(listening_since, now, patience) && !planted(Bug::nobody_is_lost))
            watch.lose(patience);
    }
    note_waiting();
}

std::string Node::Impl::why_lost(NodeId id) const {
    auto watch = streams.find(id);
    const auto tenths = stream_patience() / std::chrono::milliseconds(100);
    const bool heard = watch != streams.end() && now - watch->second.heard() < stream_patience() / 2;
    return std::string(!heard ? "not heard" : watch->second.streams() ? "not receiving WAL" : "not streaming") + " for " +
           std::to_string(tenths / 10) + "." + std::to_string(tenths % 10) + " s";
}

// Members of S that are lost and yet stay: by the operator's word commits wait for them.
void Node::Impl::note_waiting() {
    std::size_t well = 0;
    std::string lost;
    for (NodeId id : configuration().sync.set) {
        auto watch = streams.find(id);
        if (id == durable.self || (watch != streams.end() && !watch->second.lost()))
            ++well;
        else
            lost += (lost.empty() ? "" : ", ") + name_of(id) + " is " + why_lost(id);
    }
    const bool wait = settings.min_sync_standbys > 0 && well < configuration().sync.quorum && !lost.empty() &&
                      lease_until > now;
    if (wait == commits_wait)
        return;
    commits_wait = wait;
    reason = wait ? "commits wait: min_sync_standbys = " + std::to_string(settings.min_sync_standbys) + ", and " + lost
                  : "commits go on: enough standbys stream again";
    out.push_back(Note{role, role, durable.term, local.position, reason});
}

// S8: a promoted standby has WAL that nobody may have acknowledged.  Who reads it there must not see it
// vanish with the next failover, so sessions are held until w members of S have it: by what PostgreSQL's
// walsenders say under a rule that meets the record, or by what the members report.
void Node::Impl::consider_settled() {
    if (role != Role::primary || !opened_at || !record_in_force)
        return;
    const SyncRule &rule = configuration().sync;
    const bool meet = sync_known && !sync_pending && rules_meet(sync_in_effect, rule);
    if (!rule.set.empty() && !(meet && confirmed >= *opened_at) && !caught_up_to(*opened_at, rule) &&
        !planted(Bug::settled_at_once))
        return;
    trace("sessions are let in: the sync set has what they see, up to " + to_string(*opened_at));
    opened_at.reset();
    out.push_back(Settled{});
}

} // namespace pg_ha
