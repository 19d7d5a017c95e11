// SPDX-License-Identifier: PostgreSQL
//
// WAL that must not get lost on the way, kept in the state directory:
//   rejoin.tail   control file and last segments as they were before recovery, to have the old server back
//   rejoin.wal    control file and own WAL as pg_rewind found them, to run it again after it was cut off
//   diverged/...  the WAL that the primary does not have, for people; it stays
// Real copies all of them: recovery and pg_rewind write into files in place.
#pragma once

#include "agent/rejoin_journal.hpp"
#include "control_data.hpp"

#include <optional>
#include <string>

namespace pg_ha::rejoin {

struct Places {
    std::string state;  // state directory
    std::string hidden; // where PostgreSQL's directories are
};

// What pg_rewind --dry-run has found.
struct Divergence {
    Position fork;       // where the source left our history
    Position checkpoint; // last common one: replay begins there
};
std::optional<Divergence> parse_divergence(const std::string &output);
// "need to copy 51 MB (...)"
std::optional<std::uint64_t> parse_need_mb(const std::string &output);
// Of the checkpoint record that pg_waldump prints.
std::optional<Lsn> parse_redo(const std::string &output);

void keep_tail(const Places &places, const ControlData &control, Position own);
void put_back_tail(const Places &places);
// Returns the directory under diverged/.  Throws std::runtime_error if there is no room.
std::string keep_diverged_wal(const Places &places, const RejoinJournal &journal, std::uint64_t segment_bytes,
                              const Divergence &found, Lsn redo);
// The same for a clone, by what the core has told of the fork; nothing has to be run again then.
std::string keep_diverged_wal(const Places &places, const RejoinJournal &journal);
void put_back_saved_wal(const Places &places);
// The source may have removed what lies between `redo` and the fork; we still have it.
void add_older_wal(const Places &places, Position fork);
void remove_kept(const Places &places);

} // namespace pg_ha::rejoin
