// SPDX-License-Identifier: PostgreSQL
//
// Greeting and Answer as bytes, the rules of who may be linked, and their words.
#include "handshake.hpp"

#include "core/settings.hpp"

#include "wire.pb.h"

#include <algorithm>

namespace pg_ha {

namespace {

void put(wire::Hello &out, const Greeting &in) {
    out.set_version_min(in.version_min);
    out.set_version_max(in.version_max);
    out.set_cluster_high(in.cluster.high);
    out.set_cluster_low(in.cluster.low);
    out.set_node_id(raw(in.id));
    out.set_name(in.name);
    out.set_system_identifier(in.system_identifier);
    out.set_nonce(in.nonce);
}

// The name is checked here because it goes into log lines.
bool get(const wire::Hello &in, Greeting &out) {
    out = {in.version_min(),
           in.version_max(),
           {in.cluster_high(), in.cluster_low()},
           static_cast<NodeId>(in.node_id()),
           in.name(),
           in.system_identifier(),
           in.nonce()};
    return out.id != NodeId::none && out.version_min <= out.version_max && valid_node_name(out.name);
}

std::string versions(const Greeting &greeting) {
    return std::to_string(greeting.version_min) + " to " + std::to_string(greeting.version_max);
}

} // namespace

std::string encode(const Greeting &greeting) {
    wire::Hello out;
    put(out, greeting);
    return out.SerializeAsString();
}

std::string encode(const Answer &answer) {
    wire::Welcome out;
    out.set_refusal(static_cast<std::uint32_t>(answer.refusal));
    put(*out.mutable_self(), answer.from);
    return out.SerializeAsString();
}

std::optional<Greeting> decode_greeting(std::string_view bytes) {
    wire::Hello in;
    Greeting out;
    if (bytes.size() > handshake_bytes_max || !in.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())) ||
        !get(in, out))
        return std::nullopt;
    return out;
}

std::optional<Answer> decode_answer(std::string_view bytes) {
    wire::Welcome in;
    Answer out;
    if (bytes.size() > handshake_bytes_max || !in.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())) ||
        in.refusal() > static_cast<std::uint32_t>(HandshakeRefusal::itself) || !get(in.self(), out.from))
        return std::nullopt;
    out.refusal = static_cast<HandshakeRefusal>(in.refusal());
    return out;
}

HandshakeRefusal judge(const Greeting &mine, const Greeting &theirs) {
    if (std::max(mine.version_min, theirs.version_min) > std::min(mine.version_max, theirs.version_max))
        return HandshakeRefusal::version;
    if (mine.cluster != theirs.cluster)
        return HandshakeRefusal::cluster;
    if (mine.id == theirs.id)
        return mine.nonce == theirs.nonce ? HandshakeRefusal::itself : HandshakeRefusal::cloned_identity;
    if (mine.system_identifier != 0 && theirs.system_identifier != 0 &&
        mine.system_identifier != theirs.system_identifier)
        return HandshakeRefusal::system_identifier;
    if (mine.name == theirs.name)
        return HandshakeRefusal::name_in_use;
    return HandshakeRefusal::none;
}

std::string explain(HandshakeRefusal refusal, const Greeting &mine, const Greeting &theirs) {
    switch (refusal) {
    case HandshakeRefusal::none:
        return "no reason";
    case HandshakeRefusal::version:
        return "no common protocol version (here " + versions(mine) + ", there " + versions(theirs) +
               "). Install the same version of pg_ha on both servers.";
    case HandshakeRefusal::cluster:
        return "it belongs to cluster " + to_string(theirs.cluster) + ", this node to " + to_string(mine.cluster) +
               ". Check pg_ha.peers on both servers.";
    case HandshakeRefusal::system_identifier:
        return "its database system identifier is " + std::to_string(theirs.system_identifier) + ", here it is " +
               std::to_string(mine.system_identifier) + ". Clone that server with pg_basebackup from a member.";
    case HandshakeRefusal::name_in_use:
        return "both servers have pg_ha.node_name \"" + mine.name + "\". Give each server a name of its own.";
    case HandshakeRefusal::cloned_identity:
        return "both servers have the same node identity. The state directory was copied: stop one of both servers "
               "and remove its pg_ha.state_directory.";
    case HandshakeRefusal::duplicate:
        return "two running processes have the identity of node \"" + theirs.name + "\" or \"" + mine.name +
               "\". The state directory was copied: stop one of both servers and remove its pg_ha.state_directory.";
    case HandshakeRefusal::itself:
        return "this is the node itself. Nothing needs to be done.";
    }
    return "unknown reason";
}

} // namespace pg_ha
