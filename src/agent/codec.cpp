// SPDX-License-Identifier: PostgreSQL
//
// Core structs <-> wire.proto.  Every decode_ function returns false for a value that the core must
// never see: text too long or with characters that could end up in a connection string, counts
// above the limits, enumerations out of range, members or sync set not in strictly ascending order
// (a member named twice would be counted twice).
//
// Decoding must never throw on bad input, and never allocate more than a small multiple of the
// bytes it was given.  Both directions reuse one protobuf object each, whose strings and rows keep
// their memory: 32 peers at five heartbeats a second should not cost thousands of allocations.
// Round trips are tested in tests/codec_test.cpp, limits in tests/codec_bounds_test.cpp.
#include "codec.hpp"

#include "codec_parts.hpp"

namespace pg_ha {

namespace {

using codec::decode_enum;
using codec::get;
using codec::put;

constexpr std::size_t reuse_bytes_max = 8192; // memory for larger messages is not kept

// The thread's one object of this type, empty.  Nothing here nests, so it is never in use twice.
template <typename Wire> class Reused {
public:
    Reused() : wire_(instance()) { wire_.Clear(); }
    ~Reused() {
        if (bytes_ > reuse_bytes_max)
            wire_ = Wire();
    }
    Reused(const Reused &) = delete;
    Reused &operator=(const Reused &) = delete;

    Wire &operator*() { return wire_; }
    bool parse(std::string_view bytes) {
        bytes_ = bytes.size();
        return bytes.size() <= frame_bytes_max && wire_.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()));
    }
    std::string serialize() {
        std::string out = wire_.SerializeAsString();
        bytes_ = out.size();
        return out;
    }

private:
    static Wire &instance() {
        static thread_local Wire wire;
        return wire;
    }
    Wire &wire_;
    std::size_t bytes_ = 0;
};

// ---- rows and rumours, of heartbeats and their answers ------------------------------------------------

template <typename Wire> void put_news(Wire &out, const std::vector<MemberReport> &table, const std::vector<Rumour> &rumours) {
    out.mutable_table()->Reserve(static_cast<int>(table.size()));
    for (const MemberReport &row : table)
        put(*out.add_table(), row);
    if (!rumours.empty())
        put(*out.mutable_rumours(), rumours);
}

template <typename Wire> bool get_news(const Wire &in, std::vector<MemberReport> &table, std::vector<Rumour> &rumours) {
    if (in.table_size() > static_cast<int>(members_max))
        return false;
    table.resize(static_cast<std::size_t>(in.table_size()));
    for (int i = 0; i < in.table_size(); ++i)
        if (!get(in.table(i), table[static_cast<std::size_t>(i)]))
            return false;
    return !in.has_rumours() || get(in.rumours(), rumours);
}

// ---- bodies ---------------------------------------------------------------------------------------

std::uint64_t nanoseconds(Instant instant) { return static_cast<std::uint64_t>(instant.time_since_epoch().count()); }

bool decode_instant(std::uint64_t nanoseconds, Instant &out) {
    if (nanoseconds > static_cast<std::uint64_t>(Duration::max().count()))
        return false;
    out = Instant(Duration(static_cast<Duration::rep>(nanoseconds)));
    return true;
}

void put(wire::Message &message, const Heartbeat &in) {
    wire::Heartbeat &out = *message.mutable_heartbeat();
    out.set_sent_ns(nanoseconds(in.sent));
    out.set_wants_reply(in.wants_reply);
    out.set_asks_nothing(in.asks_nothing);
    out.set_leader(raw(in.leader));
    out.set_config_version_term(raw(in.config_version.term));
    out.set_config_version_index(in.config_version.index);
    if (in.configuration)
        put(*out.mutable_configuration(), *in.configuration);
    if (!in.lineage.empty()) {
        wire::Lineage &lineage = *out.mutable_lineage();
        for (const TimelineEnd &entry : in.lineage) {
            lineage.add_timeline(raw(entry.timeline));
            lineage.add_end(raw(entry.end));
        }
    }
    out.set_lineage_confirmed(raw(in.lineage_confirmed));
    put(*out.mutable_self(), in.self);
    put_news(out, in.table, in.rumours);
}

bool get(const wire::Heartbeat &in, Heartbeat &out) {
    const int lineage_count = in.lineage().timeline_size();
    if (lineage_count > static_cast<int>(lineage_entries_max) || in.lineage().end_size() != lineage_count ||
        !decode_instant(in.sent_ns(), out.sent))
        return false;
    out.wants_reply = in.wants_reply();
    out.asks_nothing = in.asks_nothing();
    out.leader = static_cast<NodeId>(in.leader());
    out.config_version = {static_cast<Term>(in.config_version_term()), in.config_version_index()};
    if (in.has_configuration() && !get(in.configuration(), out.configuration.emplace()))
        return false;
    out.lineage.reserve(static_cast<std::size_t>(lineage_count));
    for (int i = 0; i < lineage_count; ++i)
        out.lineage.push_back(
            {static_cast<Timeline>(in.lineage().timeline(i)), static_cast<Lsn>(in.lineage().end(i))});
    out.lineage_confirmed = static_cast<Lsn>(in.lineage_confirmed());
    return get(in.self(), out.self) && get_news(in, out.table, out.rumours);
}

