// SPDX-License-Identifier: PostgreSQL
#include "log.hpp"

#include <cstdlib>
#include <ctime>
#include <unistd.h>

namespace pg_ha {

namespace {

bool in_journal = false;
bool wants_debug = false;

std::string time_and_process() {
    timespec now{};
    ::clock_gettime(CLOCK_REALTIME, &now);
    tm parts{};
    ::localtime_r(&now.tv_sec, &parts);
    char text[64], zone[16];
    const std::size_t length = std::strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S", &parts);
    std::strftime(zone, sizeof(zone), "%Z", &parts);
    std::snprintf(text + length, sizeof(text) - length, ".%03ld", now.tv_nsec / 1'000'000);
    return std::string(text) + " " + zone + " [" + std::to_string(::getpid()) + "] ";
}

const char *word(LogLevel level) {
    switch (level) {
    case LogLevel::error: return "ERROR:  ";
    case LogLevel::warning: return "WARNING:  ";
    case LogLevel::info: return "LOG:  ";
    case LogLevel::debug: return "DEBUG:  ";
    }
    return "";
}

} // namespace

void open_log(bool debug) {
    in_journal = std::getenv("JOURNAL_STREAM") != nullptr;
    wants_debug = debug;
    ::tzset();
}

void write_log(LogLevel level, const std::string &source, const std::string &text) {
    if (level == LogLevel::debug && !wants_debug)
        return;
    const std::string head = in_journal ? "<" + std::to_string(static_cast<int>(level)) + ">" : time_and_process() + word(level);
    const std::string line = head + (source.empty() ? "" : source + ": ") + text + "\n";
    (void)!::write(STDERR_FILENO, line.data(), line.size()); // nowhere else to say that it failed
}

} // namespace pg_ha
