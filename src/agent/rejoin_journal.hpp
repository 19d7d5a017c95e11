// SPDX-License-Identifier: PostgreSQL
//
// What server and helper tell each other about a rejoin: one small text file in the state directory,
// replaced as a whole and durable before anybody acts on it.  The server writes the request, the helper
// (src/rejoin) every step from then on, and whoever starts the server reads here whether the data
// directory may be opened.
//
// A request is bound to the postmaster that made it: an old one found later asks for nothing.  A rejoin
// that has begun is bound to nobody: it has to be finished, whoever starts the server.
#pragma once

#include "core/types.hpp"

#include <map>
#include <string>

namespace pg_ha {

// The helper is a program of its own; server and helper refuse each other's file when this differs.
inline constexpr int rejoin_format = 2;

// How the helper ends.  The server may open the data directory after the first two only.
enum RejoinExit { rejoin_exit_done = 0, rejoin_exit_given_up = 10, rejoin_exit_stopped = 11, rejoin_exit_failed = 12 };

// How far it is, in a statement of the helper's session with the primary: member, whether it is a clone, percent, MB.
inline constexpr const char *rejoin_application_name = "pg_ha_rejoin";
inline constexpr const char *rejoin_progress_format = "SELECT 1 /* rejoin of member %llx, clone %u: %u %% of %u MB */";

enum class RejoinPhase : std::uint8_t {
    none,       // nothing asked
    requested,  // nothing touched yet
    hiding,     // PostgreSQL's directories are being moved out of reach of a start
    recovering, // single-user crash recovery, so that the control file says "shut down"
    saving,     // own WAL and control file are being copied aside
    rewinding,  // data files are a mixture: only the helper may touch them
    finishing,  // rewound; directories are being moved back
    cloning,    // a second copy is being made beside
    swapping,   // it takes the place of the old server
    returning,  // given up before anything was overwritten: what recovery appended is taken back
    done,
    given_up,   // nothing is changed; `text` says why
};
const char *to_string(RejoinPhase phase);

// May PostgreSQL not open the data directory as it lies there?
bool rejoin_unfinished(RejoinPhase phase);

struct RejoinJournal {
    RejoinPhase phase = RejoinPhase::none;
    // -- written by the server
    std::int64_t postmaster = 0; // process id; 0: the next one, whichever
    std::int64_t postmaster_started = 0;
    std::string data_directory, config_file, program_directory;
    std::uint64_t system_identifier = 0;
    std::string clone;    // why nothing but a clone helps; empty: rewind if possible
    NodeId self = NodeId::none; // whose rejoin it is
    std::string leader;   // name of the primary to follow
    std::string conninfo; // how to reach it
    Term term = Term::none;
    Timeline timeline = Timeline::none; // it writes on
    Position own, fork;   // fork.timeline none: unknown
    bool numbers_shared = false; // timelines of the same numbers are different ones here and there: pg_rewind is blind
    std::map<std::string, std::string> candidates; // how to reach each data node, by name: one of them is primary
    std::map<std::string, std::string> parameters; // that a standby must not have lower than its primary
    // -- written by the helper
    std::string aside;    // directory that keeps the diverged WAL
    unsigned rewinds = 0; // times pg_rewind was started ...
    unsigned rewinds_failed = 0; // ... and said that it failed; others were cut off
    bool hidden = false;  // the directories are, so there may be something to take back
    unsigned failures = 0; // times given up, in a row
    std::int64_t at = 0;  // seconds since the epoch, of the last change of phase
    std::string text;     // what became of it, for people
    bool reported = false; // ... and they were told

    std::int64_t began_at = 0; // seconds since the epoch, of the request
};

// Both throw std::system_error or std::runtime_error with the path in the text.  No file: phase none.
RejoinJournal read_rejoin_journal(const std::string &state_directory);
void write_rejoin_journal(const std::string &state_directory, const RejoinJournal &journal);

} // namespace pg_ha