void put(wire::Message &message, const HeartbeatReply &in) {
    wire::HeartbeatReply &out = *message.mutable_heartbeat_reply();
    out.set_sent_ns(nanoseconds(in.sent));
    out.set_follows(in.follows);
    out.set_config_version_term(raw(in.config_version.term));
    out.set_config_version_index(in.config_version.index);
    put(*out.mutable_self(), in.self);
    put_news(out, in.table, in.rumours);
}

bool get(const wire::HeartbeatReply &in, HeartbeatReply &out) {
    if (!decode_instant(in.sent_ns(), out.sent))
        return false;
    out.follows = in.follows();
    out.config_version = {static_cast<Term>(in.config_version_term()), in.config_version_index()};
    return get(in.self(), out.self) && get_news(in, out.table, out.rumours);
}

void put(wire::Message &message, const VoteRequest &in) {
    wire::VoteRequest &out = *message.mutable_vote_request();
    out.set_pre(in.pre);
    out.set_term(raw(in.term));
    out.set_position_timeline(raw(in.position.timeline));
    out.set_position_lsn(raw(in.position.lsn));
    out.set_resigned(raw(in.resigned.term));
    out.set_resigned_incarnation(raw(in.resigned.incarnation));
    out.set_config_version_term(raw(in.config_version.term));
    out.set_config_version_index(in.config_version.index);
}

bool get(const wire::VoteRequest &in, VoteRequest &out) {
    out.pre = in.pre();
    out.term = static_cast<Term>(in.term());
    out.position = {static_cast<Timeline>(in.position_timeline()), static_cast<Lsn>(in.position_lsn())};
    out.resigned = {static_cast<Term>(in.resigned()), static_cast<Incarnation>(in.resigned_incarnation())};
    out.config_version = {static_cast<Term>(in.config_version_term()), in.config_version_index()};
    return true;
}

void put(wire::Message &message, const VoteReply &in) {
    wire::VoteReply &out = *message.mutable_vote_reply();
    out.set_pre(in.pre);
    out.set_term(raw(in.term));
    out.set_granted(in.granted);
    out.set_refusal(static_cast<std::uint32_t>(in.refusal));
    out.set_position_timeline(raw(in.position.timeline));
    out.set_position_lsn(raw(in.position.lsn));
    if (in.configuration)
        put(*out.mutable_configuration(), *in.configuration);
}

bool get(const wire::VoteReply &in, VoteReply &out) {
    out.pre = in.pre();
    out.term = static_cast<Term>(in.term());
    out.granted = in.granted();
    out.position = {static_cast<Timeline>(in.position_timeline()), static_cast<Lsn>(in.position_lsn())};
    if (in.has_configuration() && !get(in.configuration(), out.configuration.emplace()))
        return false;
    return decode_enum(in.refusal(), Refusal::storage_failed, out.refusal);
}

void put(wire::Message &message, const Resign &in) {
    message.mutable_resign()->set_clean(in.clean);
    message.mutable_resign()->set_successor(raw(in.successor));
}

bool get(const wire::Resign &in, Resign &out) {
    out.clean = in.clean();
    out.successor = static_cast<NodeId>(in.successor());
    return true;
}

void put(wire::Message &message, const StandNow &) { message.mutable_stand_now(); }

bool get(const wire::StandNow &, StandNow &) { return true; }

void put(wire::Message &message, const JoinRequest &in) {
    wire::JoinRequest &out = *message.mutable_join_request();
    put(*out.mutable_self(), in.self);
    out.set_system_identifier(in.system_identifier);
}

bool get(const wire::JoinRequest &in, JoinRequest &out) {
    out.system_identifier = in.system_identifier();
    return get(in.self(), out.self);
}

void put(wire::Message &message, const Rejected &in) {
    wire::Rejected &out = *message.mutable_rejected();
    out.set_why(static_cast<std::uint32_t>(in.why));
    out.set_incarnation(raw(in.incarnation));
    out.set_instance(raw(in.instance));
}

bool get(const wire::Rejected &in, Rejected &out) {
    out.incarnation = static_cast<Incarnation>(in.incarnation());
    out.instance = static_cast<Instance>(in.instance());
    return decode_enum(in.why(), last_rejection, out.why);
}

void put(wire::Message &message, const IndirectProbe &in) { message.mutable_indirect_probe()->set_target(raw(in.target)); }

bool get(const wire::IndirectProbe &in, IndirectProbe &out) {
    out.target = static_cast<NodeId>(in.target());
    return true;
}

void put(wire::Message &message, const IndirectReply &in) {
    message.mutable_indirect_reply()->set_target(raw(in.target));
    message.mutable_indirect_reply()->set_reached(in.reached);
}

