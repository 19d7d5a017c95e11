// SPDX-License-Identifier: PostgreSQL
//
// The witness for "no acknowledged write is lost" and for "how long could nobody write".
//
// `writer run` inserts unique ids one by one, each in its own transaction, and appends every
// acknowledged id with its CLOCK_MONOTONIC time to a file.  It follows the primary by itself: one
// connection per server, standbys are asked every few milliseconds whether they left recovery, so
// that the measured gap is the servers' and not the client's.  An insert that stays without an
// answer is not given up: if its acknowledgement comes later, that is written down too, because a
// late acknowledgement of a deposed primary would be the very bug to catch.
//
// It decides nothing by itself about loss: an id whose outcome is unknown is never reused and never
// counted.  `writer verify` compares the file with what a server has.
#include <libpq-fe.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <deque>
#include <fcntl.h>
#include <fstream>
#include <map>
#include <poll.h>
#include <set>
#include <sstream>
#include <string>
#include <string_view>
#include <unistd.h>
#include <vector>

namespace {

using Nanoseconds = std::int64_t;
constexpr Nanoseconds millisecond = 1'000'000;
constexpr Nanoseconds second = 1000 * millisecond;

constexpr Nanoseconds probe_every = 5 * millisecond;      // between two attempts on one server
constexpr Nanoseconds attempt_limit = 250 * millisecond;  // for connecting and for "are you the primary?"
constexpr Nanoseconds stall_limit = 100 * millisecond;    // an insert silent for this long: look elsewhere as well
constexpr int max_hosts = 16;

std::atomic<bool> stop_requested{false};

Nanoseconds now() {
    timespec t{};
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * second + t.tv_nsec;
}

[[noreturn]] void fail(const std::string &text) {
    std::fprintf(stderr, "writer: %s\n", text.c_str());
    std::exit(2);
}

struct Options {
    std::string command;
    std::vector<std::string> hosts; // "host:port"
    std::string user = "postgres";
    std::string database = "postgres";
    std::string table = "ledger";
    std::string out;
    std::int64_t first_id = 1;
    std::int64_t pause_us = 0;  // between two inserts
    Nanoseconds around = -1;
};

// ---- one server ------------------------------------------------------------------------------------

// connecting -> asking (is it in recovery?) -> ready -> inserting -> ready ...; any failure: closed.
enum class Phase { closed, connecting, asking, standby, ready, inserting };

class Server {
public:
    Server(std::string address, const Options &options) : address_(std::move(address)), options_(options) {
        const auto colon = address_.rfind(':');
        if (colon == std::string::npos)
            fail("expected host:port, got " + address_);
        conninfo_ = "host=" + address_.substr(0, colon) + " port=" + address_.substr(colon + 1) +
                    " user=" + options.user + " dbname=" + options.database +
                    " application_name=writer sslmode=disable gssencmode=disable";
    }
    ~Server() { close(); }
    Server(const Server &) = delete;
    Server &operator=(const Server &) = delete;

    const std::string &address() const { return address_; }
    Phase phase() const { return phase_; }
    std::int64_t id() const { return id_; }
    Nanoseconds since() const { return since_; }
    int socket() const { return connection_ ? PQsocket(connection_) : -1; }
    short wanted() const { return connecting_events_; }

    void close() {
        if (connection_)
            PQfinish(connection_);
        connection_ = nullptr;
        enter(Phase::closed);
    }

    // Look for a primary here: connect, or ask again.
    void probe() {
        if (phase_ == Phase::closed && now() - since_ >= probe_every)
            connect();
        else if (phase_ == Phase::standby && now() - since_ >= probe_every)
            ask();
        else if ((phase_ == Phase::connecting || phase_ == Phase::asking) && now() - since_ >= attempt_limit)
            close();
    }

    void insert(std::int64_t id) {
        id_ = id;
        // Simple protocol: CommandComplete comes after the commit, never before it.
        const std::string sql =
            "INSERT INTO " + options_.table + " (id, port) VALUES (" + std::to_string(id) + ", inet_server_port())";
        if (PQsendQuery(connection_, sql.c_str()) && PQflush(connection_) == 0)
            enter(Phase::inserting);
        else
            close();
    }

