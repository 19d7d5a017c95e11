// SPDX-License-Identifier: PostgreSQL
//
// What a node costs when nothing happens: a whole cluster of core, agent, codec, TLS and sockets on
// loopback, without PostgreSQL.  One node is measured, as primary and as standby; the others run in
// another process, a thread each.  Prints CPU time in percent of a core; the aim is below 0.3 % with
// 32 members at 200 ms.  Loopback costs more than a network card, since the peer's half of every
// delivery runs inside our send, and other load on the machine can triple the figure: so the same
// machine's price of a bare UDP exchange of the same rate is printed beside it.
//
//   bench_net [members] [interval in ms] [seconds]
#include "agent/agent.hpp"
#include "net/runtime.hpp"

#include <arpa/inet.h>
#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>
#include <utility>

namespace pg_ha {
namespace {

using namespace std::chrono_literals;

constexpr std::uint16_t first_port = 27180; // below the range from which outgoing connections take theirs

NodeId node_id(std::size_t number) { return static_cast<NodeId>(0x9E3779B97F4A7C15U * (number + 1) >> 8); }

ClusterSecret bench_secret() {
    ClusterSecret secret;
    secret.cluster = {1, 2};
    secret.key.fill(42);
    return secret;
}

// As it is when it rests: an odd number of voters, all of them in S.
Configuration whole_cluster(std::size_t members) {
    const std::size_t voters = members - (members % 2 == 0);
    Configuration c;
    c.cluster = bench_secret().cluster;
    c.version = {static_cast<Term>(1), 1};
    c.lease = Settings{}.lease_duration;
    for (std::size_t i = 0; i < members; ++i)
        c.members.push_back({node_id(i), "db" + std::to_string(i), MemberKind::data, i < voters,
                             {"127.0.0.1", static_cast<std::uint16_t>(first_port + i)}, {"127.0.0.1", 5432}, 100});
    for (std::size_t i = 0; i < voters; ++i)
        c.sync.set.push_back(node_id(i));
    c.sync.quorum = static_cast<std::uint16_t>(c.sync.set.size() / 2 + 1);
    std::sort(c.members.begin(), c.members.end(), [](const Member &a, const Member &b) { return a.id < b.id; });
    std::sort(c.sync.set.begin(), c.sync.set.end());
    return c;
}

struct MemoryStore final : StateStore {
    bool save(const DurableState &) override { return true; }
};

// PostgreSQL in which nothing happens.
struct StillPostgres final : PostgresControl {
    LocalState local;
    Lineage lineage;
    std::vector<Event> answers;

    LocalState close_gate() override { return local; }
    Sampled sample() override { return {local, lineage}; }
    void open_gate(const OpenGate &) override { local.streaming = true; }
    void set_lease(Instant until) override { has_lease = until != long_ago; }
    void settled() override {}
    void promote(Term) override {}
    void rejoin(const Rejoin &) override {}
    void demote(const std::string &) override {}
    void apply_sync(const ApplySync &sync) override { answers.push_back(SyncInEffect{sync.rule}); }
    void note(const Note &) override {}
    void trace(const std::string &) override {}
    bool has_lease = false;
};

// Counts what passes on its way to the network.
struct CountingTransport final : Transport {
    Runtime *runtime = nullptr;
    std::uint64_t sent = 0;
    void send(const Message &message) override {
        ++sent;
        runtime->send(message);
    }
    void set_peers(const std::vector<Member> &members) override { runtime->set_peers(members); }
};

class BenchNode {
public:
    BenchNode(std::size_t number, std::size_t members, std::size_t primary, Duration interval)
        : runtime_({[this](const Message &message) {
                        ++heard;
                        agent_->handle(Received{message});
                    },
                    [this](NodeId peer, const std::string &) { agent_->handle(LinkUp{peer}); }, [](NodeId) {},
                    [](NetLogLevel, const std::string &) {}}) {
        transport.runtime = &runtime_;
        Settings settings;
        settings.cluster = bench_secret().cluster;
        settings.node_name = "db" + std::to_string(number);
        settings.heartbeat_interval = interval;
        settings.peer = {"127.0.0.1", static_cast<std::uint16_t>(first_port + number)};
        settings.postgres = {"127.0.0.1", 5432};
        const bool is_primary = number == primary;
        DurableState state{node_id(number), settings.node_name,  static_cast<Incarnation>(1), static_cast<Term>(1),
                           is_primary ? node_id(number) : NodeId::none, whole_cluster(members)};
        postgres_.local = {!is_primary, true, {static_cast<Timeline>(1), static_cast<Lsn>(0x5000000)},
                           static_cast<Lsn>(0x5000000), false, 0};
        if (is_primary)
            postgres_.lineage = {{static_cast<Timeline>(1), Lsn::none}};
        agent_.emplace(Ports{runtime_, store_, transport, postgres_}, settings, state, postgres_.local, number);
        NetOptions options;
        options.secret = bench_secret();
        options.listen_addresses = {"127.0.0.1"};
        options.port = settings.peer.port;
        options.self = state.self;
        options.node_name = settings.node_name;
        options.heartbeat_interval = interval;
        runtime_.open(options);
        agent_->start();
    }