bool get(const wire::IndirectReply &in, IndirectReply &out) {
    out.target = static_cast<NodeId>(in.target());
    out.reached = in.reached();
    return true;
}

// Decode in place: a heartbeat is too large to be built first and moved into the variant.
template <typename T, typename Wire> bool get_body(const Wire &in, Body &out) { return get(in, out.emplace<T>()); }

bool get_body(const wire::Message &in, Body &out) {
    const int bodies = in.has_heartbeat() + in.has_heartbeat_reply() + in.has_vote_request() + in.has_vote_reply() +
                       in.has_resign() + in.has_stand_now() + in.has_join_request() + in.has_rejected() +
                       in.has_indirect_probe() + in.has_indirect_reply();
    if (bodies != 1) // none: a body that only newer members know
        return false;
    if (in.has_heartbeat())
        return get_body<Heartbeat>(in.heartbeat(), out);
    if (in.has_heartbeat_reply())
        return get_body<HeartbeatReply>(in.heartbeat_reply(), out);
    if (in.has_vote_request())
        return get_body<VoteRequest>(in.vote_request(), out);
    if (in.has_vote_reply())
        return get_body<VoteReply>(in.vote_reply(), out);
    if (in.has_resign())
        return get_body<Resign>(in.resign(), out);
    if (in.has_stand_now())
        return get_body<StandNow>(in.stand_now(), out);
    if (in.has_join_request())
        return get_body<JoinRequest>(in.join_request(), out);
    if (in.has_rejected())
        return get_body<Rejected>(in.rejected(), out);
    if (in.has_indirect_probe())
        return get_body<IndirectProbe>(in.indirect_probe(), out);
    return get_body<IndirectReply>(in.indirect_reply(), out);
}

// Nobody has a configuration of a term that he does not know; whoever believed it would not know its term either.
bool configuration_fits(const Message &message) {
    const Configuration *shown = nullptr;
    if (const auto *heartbeat = std::get_if<Heartbeat>(&message.body))
        shown = heartbeat->configuration ? &*heartbeat->configuration : nullptr;
    else if (const auto *vote = std::get_if<VoteReply>(&message.body))
        shown = vote->configuration ? &*vote->configuration : nullptr;
    return shown == nullptr || shown->version.term <= message.term;
}

} // namespace

std::string encode(const Message &message) {
    Reused<wire::Message> reused;
    wire::Message &out = *reused;
    out.set_cluster_high(message.cluster.high);
    out.set_cluster_low(message.cluster.low);
    out.set_from(raw(message.from));
    out.set_to(raw(message.to));
    out.set_incarnation(raw(message.incarnation));
    out.set_instance(raw(message.instance));
    out.set_saves(message.saves);
    out.set_term(raw(message.term));
    std::visit([&out](const auto &body) { put(out, body); }, message.body);
    return reused.serialize();
}

std::optional<Message> decode_message(std::string_view bytes) {
    std::optional<Message> message;
    Reused<wire::Message> reused;
    const wire::Message &in = *reused;
    if (!reused.parse(bytes) || in.from() == 0)
        return message;
    message.emplace();
    message->cluster = {in.cluster_high(), in.cluster_low()};
    message->from = static_cast<NodeId>(in.from());
    message->to = static_cast<NodeId>(in.to());
    message->incarnation = static_cast<Incarnation>(in.incarnation());
    message->instance = static_cast<Instance>(in.instance());
    message->saves = in.saves();
    message->term = static_cast<Term>(in.term());
    if (!get_body(in, message->body) || !configuration_fits(*message))
        message.reset();
    return message;
}

std::string encode(const DurableState &state) {
    Reused<wire::DurableState> reused;
    wire::DurableState &out = *reused;
    out.set_self(raw(state.self));
    out.set_node_name(state.node_name);
    out.set_saves(state.saves);
    out.set_incarnation(raw(state.incarnation));
    out.set_term(raw(state.term));
    out.set_voted_for(raw(state.voted_for));
    out.set_by_hand(raw(state.by_hand));
    put(*out.mutable_configuration(), state.configuration);
    return reused.serialize();
}

std::optional<DurableState> decode_state(std::string_view bytes) {
    std::optional<DurableState> state;
    Reused<wire::DurableState> reused;
    const wire::DurableState &in = *reused;
    if (!reused.parse(bytes))
        return state;
    state.emplace();
    state->self = static_cast<NodeId>(in.self());
    state->saves = in.saves();
    state->incarnation = static_cast<Incarnation>(in.incarnation());
    state->term = static_cast<Term>(in.term());
    state->voted_for = static_cast<NodeId>(in.voted_for());
    state->by_hand = static_cast<Timeline>(in.by_hand());
    if (!codec::decode_name(in.node_name(), state->node_name) || !get(in.configuration(), state->configuration))
        state.reset();
    return state;
}

} // namespace pg_ha