    // Handle whatever arrived.  True: the insert of id() was acknowledged just now.
    bool advance() {
        if (phase_ == Phase::connecting)
            return finish_connecting(), false;
        if (phase_ != Phase::asking && phase_ != Phase::inserting)
            return watch_idle(), false;
        if (!PQconsumeInput(connection_))
            return close(), false;
        while (!PQisBusy(connection_)) {
            PGresult *result = PQgetResult(connection_);
            if (!result) {
                // End of this command: the last result said what to do next.
                if (PQstatus(connection_) != CONNECTION_OK)
                    return close(), false;
                const bool acknowledged = outcome_ == Outcome::acknowledged;
                enter(outcome_ == Outcome::refused ? Phase::standby : Phase::ready);
                return acknowledged;
            }
            read(result);
            PQclear(result);
        }
        return false;
    }

private:
    enum class Outcome { refused, primary, acknowledged };

    void enter(Phase phase) {
        phase_ = phase;
        since_ = now();
        connecting_events_ = POLLIN;
        if (phase == Phase::asking || phase == Phase::inserting)
            outcome_ = Outcome::refused;
    }

    void connect() {
        connection_ = PQconnectStart(conninfo_.c_str());
        if (!connection_ || PQstatus(connection_) == CONNECTION_BAD)
            return close();
        PQsetnonblocking(connection_, 1);
        enter(Phase::connecting);
        connecting_events_ = POLLOUT;
    }

    void finish_connecting() {
        switch (PQconnectPoll(connection_)) {
        case PGRES_POLLING_READING: connecting_events_ = POLLIN; return;
        case PGRES_POLLING_WRITING: connecting_events_ = POLLOUT; return;
        case PGRES_POLLING_OK: return ask();
        default: return close();
        }
    }

    void ask() {
        if (PQsendQuery(connection_, "SELECT pg_is_in_recovery()") && PQflush(connection_) == 0)
            enter(Phase::asking);
        else
            close();
    }

    void read(const PGresult *result) {
        const auto status = PQresultStatus(result);
        if (status == PGRES_COMMAND_OK && phase_ == Phase::inserting)
            outcome_ = Outcome::acknowledged;
        else if (status == PGRES_TUPLES_OK && PQgetvalue(result, 0, 0)[0] == 'f')
            outcome_ = Outcome::primary;
        else
            outcome_ = Outcome::refused; // in recovery, fenced, shutting down: ask again, or the connection ends
    }

    // Nothing is expected on an idle connection but its end.
    void watch_idle() {
        if (connection_ && (!PQconsumeInput(connection_) || PQstatus(connection_) != CONNECTION_OK))
            close();
    }

    std::string address_;
    std::string conninfo_;
    const Options &options_;
    PGconn *connection_ = nullptr;
    Phase phase_ = Phase::closed;
    Outcome outcome_ = Outcome::refused;
    short connecting_events_ = POLLIN;
    Nanoseconds since_ = 0;
    std::int64_t id_ = 0;
};

// ---- run -------------------------------------------------------------------------------------------

class Ledger {
public:
    explicit Ledger(const std::string &path) : fd_(open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0644)) {
        if (fd_ < 0)
            fail("cannot write " + path + ": " + std::strerror(errno));
    }
    ~Ledger() { ::close(fd_); }
    Ledger(const Ledger &) = delete;
    Ledger &operator=(const Ledger &) = delete;

    // One write() per line, so that the file is whole whenever this process is killed.
    void acknowledged(std::int64_t id, const std::string &address) {
        char line[128];
        const int length = std::snprintf(line, sizeof line, "%lld %lld %s\n", static_cast<long long>(id),
                                         static_cast<long long>(now()), address.c_str());
        if (write(fd_, line, static_cast<std::size_t>(length)) != length)
            fail(std::string("cannot write the ledger: ") + std::strerror(errno));
    }

private:
    int fd_;
};

