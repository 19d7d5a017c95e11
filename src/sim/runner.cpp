// SPDX-License-Identifier: PostgreSQL
//
// Seeds on threads, and the sums of what they saw.
#include "runner.hpp"
#include "plants.hpp"

#include "core/invariants.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <mutex>
#include <stdexcept>
#include <thread>

namespace pg_ha::sim {

namespace {

thread_local std::uint64_t seed_under_way = 0;

void add(Statistics &total, const Statistics &one) {
    total.elections += one.elections;
    total.failovers += one.failovers;
    total.acknowledged += one.acknowledged;
    total.late_answers += one.late_answers;
    total.overlaps += one.overlaps;
    total.lost += one.lost;
    total.rewinds += one.rewinds;
    total.liveness_skipped += one.liveness_skipped;
    total.virtual_time += one.virtual_time;
}

struct Shared {
    const ManySeeds &plan;
    ManyVerdicts result;
    std::mutex mutex;
    std::atomic<std::uint64_t> next{0};
    std::atomic<bool> stop{false};
};

void work(Shared &shared) {
    const ManySeeds &plan = shared.plan;
    while (!shared.stop) {
        const std::uint64_t number = shared.next++;
        if (number >= plan.count)
            return;
        Options options = draw_options(plan.first + number);
        options.sabotage = plan.sabotage;
        options.bug = plan.bug;
        Verdict verdict = run_seed(options);
        const std::lock_guard lock(shared.mutex);
        shared.result.seeds++;
        add(shared.result.total, verdict.statistics);
        if (verdict.outcome == Outcome::good)
            continue;
        shared.result.violations.emplace_back(options, std::move(verdict));
        if (!plan.keep_going)
            shared.stop = true;
    }
}

void report_progress(Shared &shared, const std::atomic<bool> &done) {
    using namespace std::chrono;
    const auto begin = steady_clock::now();
    for (int tick = 1; !done; tick++) {
        std::this_thread::sleep_for(milliseconds(100));
        if (tick % 50 != 0)
            continue;
        const double seconds = duration<double>(steady_clock::now() - begin).count();
        const std::lock_guard lock(shared.mutex);
        std::fprintf(stderr, "%llu of %llu seeds, %.0f per second, %zu violations\n",
                     static_cast<unsigned long long>(shared.result.seeds),
                     static_cast<unsigned long long>(shared.plan.count),
                     static_cast<double>(shared.result.seeds) / seconds, shared.result.violations.size());
    }
}

} // namespace

void catch_broken_invariants() {
    set_invariant_handler([](const char *text) { throw std::logic_error(std::string("invariant broken: ") + text); });
}

std::uint64_t current_seed() {
    return seed_under_way;
}

Verdict run_seed(const Options &options, TraceSink *sink, ElectionTrace::Writer events) {
    seed_under_way = options.seed;
    plant(options.bug);
    World world(options, sink, std::move(events));
    return world.run();
}

ManyVerdicts run_many(const ManySeeds &plan) {
    Shared shared{plan, {}, {}, {}, {}};
    std::atomic<bool> done{false};
    std::thread reporter;
    if (plan.progress)
        reporter = std::thread([&] { report_progress(shared, done); });
    std::vector<std::thread> threads;
    for (unsigned i = 1; i < plan.threads; i++)
        threads.emplace_back([&] { work(shared); });
    work(shared);
    for (std::thread &thread : threads)
        thread.join();
    done = true;
    if (reporter.joinable())
        reporter.join();
    std::sort(shared.result.violations.begin(), shared.result.violations.end(),
              [](const auto &a, const auto &b) { return a.first.seed < b.first.seed; });
    return std::move(shared.result);
}

std::string summary(const ManyVerdicts &result) {
    char line[300];
    const Statistics &t = result.total;
    std::snprintf(line, sizeof line,
                  "seeds %llu, virtual hours %.1f, elections %llu, failovers %llu, acknowledged %llu, violations %zu",
                  static_cast<unsigned long long>(result.seeds),
                  static_cast<double>(t.virtual_time) / static_cast<double>(second) / 3600,
                  static_cast<unsigned long long>(t.elections), static_cast<unsigned long long>(t.failovers),
                  static_cast<unsigned long long>(t.acknowledged), result.violations.size());
    return line;
}

} // namespace pg_ha::sim
