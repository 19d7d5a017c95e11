// SPDX-License-Identifier: PostgreSQL
//
// How pg_hactl fails: one message in PostgreSQL's style with a hint where there is something to do, and the
// exit status that scripts look at.
#pragma once

#include <stdexcept>
#include <string>

namespace pg_ha::cli {

enum ExitStatus {
    exit_done = 0,        // done; status: healthy
    exit_failed = 1,      // failed; status: degraded
    exit_no_primary = 2,  // there is no primary
    exit_unreachable = 3, // no member could be asked
    exit_misused = 4,     // wrong command line
};

class Failure : public std::runtime_error {
public:
    explicit Failure(const std::string &text, std::string hint = "", ExitStatus status = exit_failed)
        : std::runtime_error(text), hint_(std::move(hint)), status_(status) {}
    const std::string &hint() const { return hint_; }
    ExitStatus status() const { return status_; }

private:
    std::string hint_;
    ExitStatus status_;
};

} // namespace pg_ha::cli
