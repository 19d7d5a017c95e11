// SPDX-License-Identifier: PostgreSQL
#include "progress.hpp"

#include "table.hpp"

#include <iostream>

namespace pg_ha::cli {

namespace {

constexpr std::chrono::seconds between_lines{5}; // where nobody watches

} // namespace

std::string format_progress(const rejoin::Amount &amount, double seconds) {
    const double rate = seconds > 0.5 ? static_cast<double>(amount.done_kb) * 1024 / seconds : 0;
    return std::to_string(amount.percent()) + " %, " + format_bytes(amount.done_kb * 1024) + " of " +
           format_bytes(amount.total_kb * 1024) +
           (rate > 0 ? ", " + format_bytes(static_cast<std::uint64_t>(rate)) + "/s" : "");
}

double ProgressDisplay::seconds() const { return std::chrono::duration<double>(Clock::now() - begin_).count(); }

rejoin::Heard ProgressDisplay::hear(const std::string &line) {
    const auto amount = rejoin::parse_progress(line);
    if (!amount)
        return rejoin::Heard::a_line;
    last_ = *amount;
    show();
    return rejoin::Heard::progress;
}

void ProgressDisplay::show() {
    const auto now = Clock::now();
    if (!terminal_ && now - shown_ < between_lines)
        return;
    shown_ = now;
    const std::string text = format_progress(last_, seconds());
    if (terminal_)
        std::cerr << "\r\033[K" << text << std::flush;
    else
        std::cerr << text << std::endl;
    open_line_ = terminal_;
}

void ProgressDisplay::end() {
    if (open_line_)
        std::cerr << "\n";
    open_line_ = false;
}

} // namespace pg_ha::cli
