// SPDX-License-Identifier: PostgreSQL
//
// Printing of the protocol's words, the way PostgreSQL prints them.
#include "types.hpp"

#include <cinttypes>
#include <cstdio>

namespace pg_ha {

std::string to_string(Lsn lsn) {
    char text[32];
    std::snprintf(text, sizeof text, "%" PRIX64 "/%" PRIX64, raw(lsn) >> 32, raw(lsn) & 0xFFFFFFFFu);
    return text;
}

std::string to_string(Position position) {
    return std::to_string(raw(position.timeline)) + "/" + to_string(position.lsn);
}

std::string to_string(ClusterId id) {
    char text[40];
    std::snprintf(text, sizeof text, "%016" PRIx64 "%016" PRIx64, id.high, id.low);
    return text;
}

} // namespace pg_ha
