// SPDX-License-Identifier: PostgreSQL
//
// What messages and the stored state are made of: names, addresses, members, configuration, reports, rumours.
// For codec.cpp only; the rules for decoding stand there.
#pragma once

#include "core/event.hpp"

#include "wire.pb.h"

namespace pg_ha::codec {

template <typename Enum> bool decode_enum(std::uint32_t value, Enum last, Enum &out) {
    if (value > static_cast<std::uint32_t>(last))
        return false;
    out = static_cast<Enum>(value);
    return true;
}

bool decode_name(const std::string &text, std::string &out);

void put(wire::Endpoint &out, const Endpoint &in);
void put(wire::Member &out, const Member &in);
void put(wire::Configuration &out, const Configuration &in);
void put(wire::MemberReport &out, const MemberReport &in);
void put(wire::Rumours &out, const std::vector<Rumour> &in);

bool get(const wire::Endpoint &in, Endpoint &out);
bool get(const wire::Member &in, Member &out);
bool get(const wire::Configuration &in, Configuration &out);
bool get(const wire::MemberReport &in, MemberReport &out);
bool get(const wire::Rumours &in, std::vector<Rumour> &out);

} // namespace pg_ha::codec
