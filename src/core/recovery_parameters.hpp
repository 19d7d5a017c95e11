// SPDX-License-Identifier: PostgreSQL
//
// Settings that PostgreSQL wants a standby to have at least as high as its primary: with less, recovery stops, and
// the server can't be started.  They need a restart, so a person has to know before the day of the failover.
// All 0: not known, or no data node.
#pragma once

#include <array>
#include <cstdint>
#include <string>

namespace pg_ha {

inline constexpr std::array<const char *, 5> recovery_parameter_names = {
    "max_connections", "max_worker_processes", "max_wal_senders", "max_prepared_transactions", "max_locks_per_transaction"};
using RecoveryParameters = std::array<std::uint32_t, recovery_parameter_names.size()>;

// Empty: with `own` a server can follow a primary with `theirs`.
std::string why_cannot_follow(const RecoveryParameters &own, const RecoveryParameters &theirs);

} // namespace pg_ha
