// SPDX-License-Identifier: PostgreSQL
//
// Runs seeds: one with its trace, or many in parallel.  Threads share nothing but the next seed's
// number, so the result of a seed does not depend on how many there are.
#pragma once

#include "world.hpp"

namespace pg_ha::sim {

// A broken invariant of the core ends the seed instead of the process.  Once, before any seed.
void catch_broken_invariants();

Verdict run_seed(const Options &options, TraceSink *sink = nullptr, ElectionTrace::Writer events = nullptr);
// The seed that this thread works on: for the handler of a crash.
std::uint64_t current_seed();

struct ManySeeds {
    std::uint64_t first = 1;
    std::uint64_t count = 1000;
    unsigned threads = 1;
    Sabotage sabotage = Sabotage::none;
    Bug bug = Bug::none;
    bool keep_going = false; // do not stop at the first violation
    bool progress = false;   // on stderr, every few seconds
};

struct ManyVerdicts {
    std::uint64_t seeds = 0;
    Statistics total;
    std::vector<std::pair<Options, Verdict>> violations; // in order of seeds
};

ManyVerdicts run_many(const ManySeeds &plan);
// The last line of a run: seeds, hours, elections and so on.
std::string summary(const ManyVerdicts &result);

} // namespace pg_ha::sim
