// SPDX-License-Identifier: PostgreSQL
//
// What the core says about itself, as plain rows for shared memory.
#pragma once

#include "core/status.hpp"

#include "shmem.hpp"

namespace pg_ha {

EventRow event_row(const Note &note);
void fill_snapshot(const Status &status, Instant now, Snapshot *out);
// Before this server takes part in a cluster.
void fill_passive_snapshot(const std::string &node_name, std::uint64_t system_identifier, const std::string &reason,
                           Snapshot *out);

} // namespace pg_ha
