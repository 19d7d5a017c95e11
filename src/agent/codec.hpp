// SPDX-License-Identifier: PostgreSQL
//
// Core structs <-> bytes (protobuf-lite, wire.proto).  Decoding checks every bound before it
// believes a value: string lengths, counts, enum ranges.  Unknown fields are ignored; an unknown
// body type is an error for that message only.
#pragma once

#include "core/event.hpp"

#include <string_view>

namespace pg_ha {

inline constexpr std::size_t frame_bytes_max = 64 * 1024;

std::string encode(const Message &message);
std::optional<Message> decode_message(std::string_view bytes);

std::string encode(const DurableState &state);
std::optional<DurableState> decode_state(std::string_view bytes);

} // namespace pg_ha
