// SPDX-License-Identifier: PostgreSQL
//
// Promotion without SQL and without waiting: start it, then look now and then.
#pragma once

#include "core/event.hpp"

namespace pg_ha {

// Before recovery starts: drops the placeholders behind the newest real history file.  They are left
// by a promotion that never finished; recovery would take the last one for the newest timeline and
// refuse to start.  Null, or what failed (errno is set).  Raises nothing, uses no C++ object.
const char *remove_stale_placeholders();

// Before recovery starts, in the postmaster: drops histories of newer timelines that do not contain this server's own
// WAL, which recovery would die of.  Null, or what failed (errno is set).  May raise.
const char *remove_foreign_histories();

// The newest timeline that this data directory has a history of.
Timeline newest_timeline();

class Promotion {
public:
    // Failure text, or empty when PostgreSQL was asked to leave recovery.
    std::string start(Term term, Timeline replayed, Instant now);
    bool running() const { return running_; }
    // Done when PostgreSQL is writable: the caller then reads where it is.  Failed: with the reason.
    enum class Outcome { pending, done, failed };
    Outcome poll(Instant now);
    const std::string &failure() const { return failure_; }
    Term term() const { return term_; }

private:
    bool running_ = false;
    Term term_ = Term::none;
    Instant deadline_{};
    Instant signal_again_{};
    std::string failure_;
};

} // namespace pg_ha
