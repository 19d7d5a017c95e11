// SPDX-License-Identifier: PostgreSQL
//
// The slots that keep WAL for the other members.  See retention.cpp.
#pragma once

extern "C" {
#include "postgres.h"
}

namespace pg_ha {

inline constexpr int slot_name_bytes = 32;
void slot_name_of(uint64 member, char (*name)[slot_name_bytes]);

// Manager worker only.  Does what is due; returns after how many milliseconds to call it again.
long keep_slots();

} // namespace pg_ha
