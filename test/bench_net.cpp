// SPDX-License-Identifier: PostgreSQL
//
// What heartbeats cost: one node (measured) exchanges them with peers that run in another process, a
// thread each, over TLS on loopback, as a primary (every heartbeat is answered) and as a standby
// (every eighth is).  Prints the CPU time of the measured process in percent of a core; the aim is
// below 0.3 % with 32 peers at 200 ms.  Loopback costs more than a network card, since the peer's
// half of every delivery runs inside our send, and other load on the machine can triple the figure.
//
//   bench_net [peers] [interval in ms] [seconds]
//
// The core is left out on purpose: this is the price of codec, TLS, sockets and loop.
#include "agent/codec.hpp"
#include "net/runtime.hpp"

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <set>
#include <sys/resource.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

namespace pg_ha {
namespace {

using namespace std::chrono_literals;

constexpr std::uint16_t first_port = 27180; // below the range from which outgoing connections take theirs
constexpr std::size_t table_rows = 8;
constexpr std::uint64_t rounds_between_links = 8;
constexpr std::uint64_t rounds_between_questions = 8;

NodeId node_id(std::uint64_t number) { return static_cast<NodeId>(0x9E3779B97F4A7C15U * (number + 1)); }

ClusterSecret bench_secret() {
    ClusterSecret secret;
    secret.cluster = {1, 2};
    secret.key.fill(42);
    return secret;
}

MemberReport report_of(NodeId id, Role role) {
    MemberReport report;
    report.id = id;
    report.incarnation = static_cast<Incarnation>(17);
    report.sequence = 123456;
    report.role = role;
    report.term = static_cast<Term>(12);
    report.local = {true, true, {static_cast<Timeline>(12), static_cast<Lsn>(0x1A2B3C4D58)},
                    static_cast<Lsn>(0x1A2B3C4D58), true, 3};
    report.reason = "following \"db1\" as primary of term 12";
    return report;
}

// One node: sends a heartbeat to every peer it has a link to, and answers those that want it.
class Beater {
public:
    Beater(std::uint64_t number, std::size_t peers, Duration interval, bool is_primary)
        : self_(node_id(number)), peers_(peers), interval_(interval), is_primary_(is_primary),
          runtime_({[this](const Message &message) { received(message); },
                    [this](NodeId peer, const std::string &) { linked_.insert(peer); },
                    [this](NodeId peer) { linked_.erase(peer); },
                    [](NetLogLevel level, const std::string &line) {
                        if (level == NetLogLevel::warning)
                            std::fprintf(stderr, "%s\n", line.c_str());
                    }}) {
        NetOptions options;
        options.secret = bench_secret();
        options.listen_addresses = {"127.0.0.1"};
        options.port = static_cast<std::uint16_t>(first_port + number);
        options.self = self_;
        options.node_name = "db" + std::to_string(number);
        options.heartbeat_interval = interval;
        if (number == 0)
            for (std::size_t i = 1; i <= peers; ++i)
                options.seeds.push_back({"127.0.0.1", static_cast<std::uint16_t>(first_port + i)});
        else
            options.seeds.push_back({"127.0.0.1", first_port});
        runtime_.open(options);
        next_ = runtime_.now();
        beat();
    }

    void run_until(Instant end) {
        while (runtime_.now() < end)
            runtime_.run_one();
    }
    Instant now() { return runtime_.now(); }
    std::size_t linked() const { return linked_.size(); }

    std::uint64_t sent = 0;
    std::uint64_t heard = 0;
    std::size_t heartbeat_bytes = 0;

private:
    void beat() {
        ++round_;
        Heartbeat heartbeat;
        heartbeat.sent = runtime_.now();
        heartbeat.wants_reply = is_primary_ || round_ % rounds_between_questions == 0;
        heartbeat.leader = is_primary_ ? self_ : node_id(0);
        heartbeat.config_version = {static_cast<Term>(12), 3456};
        if (is_primary_)
            for (std::uint32_t i = 1; i <= 12; ++i)
                heartbeat.lineage.push_back({static_cast<Timeline>(i), static_cast<Lsn>(i << 24)});
        heartbeat.self = report_of(self_, is_primary_ ? Role::primary : Role::standby);
        if (round_ % rounds_between_links == 0)
            for (std::uint64_t i = 1; i <= peers_; ++i)
                heartbeat.self.links.push_back({node_id(i), 180, 120, 0});
        for (std::uint64_t i = 0; i < table_rows; ++i)
            heartbeat.table.push_back(report_of(node_id(100 + (round_ + i) % 32), Role::standby));
        for (const NodeId peer : linked_)
            send(peer, heartbeat);
        if (heartbeat_bytes == 0 && !linked_.empty())
            heartbeat_bytes = encode(Message{bench_secret().cluster, self_, self_, {}, {}, heartbeat}).size();
        next_ += interval_;
        runtime_.arm(next_, [this] { beat(); });
    }

