// SPDX-License-Identifier: PostgreSQL
//
// How far pg_rewind or pg_basebackup has come: for the log, in steps that a person wants to read, and for
// the primary, whose manager worker reads it there and tells all members.  The rejoin must never depend on
// whether anybody was told.
#pragma once

#include "process.hpp"

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

namespace pg_ha::rejoin {

struct Amount {
    std::uint64_t done_kb = 0, total_kb = 0;
    unsigned percent() const;
};

// "  1234/ 56789 kB (2%) copied" of pg_rewind, "..., 0/1 tablespace" of pg_basebackup.
std::optional<Amount> parse_progress(const std::string &line);

class Progress {
public:
    using Tell = std::function<void(const Amount &)>;
    explicit Progress(Tell tell) : tell_(std::move(tell)) {}
    Heard hear(const std::string &line); // for run()

private:
    Tell tell_;
    int said_tenths_ = 0;
};

} // namespace pg_ha::rejoin
