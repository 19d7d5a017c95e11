// SPDX-License-Identifier: PostgreSQL
//
// One line per peer and cause, then silence for a while: a peer that is refused five times a second
// must not fill the server's log.  The next line says how many were left out.
#pragma once

#include "runtime.hpp"

#include <chrono>
#include <map>

namespace pg_ha {

class LogLimiter {
public:
    using Clock = std::chrono::steady_clock;

    explicit LogLimiter(std::function<void(NetLogLevel, const std::string &)> sink) : sink_(std::move(sink)) {}

    // key: peer and cause.  Debug lines pass unlimited.
    void log(NetLogLevel level, const std::string &key, const std::string &line);
    // The state that `key` complained about is over: its next line is news again.
    void forget(const std::string &key) { entries_.erase(key); }

private:
    struct Entry {
        Clock::time_point last;
        unsigned left_out = 0;
    };
    std::function<void(NetLogLevel, const std::string &)> sink_;
    std::map<std::string, Entry> entries_;
};

} // namespace pg_ha
