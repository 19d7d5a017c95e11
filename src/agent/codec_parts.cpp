// SPDX-License-Identifier: PostgreSQL
//
// What messages and the stored state are made of, and its limits.  The rules for decoding, at the head of
// codec.cpp, hold here too: nothing is believed that is out of bounds, and nothing throws.
#include "codec_parts.hpp"

#include <algorithm>
#include <limits>
#include <string_view>

namespace pg_ha::codec {

namespace {

constexpr std::size_t name_bytes_max = 63;
constexpr std::size_t host_bytes_max = 255;
constexpr std::size_t reason_bytes_max = 200;
constexpr int rumours_max = 64;
constexpr std::int64_t lease_ns_max = 60LL * 1000 * 1000 * 1000;

// Hosts go into connection strings: no quotes, blanks or backslashes, whoever sent them.
bool decode_host(const std::string &text, std::string &out) {
    const auto allowed = [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == ':' ||
               c == '-' || c == '_' || c == '%' || c == '/';
    };
    if (text.size() > host_bytes_max || !std::all_of(text.begin(), text.end(), allowed))
        return false;
    out = text;
    return true;
}

// At most reason_bytes_max bytes, not ending inside a UTF-8 character.
std::string_view shortened(const std::string &reason) {
    if (reason.size() <= reason_bytes_max)
        return reason;
    std::size_t end = reason_bytes_max;
    while (end > 0 && (static_cast<unsigned char>(reason[end]) & 0xC0) == 0x80)
        --end;
    return std::string_view(reason).substr(0, end);
}

} // namespace

bool decode_name(const std::string &text, std::string &out) {
    const auto allowed = [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
    };
    if (text.size() > name_bytes_max || !std::all_of(text.begin(), text.end(), allowed))
        return false;
    out = text;
    return true;
}

// ---- endpoint, member, configuration ------------------------------------------------------------

void put(wire::Endpoint &out, const Endpoint &in) {
    out.set_host(in.host);
    out.set_port(in.port);
}

bool get(const wire::Endpoint &in, Endpoint &out) {
    if (in.port() > std::numeric_limits<std::uint16_t>::max())
        return false;
    out.port = static_cast<std::uint16_t>(in.port());
    return decode_host(in.host(), out.host);
}

void put(wire::Member &out, const Member &in) {
    out.set_id(raw(in.id));
    out.set_name(in.name);
    out.set_kind(static_cast<std::uint32_t>(in.kind));
    out.set_voter(in.voter);
    put(*out.mutable_peer(), in.peer);
    put(*out.mutable_postgres(), in.postgres);
    out.set_priority(in.priority);
}

bool get(const wire::Member &in, Member &out) {
    if (in.id() == 0 || in.priority() > std::numeric_limits<std::uint16_t>::max())
        return false;
    out.id = static_cast<NodeId>(in.id());
    out.voter = in.voter();
    out.priority = static_cast<std::uint16_t>(in.priority());
    return decode_name(in.name(), out.name) && decode_enum(in.kind(), MemberKind::witness, out.kind) &&
           get(in.peer(), out.peer) && get(in.postgres(), out.postgres);
}

void put(wire::Configuration &out, const Configuration &in) {
    out.set_cluster_high(in.cluster.high);
    out.set_cluster_low(in.cluster.low);
    out.set_system_identifier(in.system_identifier);
    out.set_version_term(raw(in.version.term));
    out.set_version_index(in.version.index);
    for (const Member &member : in.members)
        put(*out.add_members(), member);
    for (const NodeId id : in.sync.set)
        out.add_sync_set(raw(id));
    out.set_sync_quorum(in.sync.quorum);
    out.set_synchronous(in.synchronous);
    out.set_lease_ns(in.lease.count());
    out.set_paused(in.paused);
    out.set_recorded_by(raw(in.recorded_by));
}

bool get(const wire::Configuration &in, Configuration &out) {
    if (in.members_size() > static_cast<int>(members_max) || in.sync_set_size() > static_cast<int>(members_max))
        return false;
    // Nothing is acknowledged by nobody: a quorum of 0 would say so.
    if (in.sync_quorum() < 1 || in.sync_quorum() > members_max)
        return false;
    out.cluster = {in.cluster_high(), in.cluster_low()};
    out.system_identifier = in.system_identifier();
    out.version = {static_cast<Term>(in.version_term()), in.version_index()};
    out.members.resize(static_cast<std::size_t>(in.members_size()));
    for (int i = 0; i < in.members_size(); ++i) {
        if (i > 0 && in.members(i).id() <= in.members(i - 1).id())
            return false;
        if (!get(in.members(i), out.members[static_cast<std::size_t>(i)]))
            return false;
    }
    out.sync.set.reserve(static_cast<std::size_t>(in.sync_set_size()));
    for (int i = 0; i < in.sync_set_size(); ++i) {
        if (in.sync_set(i) == 0 || (i > 0 && in.sync_set(i) <= in.sync_set(i - 1)))
            return false;
        out.sync.set.push_back(static_cast<NodeId>(in.sync_set(i)));
    }
    out.sync.quorum = static_cast<std::uint16_t>(in.sync_quorum());
    out.synchronous = in.synchronous();
    out.paused = in.paused();
    out.recorded_by = static_cast<NodeId>(in.recorded_by());
    if (in.lease_ns() < 0 || in.lease_ns() > lease_ns_max)
        return false;
    out.lease = Duration{in.lease_ns()};
    return true;
}

// ---- reports --------------------------------------------------------------------------------------

namespace {

bool get(const wire::Links &in, std::vector<LinkReport> &out) {
    const int count = in.peer_size();
    if (count > static_cast<int>(members_max) || in.rtt_us_size() != count || in.last_heard_ms_size() != count ||
        in.missed_size() != count)
        return false;
    out.resize(static_cast<std::size_t>(count));
    for (int i = 0; i < count; ++i)
        out[static_cast<std::size_t>(i)] = {static_cast<NodeId>(in.peer(i)), in.rtt_us(i), in.last_heard_ms(i),
                                            in.missed(i)};
    return true;
}

bool get(const wire::Rejoins &in, std::vector<RejoinSeen> &out) {
    const int count = in.member_size();
    if (count > static_cast<int>(rejoins_max) || in.clone_size() != count || in.percent_size() != count ||
        in.total_mb_size() != count)
        return false;
    for (int i = 0; i < count; ++i) {
        if (in.percent(i) > 100)
            return false;
        out.push_back({static_cast<NodeId>(in.member(i)), in.clone(i), in.percent(i), in.total_mb(i)});
    }
    return true;
}

// A later version may know more of them.
bool get_parameters(const wire::MemberReport &in, RecoveryParameters &out) {
    const std::size_t count = static_cast<std::size_t>(in.parameters_size());
    if (count > members_max)
        return false;
    for (std::size_t i = 0; i < std::min(count, out.size()); ++i)
        out[i] = in.parameters(static_cast<int>(i));
    return true;
}

} // namespace

void put(wire::MemberReport &out, const MemberReport &in) {
    out.set_id(raw(in.id));
    out.set_incarnation(raw(in.incarnation));
    out.set_instance(raw(in.instance));
    out.set_saves(in.saves);
    out.set_sequence(in.sequence);
    out.set_refutations(in.refutations);
    out.set_role(static_cast<std::uint32_t>(in.role));
    out.set_term(raw(in.term));
    out.set_in_recovery(in.local.in_recovery);
    out.set_position_known(in.local.position_known);
    out.set_position_timeline(raw(in.local.position.timeline));
    out.set_position_lsn(raw(in.local.position.lsn));
    out.set_replayed(raw(in.local.replayed));
    out.set_streaming(in.local.streaming);
    out.set_replay_lag_ms(in.local.replay_lag_ms);
    out.set_unpromotable(!in.local.promotable);
    const std::string_view reason = shortened(in.reason);
    out.set_reason(reason.data(), reason.size());
    if (in.parameters != RecoveryParameters{})
        for (const std::uint32_t parameter : in.parameters)
            out.add_parameters(parameter);
    for (const RejoinSeen &rejoin : in.rejoins) {
        wire::Rejoins &rejoins = *out.mutable_rejoins();
        rejoins.add_member(raw(rejoin.member));
        rejoins.add_clone(rejoin.clone);
        rejoins.add_percent(rejoin.percent);
        rejoins.add_total_mb(rejoin.total_mb);
    }
    if (in.links.empty())
        return;
    wire::Links &links = *out.mutable_links();
    const int count = static_cast<int>(in.links.size());
    links.mutable_peer()->Reserve(count);
    links.mutable_rtt_us()->Reserve(count);
    links.mutable_last_heard_ms()->Reserve(count);
    links.mutable_missed()->Reserve(count);
    for (const LinkReport &link : in.links) {
        links.add_peer(raw(link.peer));
        links.add_rtt_us(link.rtt_us);
        links.add_last_heard_ms(link.last_heard_ms);
        links.add_missed(link.missed);
    }
}

bool get(const wire::MemberReport &in, MemberReport &out) {
    if (in.reason().size() > reason_bytes_max || !decode_enum(in.role(), Role::stopping, out.role) ||
        !get_parameters(in, out.parameters) || (in.has_rejoins() && !get(in.rejoins(), out.rejoins)))
        return false;
    out.id = static_cast<NodeId>(in.id());
    out.incarnation = static_cast<Incarnation>(in.incarnation());
    out.instance = static_cast<Instance>(in.instance());
    out.saves = in.saves();
    out.sequence = in.sequence();
    out.term = static_cast<Term>(in.term());
    out.refutations = in.refutations();
    out.local.in_recovery = in.in_recovery();
    out.local.position_known = in.position_known();
    out.local.position = {static_cast<Timeline>(in.position_timeline()), static_cast<Lsn>(in.position_lsn())};
    out.local.replayed = static_cast<Lsn>(in.replayed());
    out.local.streaming = in.streaming();
    out.local.replay_lag_ms = in.replay_lag_ms();
    out.local.promotable = !in.unpromotable();
    out.reason = in.reason();
    return !in.has_links() || get(in.links(), out.links);
}

// ---- rumours --------------------------------------------------------------------------------------

void put(wire::Rumours &out, const std::vector<Rumour> &in) {
    for (const Rumour &rumour : in) {
        out.add_member(raw(rumour.member));
        out.add_incarnation(raw(rumour.life.incarnation));
        out.add_refutations(rumour.life.refutations);
        out.add_state(static_cast<std::uint32_t>(rumour.state));
        out.add_accuser(raw(rumour.accuser));
    }
}

bool get(const wire::Rumours &in, std::vector<Rumour> &out) {
    const int count = in.member_size();
    if (count > rumours_max || in.incarnation_size() != count || in.refutations_size() != count ||
        in.state_size() != count || in.accuser_size() != count)
        return false;
    out.resize(static_cast<std::size_t>(count));
    for (int i = 0; i < count; ++i) {
        Rumour &rumour = out[static_cast<std::size_t>(i)];
        rumour.member = static_cast<NodeId>(in.member(i));
        rumour.life = {static_cast<Incarnation>(in.incarnation(i)), in.refutations(i)};
        rumour.accuser = static_cast<NodeId>(in.accuser(i));
        if (!decode_enum(in.state(i), Liveness::unreachable, rumour.state))
            return false;
    }
    return true;
}

} // namespace pg_ha::codec
