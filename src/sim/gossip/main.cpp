// SPDX-License-Identifier: PostgreSQL
//
// Prints the table of `make gossip-scale`.
#include "experiment.hpp"

#include "core/planted.hpp"

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace {

using namespace pg_ha;
using namespace pg_ha::gossip_scale;

constexpr Conditions all_conditions[] = {{"quiet", 0, 0}, {"10 % lost", 0.1, 0}, {"30 % lost", 0.3, 0}, {"5 % slow", 0, 0.05}};
constexpr std::size_t sizes[] = {3, 10, 17, 30, 100, 300, 1000};

const char usage[] =
    "gossip_scale [--members N] [--conditions quiet|\"10 % lost\"|\"30 % lost\"|\"5 % slow\"] [--seed X]\n"
    "             [--hours H]    node-hours to watch at rest, per line\n"
    "             [--plant no_indirect_probes|suspicion_not_refuted]   (gossip_scale_planted only)\n";

void print_head() {
    std::printf("members  conditions    messages/s   bytes/s       false suspicions   false      suspected (s)          unreachable (s)        "
                "change known (s)\n"
                "                       mean  max    mean   max    of sound  of slow  unreach.   first      all         first      all         "
                "by all\n");
}

void print(const Plan &plan, const Figures &f, double took) {
    const auto pair = [](const Spread &s) {
        static char text[8][32];
        static int next = 0;
        char *out = text[next++ % 8];
        std::snprintf(out, sizeof text[0], "%4.1f %5.1f", s.median, s.worst);
        return out;
    };
    std::printf("%7zu  %-10s  %6.1f %5.1f  %5.0f %6.0f  %8.3f %8.2f %8.3f   %s  %s  %s  %s  %s", plan.members,
                plan.conditions.name, f.messages_mean, f.messages_max, f.bytes_mean, f.bytes_max, f.suspicions_of_sound,
                f.suspicions_raised - f.suspicions_of_sound, f.unreachable, pair(f.first_suspects), pair(f.all_suspect),
                pair(f.first_unreachable), pair(f.all_unreachable), pair(f.all_know));
    std::printf("   # largest %zu B, lease %.1f %%, %.0f s", f.largest_heartbeat, 100 * f.lease_held, took);
    if (f.not_detected + f.not_known > 0)
        std::printf(", %zu kills and %zu changes not seen by all", f.not_detected, f.not_known);
    std::printf("\n");
    std::fflush(stdout);
}

bool plant([[maybe_unused]] const char *name) {
#ifdef PG_HA_PLANTED
    if (!std::strcmp(name, "no_indirect_probes"))
        planted_bugs = bit_of(Bug::no_indirect_probes);
    else if (!std::strcmp(name, "suspicion_not_refuted"))
        planted_bugs = bit_of(Bug::suspicion_not_refuted);
    return planted_bugs != 0;
#else
    return false;
#endif
}

} // namespace

int main(int argc, char **argv) {
    std::size_t members = 0;
    const char *conditions = nullptr;
    std::uint64_t seed = 1;
    double hours = 5;
    for (int i = 1; i < argc; i += 2) {
        const char *value = i + 1 < argc ? argv[i + 1] : nullptr;
        if (value && !std::strcmp(argv[i], "--members"))
            members = std::strtoul(value, nullptr, 10);
        else if (value && !std::strcmp(argv[i], "--conditions"))
            conditions = value;
        else if (value && !std::strcmp(argv[i], "--seed"))
            seed = std::strtoull(value, nullptr, 10);
        else if (value && !std::strcmp(argv[i], "--hours"))
            hours = std::strtod(value, nullptr);
        else if (!value || std::strcmp(argv[i], "--plant") || !plant(value))
            return std::fputs(usage, stderr), 1;
    }
    print_head();
    std::vector<std::size_t> wanted(std::begin(sizes), std::end(sizes));
    if (members > 0)
        wanted = {members};
    for (const std::size_t size : wanted)
        for (const Conditions &each : all_conditions) {
            if (conditions && std::strcmp(conditions, each.name))
                continue;
            const Plan plan{size, each, hours, 10, 10};
            const auto began = std::chrono::steady_clock::now();
            const Figures figures = measure(plan, seed);
            print(plan, figures, std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count());
        }
}
