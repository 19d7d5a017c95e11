// SPDX-License-Identifier: PostgreSQL
//
// Status to shared memory rows: a copy without judgement.  Texts that do not fit are cut, never
// left open.  Ages are as of the copy; readers add the snapshot's own age.
#include "snapshot.hpp"

#include <algorithm>

namespace pg_ha {

namespace {

template <std::size_t size> void put(char (&to)[size], const std::string &from) { strlcpy(to, from.c_str(), size); }

std::int64_t milliseconds_of(Duration age) {
    if (age < Duration::zero())
        return -1;
    return std::chrono::duration_cast<std::chrono::milliseconds>(age).count();
}

void fill_member(const MemberStatus &from, MemberRow *row) {
    const LocalState &local = from.report.local;
    row->id = raw(from.member.id);
    row->incarnation = raw(from.report.incarnation);
    put(row->name, from.member.name);
    put(row->kind, from.member.kind == MemberKind::witness ? "witness" : "data");
    put(row->role, to_string(from.report.role));
    put(row->liveness, to_string(from.liveness));
    put(row->peer_host, from.member.peer.host);
    put(row->postgres_host, from.member.postgres.host);
    row->peer_port = from.member.peer.port;
    row->postgres_port = from.member.postgres.port;
    row->priority = from.member.priority;
    row->voter = from.member.voter;
    row->self = from.self;
    row->is_primary = from.is_primary;
    row->in_sync_set = from.in_sync_set;
    row->streaming = local.streaming;
    row->position_known = local.position_known;
    row->in_recovery = local.in_recovery;
    row->term = raw(from.report.term);
    row->timeline = raw(local.position.timeline);
    row->lsn = raw(local.position.lsn);
    row->replayed_lsn = raw(local.replayed);
    row->lag_bytes = from.lag_bytes;
    row->lag_ms = from.is_primary ? 0 : (local.position_known ? static_cast<int64>(local.replay_lag_ms) : -1);
    row->last_heard_ms = from.self ? 0 : milliseconds_of(from.last_heard);
    put(row->reason, from.report.reason);
}

int index_of(const Status &status, NodeId id) {
    for (std::size_t i = 0; i < status.members.size() && i < ha_members_max; i++)
        if (status.members[i].member.id == id)
            return static_cast<int>(i);
    return -1;
}

void fill_links(const Status &status, Snapshot *out) {
    for (int from = 0; from < out->member_count; from++) {
        for (const LinkReport &link : status.members[static_cast<std::size_t>(from)].report.links) {
            const int to = index_of(status, link.peer);
            if (to < 0 || out->link_count >= ha_members_max * ha_members_max)
                continue;
            LinkRow *row = &out->links[out->link_count++];
            row->from = static_cast<int16>(from);
            row->to = static_cast<int16>(to);
            row->rtt_us = link.rtt_us == 0 ? -1 : static_cast<int32>(std::min<std::uint32_t>(link.rtt_us, INT32_MAX));
            row->last_heard_ms = link.last_heard_ms == UINT32_MAX ? -1 : static_cast<int64>(link.last_heard_ms);
            row->missed = static_cast<int32>(std::min<std::uint32_t>(link.missed, INT32_MAX));
        }
    }
}

void fill_primary(const Status &status, Snapshot *out) {
    const Member *primary = status.configuration.find(status.primary);
    if (status.primary == NodeId::none || primary == nullptr)
        return;
    put(out->primary_name, primary->name);
    put(out->primary_host, primary->postgres.host);
    out->primary_port = primary->postgres.port;
}

} // namespace

EventRow event_row(const Note &note) {
    EventRow row = {};
    put(row.from_role, to_string(note.from));
    put(row.to_role, to_string(note.to));
    row.term = raw(note.term);
    row.timeline = raw(note.position.timeline);
    row.lsn = raw(note.position.lsn);
    put(row.reason, note.reason);
    return row;
}

void fill_snapshot(const Status &status, Instant now, Snapshot *out) {
    memset(static_cast<void *>(out), 0, sizeof(*out));
    out->valid = true;
    if (status.configuration.cluster != no_cluster)
        put(out->cluster_id, to_string(status.configuration.cluster));
    out->system_identifier = status.configuration.system_identifier;
    put(out->role, to_string(status.role));
    out->term = raw(status.term);
    fill_primary(status, out);
    out->quorum = status.quorum;
    out->synchronous = status.configuration.synchronous;
    out->paused = status.configuration.paused;
    out->handing_over = status.handing_over;
    out->order_holds = status.order.holds;
    put(out->order_ended, status.order.ended);
    if (const Member *ahead = status.configuration.find(status.order.ahead))
        put(out->order_ahead, ahead->name);
    out->failover_possible = status.failover_possible;
    out->configuration_in_force = status.configuration_in_force;
    out->config_term = raw(status.configuration.version.term);
    out->config_index = status.configuration.version.index;
    out->voters = static_cast<int32>(status.configuration.voter_count());
    out->write_quorum = status.configuration.sync.quorum;
    out->lease_until_ns = static_cast<uint64>(status.lease_until.time_since_epoch().count());
    out->taken_ns = static_cast<uint64>(now.time_since_epoch().count());
    put(out->failover_reason, status.failover_reason);
    put(out->reason, status.reason);
    for (const MemberStatus &member : status.members) {
        if (out->member_count >= ha_members_max)
            break;
        if (member.self)
            put(out->node_name, member.member.name);
        fill_member(member, &out->members[out->member_count++]);
    }
    fill_links(status, out);
}

void fill_passive_snapshot(const std::string &node_name, std::uint64_t system_identifier, const std::string &reason,
                           Snapshot *out) {
    memset(static_cast<void *>(out), 0, sizeof(*out));
    out->valid = true;
    put(out->node_name, node_name);
    out->system_identifier = system_identifier;
    put(out->role, to_string(Role::passive));
    put(out->failover_reason, reason);
    put(out->reason, reason);
    out->synchronous = false;
    out->taken_ns = boot_now_ns();
}

} // namespace pg_ha