class Writer {
public:
    explicit Writer(const Options &options) : options_(options), ledger_(options.out), next_id_(options.first_id) {
        for (const auto &host : options.hosts)
            servers_.emplace_back(host, options);
    }

    void run() {
        while (!stop_requested) {
            write_or_look();
            wait();
        }
    }

private:
    static bool writes_there(const Server *server) {
        return server && (server->phase() == Phase::ready || server->phase() == Phase::inserting);
    }

    // While the current server answers, write there.  While it is silent or gone, look everywhere.
    void write_or_look() {
        if (current_ && current_->phase() == Phase::ready && now() - last_ack_ >= options_.pause_us * 1000)
            current_->insert(next_id_++);
        if (writes_there(current_) && now() - current_->since() < stall_limit)
            return;
        for (auto &server : servers_)
            server.probe();
        for (auto &server : servers_) {
            if (server.phase() != Phase::ready || &server == current_)
                continue;
            current_ = &server;
            server.insert(next_id_++);
            return;
        }
    }

    void wait() {
        pollfd descriptors[max_hosts];
        Server *owners[max_hosts];
        nfds_t count = 0;
        for (auto &server : servers_)
            if (server.socket() >= 0) {
                descriptors[count] = {server.socket(), server.wanted(), 0};
                owners[count++] = &server;
            }
        if (poll(descriptors, count, 1) <= 0)
            return;
        for (nfds_t i = 0; i < count; ++i)
            if (descriptors[i].revents && owners[i]->advance()) {
                ledger_.acknowledged(owners[i]->id(), owners[i]->address());
                last_ack_ = now();
                // A server that acknowledges is where to write, unless another one took over since.
                if (!writes_there(current_))
                    current_ = owners[i];
            }
    }

    const Options &options_;
    Ledger ledger_;
    std::deque<Server> servers_; // they stay where they are
    Server *current_ = nullptr;
    std::int64_t next_id_;
    Nanoseconds last_ack_ = 0;
};

// ---- reading the ledger ------------------------------------------------------------------------------

struct Entry {
    std::int64_t id;
    Nanoseconds at;
    std::string address;
};

std::vector<Entry> read_ledger(const std::string &path) {
    std::ifstream in(path);
    if (!in)
        fail("cannot read " + path);
    std::vector<Entry> entries;
    for (Entry entry; in >> entry.id >> entry.at >> entry.address;)
        entries.push_back(entry);
    std::sort(entries.begin(), entries.end(), [](const Entry &a, const Entry &b) { return a.at < b.at; });
    return entries;
}

// The longest time without an acknowledgement that ends after `around`: its length, when it began and
// ended as seen from `around` (all in ms), and the servers before and after.  "-1": none ended.
int print_gap(const Options &options) {
    const auto entries = read_ledger(options.out);
    const Entry *before = nullptr;
    const Entry *after = nullptr;
    for (std::size_t i = 1; i < entries.size(); ++i) {
        if (entries[i].at < options.around)
            continue;
        if (!before || entries[i].at - entries[i - 1].at > after->at - before->at) {
            before = &entries[i - 1];
            after = &entries[i];
        }
    }
    if (!before) {
        std::printf("-1\n");
        return 1;
    }
    const auto ms = [](Nanoseconds time) { return static_cast<long long>(std::llround(static_cast<double>(time) / millisecond)); };
    const Nanoseconds origin = options.around < 0 ? before->at : options.around;
    std::printf("%lld %lld %lld %s %s\n", ms(after->at - before->at), ms(before->at - origin), ms(after->at - origin),
                before->address.c_str(), after->address.c_str());
    return 0;
}

std::set<std::int64_t> ids_on(const Options &options) {
    const auto &address = options.hosts.front();
    const auto colon = address.rfind(':');
    const std::string conninfo = "host=" + address.substr(0, colon) + " port=" + address.substr(colon + 1) + " user=" +
                                 options.user + " dbname=" + options.database + " connect_timeout=10 sslmode=disable";
    PGconn *connection = PQconnectdb(conninfo.c_str());
    if (PQstatus(connection) != CONNECTION_OK)
        fail(PQerrorMessage(connection));
    PGresult *result = PQexec(connection, ("SELECT id FROM " + options.table).c_str());
    if (PQresultStatus(result) != PGRES_TUPLES_OK)
        fail(PQerrorMessage(connection));
    std::set<std::int64_t> ids;
    for (int row = 0; row < PQntuples(result); ++row)
        ids.insert(std::strtoll(PQgetvalue(result, row, 0), nullptr, 10));
    PQclear(result);
    PQfinish(connection);
    return ids;
}

