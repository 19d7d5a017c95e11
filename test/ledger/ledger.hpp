// SPDX-License-Identifier: PostgreSQL
//
// The independent ledger: what clients were told, kept where no server can touch it.  This header is what its
// parts share: clock, options, and the file in which each attempt has a line with begin, end, server, timeline
// and outcome.  All clocks are CLOCK_BOOTTIME of this one machine.
//
// It must never guess: an attempt without an answer is unknown, its id is not used again, and it counts
// neither as lost nor as acknowledged.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

namespace ledger {

using Nanoseconds = std::int64_t;
constexpr Nanoseconds millisecond = 1'000'000;
constexpr Nanoseconds second = 1000 * millisecond;

inline std::atomic<bool> stop_requested{false};

Nanoseconds now();
[[noreturn]] void fail(const std::string &text);

struct Options {
    std::string command;
    std::vector<std::string> hosts; // "host:port"
    std::vector<std::string> files;
    std::string user = "postgres";
    std::string database = "postgres";
    std::string table = "ledger";
    std::string synchronous_commit = "on";
    std::int64_t sessions = 4;  // per server
    std::int64_t pipelined = 1; // of these
    std::int64_t first_id = 1;
    std::int64_t pause_us = -1; // as the command has it
    Nanoseconds after = 0;
};

std::string conninfo_of(const std::string &address, const Options &options);
// Inserts the id; answers with the number of the timeline that it was written on.
std::string insert_of(std::int64_t id, const Options &options);

enum class Outcome : char { acknowledged = 'A', unknown = 'U' };

class File {
public:
    explicit File(const std::string &path);
    ~File();
    File(const File &) = delete;
    File &operator=(const File &) = delete;

    void add(std::int64_t id, const std::string &address, Nanoseconds begin, std::int64_t timeline, Outcome outcome);
    // Whole lines only, so that readers and whoever kills this process never leave half a one.
    void flush();

private:
    int fd_;
    std::string waiting_;
};

int run(const Options &options);    // everywhere.cpp
int follow(const Options &options); // follow.cpp
int outage(const Options &options); // verdict.cpp
int gap(const Options &options);
int verify(const Options &options);

} // namespace ledger