    void run_until(Instant end) {
        while (runtime_.now() < end) {
            for (const Event &answer : std::exchange(postgres_.answers, {}))
                agent_->handle(answer);
            if (agent_->next_deadline() <= runtime_.now())
                agent_->tick();
            if (const Instant next = std::min(agent_->next_deadline(), end); next != armed_) {
                armed_ = next;
                runtime_.arm(next, [this] { armed_ = never; });
            }
            runtime_.run_one();
        }
    }
    Instant now() { return runtime_.now(); }
    Status status() { return agent_->status(); }
    bool settled() { // all are heard, and the primary may acknowledge
        const Status status = agent_->status();
        for (const MemberStatus &member : status.members)
            if (member.liveness != Liveness::alive)
                return false;
        return status.role != Role::primary || postgres_.has_lease;
    }

    CountingTransport transport;
    std::uint64_t heard = 0;

private:
    MemoryStore store_;
    StillPostgres postgres_;
    std::optional<Agent> agent_;
    Instant armed_ = never;
    Runtime runtime_;
};

double cpu_seconds() {
    rusage usage{};
    ::getrusage(RUSAGE_SELF, &usage);
    const auto seconds = [](const timeval &time) {
        return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6;
    };
    return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

pid_t start_others(std::size_t members, std::size_t primary, Duration interval) {
    const pid_t pid = ::fork();
    if (pid != 0)
        return pid;
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    std::vector<std::thread> threads;
    for (std::size_t i = 1; i < members; ++i)
        threads.emplace_back([=] {
            // Spread over the interval, as real nodes are.
            std::this_thread::sleep_for(interval * static_cast<int>(i * 13 % members) / static_cast<int>(members));
            BenchNode node(i, members, primary, interval);
            for (;;)
                node.run_until(node.now() + 1s);
        });
    for (std::thread &thread : threads)
        thread.join();
    ::_exit(0);
}

// The same number of messages over bare UDP, sent and received by one process: what the kernel takes.
double udp_percent(double messages_per_second, int seconds) {
    const int fd = ::socket(AF_INET, SOCK_DGRAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof address;
    ::bind(fd, reinterpret_cast<sockaddr *>(&address), sizeof address);
    ::getsockname(fd, reinterpret_cast<sockaddr *>(&address), &length);
    char bytes[120] = {};
    const double before = cpu_seconds();
    const int rounds = seconds * 5;
    const int per_round = static_cast<int>(messages_per_second / 10); // each is sent and received
    for (int round = 0; round < rounds; ++round) {
        for (int i = 0; i < per_round; ++i) {
            (void)::sendto(fd, bytes, sizeof bytes, 0, reinterpret_cast<sockaddr *>(&address), sizeof address);
            (void)::recv(fd, bytes, sizeof bytes, MSG_DONTWAIT);
        }
        std::this_thread::sleep_for(200ms);
    }
    ::close(fd);
    return (cpu_seconds() - before) / seconds * 100;
}

void measure(std::size_t members, Duration interval, int seconds, bool as_primary) {
    const std::size_t primary = as_primary ? 0 : 1;
    const pid_t pid = start_others(members, primary, interval);
    double rate = 0;
    {
        BenchNode node(0, members, primary, interval);
        const Instant patience = node.now() + 30s;
        while (!node.settled() && node.now() < patience)
            node.run_until(node.now() + 50ms);
        const bool settled = node.settled();
        node.run_until(node.now() + 2s);
        const std::uint64_t sent = node.transport.sent, heard = node.heard;
        const Instant begin = node.now();
        const double before = cpu_seconds();
        node.run_until(begin + std::chrono::seconds(seconds));
        const double cpu = cpu_seconds() - before;
        const double elapsed = std::chrono::duration<double>(node.now() - begin).count();
        rate = static_cast<double>(node.transport.sent - sent + node.heard - heard) / elapsed;
        std::printf("%s of %zu members%s, heartbeat every %.0f ms: %.0f sent/s, %.0f received/s, cpu %.3f %% of a core\n",
                    to_string(node.status().role), members, settled ? "" : " (NOT SETTLED)",
                    std::chrono::duration<double, std::milli>(interval).count(),
                    static_cast<double>(node.transport.sent - sent) / elapsed,
                    static_cast<double>(node.heard - heard) / elapsed, cpu / elapsed * 100);
    }
    ::kill(pid, SIGKILL);
    ::waitpid(pid, nullptr, 0);
    std::printf("  as many bare UDP datagrams on this machine now: %.3f %%\n", udp_percent(rate, seconds));
    std::fflush(stdout);
}

} // namespace
} // namespace pg_ha

int main(int argc, char **argv) {
    const auto argument = [&](int index, int usual) { return argc > index ? std::atoi(argv[index]) : usual; };
    const int members = argument(1, 32);
    const int interval_ms = argument(2, 200);
    const int seconds = argument(3, 10);
    if (members < 2 || members > static_cast<int>(pg_ha::members_max) || interval_ms < 10 || interval_ms > 600 || seconds < 1) {
        std::fprintf(stderr, "usage: bench_net [members 2..32] [interval in ms 10..600] [seconds]\n");
        return 2;
    }
    for (const bool as_primary : {true, false})
        pg_ha::measure(static_cast<std::size_t>(members), std::chrono::milliseconds(interval_ms), seconds, as_primary);
    return 0;
}
