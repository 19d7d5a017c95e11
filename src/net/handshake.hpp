// SPDX-License-Identifier: PostgreSQL
//
// The handshake on top of TLS: the side that dialled says who it is (Greeting), the other answers
// with the same about itself, or with a refusal.  Both sides judge by the same rules, so it doesn't
// matter who dialled whom, and both log one line that says what is wrong and what to do.
#pragma once

#include "core/types.hpp"

#include <optional>
#include <string_view>

namespace pg_ha {

inline constexpr std::uint32_t protocol_version_min = 1;
inline constexpr std::uint32_t protocol_version_max = 1;
inline constexpr std::size_t handshake_bytes_max = 1024;

struct Greeting {
    std::uint32_t version_min = protocol_version_min;
    std::uint32_t version_max = protocol_version_max;
    ClusterId cluster;
    NodeId id = NodeId::none;
    std::string name;
    std::uint64_t system_identifier = 0; // 0: has no data (witness)
    std::uint64_t nonce = 0;             // random for each run of a process
};

enum class HandshakeRefusal : std::uint8_t {
    none = 0,
    version = 1,           // no common protocol version
    cluster = 2,           // another cluster (with the same secret)
    system_identifier = 3, // another database system
    name_in_use = 4,       // both have the same node_name
    cloned_identity = 5,   // both have the same node id: the state directory was copied
    duplicate = 6,         // another process with the same node id is connected
    itself = 7,            // dialled its own address
};

struct Answer {
    HandshakeRefusal refusal = HandshakeRefusal::none;
    Greeting from;
};

std::string encode(const Greeting &greeting);
std::string encode(const Answer &answer);
std::optional<Greeting> decode_greeting(std::string_view bytes);
std::optional<Answer> decode_answer(std::string_view bytes);

// May these two be linked?  Never `duplicate`: that takes knowledge of the other links.
HandshakeRefusal judge(const Greeting &mine, const Greeting &theirs);

// "what is wrong. What to do." for the log of the node `mine`.
std::string explain(HandshakeRefusal refusal, const Greeting &mine, const Greeting &theirs);

} // namespace pg_ha
