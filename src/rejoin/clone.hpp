// SPDX-License-Identifier: PostgreSQL
//
// A new copy of the primary beside the old server, and the change of places.  Needs the right to
// replicate and nothing else.
#pragma once

#include "agent/rejoin_journal.hpp"

namespace pg_ha::rejoin {

// The copy, whole and durable, beside the old directories.  Throws std::runtime_error; nothing of the old
// server is touched by then, whatever happens.
void make_clone(const RejoinJournal &journal);
// May be cut off anywhere and called again.  Afterwards the data directory holds the copy, and the server
// a new identity: its old one may have confirmed WAL that the copy does not have yet.
void swap_clone(const RejoinJournal &journal, const std::string &state_directory);
// The old server, and what an unfinished copy has left.
void remove_clone_leftovers(const RejoinJournal &journal);

} // namespace pg_ha::rejoin
