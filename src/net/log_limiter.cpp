// SPDX-License-Identifier: PostgreSQL
//
// Bounded memory: when too many different peers and causes were seen, the quiet ones are forgotten,
// and if none is quiet the line is left out (somebody is scanning the port).
#include "log_limiter.hpp"

namespace pg_ha {

namespace {

constexpr std::size_t entries_max = 256;
constexpr auto quiet_time = std::chrono::seconds(60);

} // namespace

void LogLimiter::log(NetLogLevel level, const std::string &key, const std::string &line) {
    if (!sink_)
        return;
    if (level == NetLogLevel::debug) {
        sink_(level, line);
        return;
    }
    const Clock::time_point now = Clock::now();
    const auto known = entries_.find(key);
    if (known != entries_.end()) {
        if (now - known->second.last < quiet_time) {
            ++known->second.left_out;
            return;
        }
        const unsigned left_out = known->second.left_out;
        known->second = {now, 0};
        sink_(level, left_out == 0 ? line : line + " (" + std::to_string(left_out) + " similar lines left out)");
        return;
    }
    if (entries_.size() >= entries_max)
        std::erase_if(entries_, [now](const auto &entry) { return now - entry.second.last >= quiet_time; });
    if (entries_.size() >= entries_max)
        return;
    entries_.emplace(key, Entry{now, 0});
    sink_(level, line);
}

} // namespace pg_ha
