// SPDX-License-Identifier: PostgreSQL
//
// Counting in small worlds, and printing them for people.
#include "graph.hpp"

namespace pg_ha::worlds {

unsigned SmallWorld::lag(unsigned node) const {
    if (node == primary || (fate == Fate::alive && both_ways(node, primary)))
        return 0;
    const unsigned order = node - (node > primary ? 1 : 0);
    switch (pattern) {
    case Pattern::equal: return 0;
    case Pattern::all_behind: return 1;
    case Pattern::ascending: return nodes - 1 - order;
    case Pattern::descending: return order + 1;
    }
    return 0;
}

bool SmallWorld::keeps_primary() const {
    unsigned reached = 1;
    for (unsigned node = 0; node < nodes; ++node)
        reached += node != primary && both_ways(node, primary);
    return fate == Fate::alive && reached >= majority();
}

bool SmallWorld::eligible(unsigned node) const {
    if (!runs(node))
        return false;
    unsigned granted = 1;
    for (unsigned voter = 0; voter < nodes; ++voter)
        granted += voter != node && runs(voter) && both_ways(node, voter) && lag(voter) >= lag(node);
    return granted >= majority();
}

bool SmallWorld::somebody_eligible() const {
    for (unsigned node = 0; node < nodes; ++node)
        if (eligible(node))
            return true;
    return false;
}

std::string SmallWorld::describe() const {
    std::string text = std::to_string(nodes) + " nodes, " + (synchronous ? "synchronous" : "asynchronous") + ", primary n" +
                       std::to_string(primary + 1) + " " + to_string(fate) + ", WAL " + to_string(pattern) + "\n";
    for (unsigned node = 0; node < nodes; ++node) {
        text += "    n" + std::to_string(node + 1) + (runs(node) ? "" : " (gone)") + " lacks " + std::to_string(lag(node)) +
                (eligible(node) ? ", could lead" : "") + ", reaches";
        bool any = false;
        for (unsigned other = 0; other < nodes; ++other)
            if (other != node && reaches(node, other)) {
                text += " n" + std::to_string(other + 1) + (reaches(other, node) ? "" : "(one way)");
                any = true;
            }
        text += any ? "\n" : " nobody\n";
    }
    return text;
}

std::array<std::uint8_t, nodes_max> directed_graph(unsigned nodes, std::uint32_t number) {
    std::array<std::uint8_t, nodes_max> to{};
    for (unsigned a = 0; a < nodes; ++a)
        for (unsigned b = 0; b < nodes; ++b)
            if (a != b) {
                to[a] = static_cast<std::uint8_t>(to[a] | (number & 1) << b);
                number >>= 1;
            }
    return to;
}

std::array<std::uint8_t, nodes_max> undirected_graph(unsigned nodes, std::uint32_t number) {
    std::array<std::uint8_t, nodes_max> to{};
    for (unsigned a = 0; a < nodes; ++a)
        for (unsigned b = a + 1; b < nodes; ++b) {
            to[a] = static_cast<std::uint8_t>(to[a] | (number & 1) << b);
            to[b] = static_cast<std::uint8_t>(to[b] | (number & 1) << a);
            number >>= 1;
        }
    return to;
}

const char *to_string(Fate fate) {
    switch (fate) {
    case Fate::alive: return "alive";
    case Fate::silent: return "silent";
    case Fate::crashed: return "crashed";
    }
    return "?";
}

const char *to_string(Pattern pattern) {
    switch (pattern) {
    case Pattern::equal: return "equal";
    case Pattern::all_behind: return "all behind";
    case Pattern::ascending: return "ascending";
    case Pattern::descending: return "descending";
    }
    return "?";
}

} // namespace pg_ha::worlds
