// SPDX-License-Identifier: PostgreSQL
//
// Which members are being rewound or cloned.  See rejoin_watch.cpp.
#pragma once

namespace pg_ha {

// Manager worker only.  Returns after how many milliseconds to call it again.
long watch_rejoins();

} // namespace pg_ha
