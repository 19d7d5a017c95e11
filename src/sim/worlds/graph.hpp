// SPDX-License-Identifier: PostgreSQL
//
// One small world: who reaches whom, who was the primary, what became of it, and who has how much WAL.
// Says by counting alone, without any protocol, whether somebody there could and should lead (I5).
#pragma once

#include <array>
#include <cstdint>
#include <string>

namespace pg_ha::worlds {

inline constexpr unsigned nodes_max = 5;

// What happens to the primary at the moment when the links break.
enum class Fate {
    alive,   // it goes on, with the links that the graph leaves it
    silent,  // its host is gone: nothing answers
    crashed, // its process is gone: the kernel says so to those who reach it both ways
};

// How much WAL the standbys lack, by their order.
enum class Pattern {
    equal,      // nothing
    all_behind, // all lack the same end
    ascending,  // the first has the least
    descending, // the first has the most
};

struct SmallWorld {
    unsigned nodes = 0;
    std::array<std::uint8_t, nodes_max> to{}; // bit b of to[a]: messages of a reach b
    unsigned primary = 0;
    Fate fate = Fate::alive;
    Pattern pattern = Pattern::equal;
    bool synchronous = true;

    bool reaches(unsigned a, unsigned b) const { return (to[a] >> b & 1) != 0; }
    bool both_ways(unsigned a, unsigned b) const { return reaches(a, b) && reaches(b, a); }
    bool runs(unsigned node) const { return node != primary || fate == Fate::alive; }
    unsigned majority() const { return nodes / 2 + 1; }
    // In units of WAL; a standby that still streams from a living primary has everything.
    unsigned lag(unsigned node) const;
    bool keeps_primary() const; // the old one reaches a majority both ways
    // Could win: reaches both ways, itself counted, a majority of running voters of which none is ahead.
    bool eligible(unsigned node) const;
    bool somebody_eligible() const;
    std::string describe() const;
};

// The graph with this number.  Directed: 2^(n(n-1)) of them; undirected: 2^(n(n-1)/2).
std::array<std::uint8_t, nodes_max> directed_graph(unsigned nodes, std::uint32_t number);
std::array<std::uint8_t, nodes_max> undirected_graph(unsigned nodes, std::uint32_t number);

const char *to_string(Fate fate);
const char *to_string(Pattern pattern);

} // namespace pg_ha::worlds
