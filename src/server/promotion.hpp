// SPDX-License-Identifier: PostgreSQL
//
// Promotion without SQL and without waiting: start it, then look now and then.
#pragma once

#include "core/event.hpp"

namespace pg_ha {

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
