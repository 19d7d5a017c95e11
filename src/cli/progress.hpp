// SPDX-License-Identifier: PostgreSQL
//
// How far a copy has come, for somebody who watches: one line that changes on a terminal, or a line now
// and then in a log.
#pragma once

#include "rejoin/progress.hpp"

#include <chrono>
#include <string>

namespace pg_ha::cli {

std::string format_progress(const rejoin::Amount &amount, double seconds); // "21 %, 12 MB of 57 MB, 4.0 MB/s"

class ProgressDisplay {
public:
    explicit ProgressDisplay(bool terminal) : terminal_(terminal) {}
    rejoin::Heard hear(const std::string &line); // for rejoin::run()
    void end();                                  // the line is complete
    const rejoin::Amount &last() const { return last_; }
    double seconds() const;

private:
    using Clock = std::chrono::steady_clock;
    void show();

    bool terminal_;
    rejoin::Amount last_;
    Clock::time_point begin_ = Clock::now(), shown_{};
    bool open_line_ = false;
};

} // namespace pg_ha::cli