// Prints "L of M": lost and acknowledged.  Status 1 when an acknowledged id is not there.
int verify(const Options &options) {
    const auto present = ids_on(options);
    std::set<std::int64_t> acknowledged;
    std::map<std::string, int> lost_by_server;
    std::vector<std::int64_t> lost;
    for (const auto &entry : read_ledger(options.out)) {
        if (!acknowledged.insert(entry.id).second || present.contains(entry.id))
            continue;
        lost.push_back(entry.id);
        ++lost_by_server[entry.address];
    }
    std::printf("%zu of %zu\n", lost.size(), acknowledged.size());
    for (const auto &[address, count] : lost_by_server)
        std::fprintf(stderr, "lost, though acknowledged by %s: %d rows, the first is id %lld\n", address.c_str(), count,
                     static_cast<long long>(lost.front()));
    return lost.empty() ? 0 : 1;
}

// ---- command line --------------------------------------------------------------------------------------

constexpr const char *usage =
    "writer run    --hosts h:p,h:p,... --out FILE [--first-id N] [--pause-us N]   insert until SIGTERM\n"
    "writer verify --hosts h:p --out FILE     print \"L of M\": lost and acknowledged rows; status 1 if any is lost\n"
    "writer gap    --out FILE [--around NS]   longest gap that ends after NS: ms, begin, end, servers\n"
    "writer now                               print CLOCK_MONOTONIC in ns, the clock of the file\n"
    "common: --user postgres --dbname postgres --table ledger (id bigint primary key, port int)\n";

std::int64_t number(const std::string &option, const std::string &text) {
    std::int64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc{} || end != text.data() + text.size())
        fail(option + " needs a number, got \"" + text + "\"");
    return value;
}

Options parse(int argc, char **argv) {
    Options options;
    if (argc < 2 || std::string_view(argv[1]) == "--help") {
        std::fputs(usage, stdout);
        std::exit(argc < 2 ? 2 : 0);
    }
    options.command = argv[1];
    for (int i = 2; i < argc; i += 2) {
        const std::string option = argv[i];
        if (i + 1 >= argc)
            fail(option + " needs a value");
        const std::string value = argv[i + 1];
        if (option == "--hosts") {
            std::istringstream list(value);
            for (std::string host; std::getline(list, host, ',');)
                options.hosts.push_back(host);
        } else if (option == "--user") options.user = value;
        else if (option == "--dbname") options.database = value;
        else if (option == "--table") options.table = value;
        else if (option == "--out") options.out = value;
        else if (option == "--first-id") options.first_id = number(option, value);
        else if (option == "--pause-us") options.pause_us = number(option, value);
        else if (option == "--around") options.around = number(option, value);
        else fail("unknown option " + option);
    }
    if (options.command != "now" && options.out.empty())
        fail("--out is missing");
    if ((options.command == "run" || options.command == "verify") &&
        (options.hosts.empty() || options.hosts.size() > max_hosts))
        fail("--hosts needs 1 to 16 servers");
    return options;
}

} // namespace

int main(int argc, char **argv) {
    const Options options = parse(argc, argv);
    if (options.command == "now")
        return std::printf("%lld\n", static_cast<long long>(now())) > 0 ? 0 : 1;
    if (options.command == "gap")
        return print_gap(options);
    if (options.command == "verify")
        return verify(options);
    if (options.command != "run")
        fail("unknown command " + options.command + "; see writer --help");
    std::signal(SIGTERM, [](int) { stop_requested = true; });
    std::signal(SIGINT, [](int) { stop_requested = true; });
    std::signal(SIGPIPE, SIG_IGN);
    Writer(options).run();
    return 0;
}
