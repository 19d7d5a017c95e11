// SPDX-License-Identifier: PostgreSQL
//
// Every small world, one after the other: all directed graphs of up to 4 nodes, all undirected ones of 5,
// each with each old primary, each fate of it, and some patterns of WAL positions.  Prints counts and the
// worlds that fail.  It must leave out only worlds that can't differ from one that is run.
//
//   worlds                 all of them
//   worlds --world N       one, with its whole trace; N as a failure prints it
#include "cluster.hpp"

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <thread>

using namespace pg_ha;
using namespace pg_ha::worlds;

namespace {

constexpr std::size_t failures_printed = 5;

// Links of a primary that is gone matter only where they tell of its end, and that takes both ways.
bool repeats_another(const SmallWorld &world) {
    if (world.fate == Fate::alive)
        return false;
    for (unsigned node = 0; node < world.nodes; ++node) {
        if (node == world.primary)
            continue;
        const bool there = world.reaches(node, world.primary), back = world.reaches(world.primary, node);
        if (world.fate == Fate::silent ? there || back : there != back)
            return true;
    }
    return false;
}

std::vector<SmallWorld> all_worlds() {
    std::vector<SmallWorld> worlds;
    for (unsigned nodes = 1; nodes <= nodes_max; ++nodes) {
        const bool directed = nodes <= 4;
        const unsigned links = nodes * (nodes - 1) / (directed ? 1 : 2);
        for (std::uint32_t graph = 0; graph < 1u << links; ++graph)
            for (unsigned primary = 0; primary < nodes; ++primary)
                for (const Fate fate : {Fate::alive, Fate::silent, Fate::crashed})
                    for (const Pattern pattern : {Pattern::equal, Pattern::all_behind, Pattern::ascending, Pattern::descending})
                        for (const bool synchronous : {true, false}) {
                            SmallWorld world{nodes, directed ? directed_graph(nodes, graph) : undirected_graph(nodes, graph),
                                             primary, fate, pattern, synchronous};
                            if (!synchronous && (pattern != Pattern::equal || fate == Fate::crashed))
                                continue; // only the write rule and the worth of evidence differ
                            if (!repeats_another(world))
                                worlds.push_back(world);
                        }
    }
    return worlds;
}

struct Totals {
    std::mutex mutex;
    std::size_t kept = 0, elected = 0, nobody = 0, nobody_yet_led = 0, failed = 0;
    unsigned terms = 0;
    Duration slowest{0};
    std::map<std::string, std::size_t> failures;
    std::map<unsigned, std::size_t> per_size;

    void add(std::size_t number, const SmallWorld &world, const Outcome &outcome) {
        const std::lock_guard lock(mutex);
        ++per_size[world.nodes];
        terms = std::max(terms, outcome.terms);
        if (!outcome.failure.empty()) {
            ++failed;
            if (++failures[outcome.failure] <= failures_printed)
                std::printf("world %zu: %s\n  %s", number, outcome.failure.c_str(), world.describe().c_str());
        } else if (world.keeps_primary()) {
            ++kept;
        } else if (world.somebody_eligible()) {
            ++elected;
            slowest = std::max(slowest, outcome.until_primary);
        } else {
            ++nobody;
            nobody_yet_led += outcome.led;
        }
    }
};

void print(const Totals &totals, double took) {
    for (const auto &[nodes, count] : totals.per_size)
        std::printf("%u nodes (%s): %zu worlds\n", nodes, nodes <= 4 ? "directed" : "undirected", count);
    std::printf("kept its primary %zu, elected one %zu (slowest %lld ms, allowed 10000), nobody could lead %zu (yet led %zu), "
                "terms begun at most %u, %.0f s\n",
                totals.kept, totals.elected, static_cast<long long>(totals.slowest / std::chrono::milliseconds(1)),
                totals.nobody, totals.nobody_yet_led, totals.terms, took);
    for (const auto &[failure, count] : totals.failures)
        std::printf("failed: %zu worlds: %s\n", count, failure.c_str());
}

int run_all(const std::vector<SmallWorld> &worlds) {
    const auto begin = std::chrono::steady_clock::now();
    Totals totals;
    std::atomic<std::size_t> next{0};
    const auto work = [&] {
        for (std::size_t number = next++; number < worlds.size(); number = next++)
            totals.add(number, worlds[number], Cluster(worlds[number], false).run());
    };
    std::vector<std::thread> threads;
    for (unsigned i = 0; i < std::max(1u, std::thread::hardware_concurrency()); ++i)
        threads.emplace_back(work);
    for (std::thread &thread : threads)
        thread.join();
    print(totals, std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
    std::printf("worlds %zu, failed %zu\n", worlds.size(), totals.failed);
    return totals.failed == 0 ? 0 : 1;
}

} // namespace

int main(int argc, char **argv) {
    const std::vector<SmallWorld> worlds = all_worlds();
    if (argc == 1)
        return run_all(worlds);
    const std::size_t number = argc == 3 && !std::strcmp(argv[1], "--world") ? std::strtoull(argv[2], nullptr, 10) : worlds.size();
    if (number >= worlds.size()) {
        std::fprintf(stderr, "usage: worlds [--world N], N below %zu\n", worlds.size());
        return 2;
    }
    std::printf("%s", worlds[number].describe().c_str());
    const Outcome outcome = Cluster(worlds[number], true).run();
    std::printf("%s\n", outcome.failure.empty() ? "as it should be" : outcome.failure.c_str());
    return outcome.failure.empty() ? 0 : 1;
}
