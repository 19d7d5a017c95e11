// SPDX-License-Identifier: PostgreSQL
#include "progress.hpp"

#include <algorithm>
#include <cstdio>

namespace pg_ha::rejoin {

unsigned Amount::percent() const {
    return total_kb == 0 ? 0 : static_cast<unsigned>(std::min<std::uint64_t>(100, done_kb * 100 / total_kb));
}

std::optional<Amount> parse_progress(const std::string &line) {
    unsigned long long done, total;
    unsigned percent;
    char close = 0;
    if (std::sscanf(line.c_str(), " %llu/ %llu kB (%u%%%c", &done, &total, &percent, &close) != 4 || close != ')')
        return std::nullopt;
    return Amount{done, total};
}

Heard Progress::hear(const std::string &line) {
    const std::optional<Amount> amount = parse_progress(line);
    if (!amount)
        return Heard::a_line;
    if (const int tenths = static_cast<int>(amount->percent() / 10); tenths > said_tenths_) {
        said_tenths_ = tenths;
        say(std::to_string(amount->percent()) + " % of " + std::to_string(amount->total_kb >> 10) + " MB copied");
    }
    if (tell_)
        tell_(*amount);
    return Heard::progress;
}

} // namespace pg_ha::rejoin
