// SPDX-License-Identifier: PostgreSQL
//
// The server to be rewound to: is it the primary that was meant, and does it let us?  Everything that is
// read here is read before anything is touched, and asked again before data is overwritten.
#pragma once

#include "agent/rejoin_journal.hpp"

namespace pg_ha::rejoin {

// Each throws std::runtime_error with a text for people.

// Primary of the journal's timeline and system, with a checkpoint on that timeline (pg_rewind compares
// checkpoints), with the rights that pg_rewind needs and parameters that this server can follow.
void check_source(const RejoinJournal &journal);
// Directories of tablespaces that the source has are made where they are missing.
void make_tablespace_directories(const RejoinJournal &journal);

} // namespace pg_ha::rejoin
