// SPDX-License-Identifier: PostgreSQL
//
// The server to be rewound to: is it the primary that was meant, and does it let us?  Everything that is
// read here is read before anything is touched, and asked again before data is overwritten.
#pragma once

#include "agent/rejoin_journal.hpp"
#include "progress.hpp"

#include <cstdint>
#include <functional>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

namespace pg_ha::rejoin {

struct Tablespace {
    std::string oid, location;
    std::optional<std::uint64_t> bytes; // none: we may not know
};

// Throws when the source is the right one, but pg_rewind cannot work with it.
struct CannotRewind : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// Each throws std::runtime_error with a text for people.

// Primary of the journal's timeline and system, with a checkpoint on that timeline (pg_rewind compares
// checkpoints), with the rights that pg_rewind needs and parameters that this server can follow.
void check_source(const RejoinJournal &journal);
// pg_rewind takes the source's insert position for what has to be replayed before the server may open.  At the
// beginning of a page that is behind the page's header, where no record ends: nothing would open here until the
// source writes on, which an idle one does not.  And that position need not be on anybody's disk: if the source died now,
// the data files here would need WAL that nobody has.  So the record is a commit that waits for disks and standbys.
void write_a_record(const RejoinJournal &journal);
// A session with the primary that says there how far we are; for people, so nothing depends on it: if the primary does
// not let us in, or does not answer, nothing is told.
std::function<void(const Amount &)> tell_primary(const RejoinJournal &journal, const std::string &conninfo, bool clone);
// Directories of tablespaces that the source has, and this server has not, are made where they are missing.  `links`: the
// place of this server's pg_tblspc.
void make_tablespace_directories(const RejoinJournal &journal, const std::string &links);

// The primary of the journal's timeline or of a later one, whichever member that is; asked in the
// replication protocol, so that the right to replicate is enough.
struct CloneSource {
    std::string conninfo;
    Timeline timeline = Timeline::none;
    std::vector<Tablespace> tablespaces; // empty where only replication is allowed
};
CloneSource find_clone_source(const RejoinJournal &journal);

} // namespace pg_ha::rejoin
