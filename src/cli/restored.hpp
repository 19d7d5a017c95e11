// SPDX-License-Identifier: PostgreSQL
//
// pg_hactl clone --restored: a data directory that the user restored, from pgBackRest or a plain base
// backup, becomes a member.  It must be of this cluster, on a timeline that led to the present one, and
// not have more than the cluster; nothing is copied, and no data file is touched.
#pragma once

#include "clone.hpp"
#include "core/types.hpp"

#include <optional>

namespace pg_ha::cli {

// Where the recovery of a base backup begins, as its backup_label says.  Nothing if that is unreadable.
std::optional<Position> parse_backup_label(const std::string &text);
// Does the history of timeline `current` (text of its history file) contain that position?
bool history_contains(const std::string &history, Timeline current, Position position);

int adopt_restored(const CloneOptions &options, int local_version); // throws Failure

} // namespace pg_ha::cli
