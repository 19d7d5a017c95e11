// SPDX-License-Identifier: PostgreSQL
//
// Draws the options of a seed.
#include "options.hpp"
#include "plants.hpp"

#include <cstdio>

namespace pg_ha::sim {

const char *to_string(Fault fault) {
    switch (fault) {
    case Fault::kill_all:
        return "kill_all";
    case Fault::kill_postmaster:
        return "kill_postmaster";
    case Fault::kill_orphans:
        return "kill_orphans";
    case Fault::power_off:
        return "power_off";
    case Fault::clean_stop:
        return "clean_stop";
    case Fault::immediate_stop:
        return "immediate_stop";
    case Fault::crash_restart:
        return "crash_restart";
    case Fault::freeze:
        return "freeze";
    case Fault::worker_pause:
        return "worker_pause";
    case Fault::partition:
        return "partition";
    case Fault::isolate:
        return "isolate";
    case Fault::one_way:
        return "one_way";
    case Fault::graph:
        return "graph";
    case Fault::flap:
        return "flap";
    case Fault::slow_link:
        return "slow_link";
    case Fault::stream_cut:
        return "stream_cut";
    case Fault::state_loss:
        return "state_loss";
    case Fault::slow_flush:
        return "slow_flush";
    case Fault::disk_full:
        return "disk_full";
    case Fault::state_torn:
        return "state_torn";
    case Fault::state_put_back:
        return "state_put_back";
    case Fault::data_put_back:
        return "data_put_back";
    case Fault::machine_put_back:
        return "machine_put_back";
    case Fault::hand_promotion:
        return "hand_promotion";
    }
    return "?";
}

namespace {

void draw_cluster(Options &o, Random &r) {
    const double size = r.unit();
    o.hosts = size < 0.70 ? 3 : size < 0.92 ? 5 : size < 0.96 ? 4 : size < 0.99 ? 2 : 1;
    o.ready_made = (o.hosts == 3 || o.hosts == 5) && r.chance(0.5);
    o.synchronous = r.chance(0.85);
    o.first_timeline = static_cast<std::uint32_t>(r.chance(0.7) ? 1 : r.between(2, 9));
    o.lease = r.magnitude(300 * millisecond, 1500 * millisecond);
    o.heartbeat = std::max<Time>(o.lease / r.between(4, 10), 30 * millisecond);
    o.max_lag = static_cast<std::uint64_t>(r.chance(0.5) ? 16 << 20 : r.magnitude(20000, 1 << 20));
    o.min_sync_standbys = r.chance(0.8) ? 0 : static_cast<unsigned>(r.between(1, 2));
    o.patience = r.magnitude(o.lease / 2, 2 * o.lease);
    o.all_seeds = r.chance(0.75);
    o.through_codec = r.chance(0.04);
    const std::int64_t worst_ppm = r.chance(0.3) ? 30000 : r.below(2000);
    for (std::size_t i = 0; i < hosts_max; i++) {
        o.clock_offset[i] = r.between(100 * second, 1'000'000 * second);
        o.clock_ppm[i] = r.chance(0.5) ? r.between(-worst_ppm, worst_ppm) : (r.chance(0.5) ? worst_ppm : -worst_ppm);
        o.priority[i] = r.chance(0.9) ? 100 : static_cast<int>(r.between(50, 150));
    }
}

void draw_quality(Options &o, Random &r) {
    // Round trips stay well below the heartbeat interval: the settings fit the network.
    o.delay = r.magnitude(50 * microsecond, o.heartbeat / 12);
    o.jitter = r.magnitude(20 * microsecond, o.heartbeat / 10);
    o.spike_chance = r.chance(0.3) ? 0.01 * r.unit() : 0;
    o.loss = r.chance(0.4) ? 0.01 * r.unit() : 0;
    o.wake = r.magnitude(20 * microsecond, millisecond);
    o.late_chance = r.chance(0.3) ? 0.02 * r.unit() : 0;
    o.flush = r.magnitude(50 * microsecond, 4 * millisecond);
    o.promote = r.magnitude(5 * millisecond, o.lease / 3);
    o.promote_fails = r.chance(0.2) ? 0.1 : 0;
    o.apply_sync = r.magnitude(millisecond, o.lease / 4);
    o.reconnect = r.magnitude(10 * millisecond, o.lease / 2);
    o.replay = r.magnitude(5 * millisecond, o.lease);
    o.chunk = static_cast<std::uint64_t>(r.chance(0.7) ? 1 << 20 : r.magnitude(2000, 50000));
    o.save_fails = r.chance(0.2) ? 0.05 * r.unit() : 0;
    o.save_crashes = r.chance(0.3) ? 0.03 * r.unit() : 0;
    o.save_stalls = r.chance(0.2) ? 0.05 * r.unit() : 0;
    o.sessions = static_cast<int>(r.between(1, 3));
    o.think = r.magnitude(o.lease / 60, o.lease / 8);
    o.record_bytes = static_cast<std::uint64_t>(r.magnitude(100, 20000));
    // Replication keeps pace with the clients: an overloaded link never becomes whole.
    const auto written = static_cast<double>(o.record_bytes / 2 + 64) * o.sessions / static_cast<double>(o.think);
    o.chunk = std::max(o.chunk, static_cast<std::uint64_t>(3 * written * static_cast<double>(o.delay + o.jitter)));
    o.cancel_chance = r.chance(0.2) ? 0.05 : 0;
}

void draw_faults(Options &o, Random &r) {
    o.fault_phase = r.between(20, 32) * o.lease;
    const Time mean = r.magnitude(o.lease, 12 * o.lease) * r.between(1, 3);
    const double share = r.chance(0.1) ? 1.0 : 0.15 + 0.5 * r.unit();
    for (int i = 0; i <= static_cast<int>(Fault::slow_flush); i++)
        if (r.chance(share))
            o.fault_every[static_cast<std::size_t>(i)] = r.magnitude(mean, 8 * mean);
    o.hits_primary = r.unit();
}

// From a stream of its own: half of the seeds have nothing of this and stay what they were.
void draw_rare(Options &o) {
    Random r(o.seed ^ 0x9FB21C651E98DF25ull);
    if (r.chance(0.5))
        return;
    for (int i = static_cast<int>(Fault::disk_full); i < fault_count; i++)
        if (r.chance(0.4))
            o.fault_every[static_cast<std::size_t>(i)] = r.magnitude(2 * o.lease, 15 * o.lease);
    if (o.hosts >= 4 && o.witnesses == 0 && r.chance(0.25))
        o.hosts = static_cast<int>(r.between(6, hosts_max));
    o.ready_made = o.ready_made && o.hosts % 2 == 1; // nobody gets an even number of voters by himself
    o.clocks_stop = o.synchronous && r.chance(0.2);
    o.upgrades = o.through_codec && r.chance(0.5);
    if (r.chance(0.1)) // much WAL to replay first, or a slow restore_command: others are elected meanwhile
        o.promote = r.magnitude(o.lease, 4 * o.lease);
}

// Whoever loses the most advanced node's identity or WAL has to say how much may be lost: beyond any automatism.
void bound_loss(Options &o) {
    for (const Fault fault : {Fault::state_loss, Fault::state_torn, Fault::state_put_back, Fault::data_put_back,
                              Fault::machine_put_back, Fault::hand_promotion})
        if (!o.synchronous && o.fault_every[static_cast<std::size_t>(fault)] > 0)
            o.max_lag = 16 << 20;
}

} // namespace

Options draw_options(std::uint64_t seed) {
    Random r(seed ^ 0x5851F42D4C957F2Dull);
    Options o;
    o.seed = seed;
    draw_cluster(o, r);
    draw_quality(o, r);
    draw_faults(o, r);
    Random witness(seed ^ 0x2545F4914F6CDD1Dull); // of its own: seeds without witnesses stay what they were
    if ((o.hosts == 3 || o.hosts == 5) && witness.chance(0.2))
        o.witnesses = static_cast<int>(witness.between(1, o.hosts / 2));
    draw_rare(o);
    bound_loss(o);
    Random last_choice(seed ^ 0x9E6C63D0876A9A47ull); // of its own, as above
    if (const int data = o.hosts - o.witnesses; data > 1 && last_choice.chance(0.15))
        o.priority[static_cast<std::size_t>(last_choice.between(1, data - 1))] = 0;
    Random datagrams(seed ^ 0xD1B54A32D192ED03ull); // of its own, as above
    if (datagrams.chance(0.2)) {
        o.doubled = 0.05 * datagrams.unit();
        o.reordered = 0.05 * datagrams.unit();
    }
    Random commands(seed ^ 0x7F4A7C159E3779B9ull); // of its own, as above
    if (commands.chance(0.4))
        o.commands_every = commands.magnitude(o.lease / 2, 10 * o.lease);
    return o;
}

std::string describe(const Options &o) {
    char line[900];
    auto ms = [](Time t) { return static_cast<double>(t) / static_cast<double>(millisecond); };
    std::snprintf(
        line, sizeof line,
        "  hosts %d, %d witnesses (%s), %s, lease %.0f ms, heartbeat %.0f ms, clocks up to %+.1f %%, first timeline %u%s%s%s\n"
        "  standbys lost after %.0f ms, min_sync_standbys %u\n"
        "  network: delay %.2f + %.2f ms, spikes %.2f %%, loss %.2f %%, doubled %.2f %%, reordered %.2f %%; worker wakes in %.2f ms, late %.2f %%\n"
        "  disks: flush %.2f ms, save fails %.1f %%, crashes %.1f %%, stalls %.1f %%; promotion %.0f ms, "
        "settings %.0f ms, replay %.0f ms\n"
        "  clients: %d sessions a host, think %.0f ms, records %llu bytes\n  faults (mean ms between):",
        o.hosts, o.witnesses, o.ready_made ? "all voters" : "bootstrap and join", o.synchronous ? "synchronous" : "asynchronous",
        ms(o.lease), ms(o.heartbeat), static_cast<double>(std::abs(o.clock_ppm[0])) / 10000.0, o.first_timeline,
        o.through_codec ? ", through the codec" : "", o.upgrades ? ", upgrades" : "", o.clocks_stop ? ", clocks stop" : "",
        ms(o.patience), o.min_sync_standbys, ms(o.delay), ms(o.jitter), o.spike_chance * 100, o.loss * 100, o.doubled * 100, o.reordered * 100,
        ms(o.wake), o.late_chance * 100, ms(o.flush), o.save_fails * 100, o.save_crashes * 100, o.save_stalls * 100,
        ms(o.promote), ms(o.apply_sync), ms(o.replay), o.sessions, ms(o.think),
        static_cast<unsigned long long>(o.record_bytes));
    std::string text = line;
    for (int i = 0; i < o.hosts; i++)
        if (o.priority[static_cast<std::size_t>(i)] == 0)
            text += " n" + std::to_string(i + 1) + " only stands in,";
    if (o.commands_every > 0) {
        std::snprintf(line, sizeof line, " operators' commands %.0f", ms(o.commands_every));
        text += line;
    }
    for (int i = 0; i < fault_count; i++)
        if (const Time every = o.fault_every[static_cast<std::size_t>(i)]; every > 0) {
            std::snprintf(line, sizeof line, " %s %.0f", to_string(static_cast<Fault>(i)), ms(every));
            text += line;
        }
    if (plant_of(o).any())
        text += std::string("\n  planted defect: ") + plant_of(o).name;
    return text + "\n";
}

} // namespace pg_ha::sim