    void received(const Message &message) {
        ++heard;
        const auto *heartbeat = std::get_if<Heartbeat>(&message.body);
        if (heartbeat != nullptr && heartbeat->wants_reply)
            send(message.from, HeartbeatReply{heartbeat->sent, true, heartbeat->config_version,
                                              report_of(self_, Role::standby)});
    }

    void send(NodeId to, const Body &body) {
        ++sent;
        runtime_.send({bench_secret().cluster, self_, to, static_cast<Incarnation>(17), static_cast<Term>(12), body});
    }

    const NodeId self_;
    const std::size_t peers_;
    const Duration interval_;
    const bool is_primary_;
    std::set<NodeId> linked_;
    std::uint64_t round_ = 0;
    Instant next_{};
    Runtime runtime_;
};

struct Cpu {
    double user = 0;
    double system = 0;
};

Cpu cpu_seconds() {
    rusage usage{};
    ::getrusage(RUSAGE_SELF, &usage);
    const auto seconds = [](const timeval &time) {
        return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6;
    };
    return {seconds(usage.ru_utime), seconds(usage.ru_stime)};
}

pid_t start_peers(std::size_t peers, Duration interval) {
    const pid_t pid = ::fork();
    if (pid != 0)
        return pid;
    std::vector<std::thread> threads;
    for (std::size_t i = 1; i <= peers; ++i)
        threads.emplace_back([i, peers, interval] {
            std::this_thread::sleep_for(interval * static_cast<int>(i * 13 % peers) / static_cast<int>(peers));
            Beater beater(i, peers, interval, false); // spread over the interval, as real nodes are
            while (::getppid() != 1)
                beater.run_until(beater.now() + 1s);
            ::_exit(0);
        });
    for (std::thread &thread : threads)
        thread.join();
    ::_exit(0);
}

void measure(std::size_t peers, Duration interval, int seconds, bool is_primary) {
    const pid_t pid = start_peers(peers, interval);
    {
        Beater beater(0, peers, interval, is_primary);
        const Instant patience = beater.now() + 10s;
        while (beater.linked() < peers && beater.now() < patience)
            beater.run_until(beater.now() + 50ms);
        beater.run_until(beater.now() + 1s); // everybody has settled
        const std::uint64_t sent = beater.sent;
        const std::uint64_t heard = beater.heard;
        const Instant begin = beater.now();
        const Cpu before = cpu_seconds();
        beater.run_until(begin + std::chrono::seconds(seconds));
        const Cpu after = cpu_seconds();
        const double elapsed = std::chrono::duration<double>(beater.now() - begin).count();
        std::printf("%s: %zu of %zu peers, %.0f ms, heartbeat %zu bytes, %.0f sent/s, %.0f received/s, "
                    "cpu %.3f %% of a core (user %.3f, system %.3f)\n",
                    is_primary ? "primary" : "standby", beater.linked(), peers,
                    std::chrono::duration<double, std::milli>(interval).count(), beater.heartbeat_bytes,
                    static_cast<double>(beater.sent - sent) / elapsed,
                    static_cast<double>(beater.heard - heard) / elapsed,
                    (after.user + after.system - before.user - before.system) / elapsed * 100,
                    (after.user - before.user) / elapsed * 100, (after.system - before.system) / elapsed * 100);
        std::fflush(stdout);
    }
    ::kill(pid, SIGKILL);
    ::waitpid(pid, nullptr, 0);
}

} // namespace
} // namespace pg_ha

int main(int argc, char **argv) {
    const auto argument = [&](int index, int usual) { return argc > index ? std::atoi(argv[index]) : usual; };
    const int peers = argument(1, 32);
    const int interval_ms = argument(2, 200);
    const int seconds = argument(3, 10);
    if (peers < 1 || peers > 200 || interval_ms < 1 || seconds < 1) {
        std::fprintf(stderr, "usage: bench_net [peers 1..200] [interval in ms] [seconds]\n");
        return 2;
    }
    for (const bool is_primary : {true, false})
        pg_ha::measure(static_cast<std::size_t>(peers), std::chrono::milliseconds(interval_ms), seconds, is_primary);
    return 0;
}
