// SPDX-License-Identifier: PostgreSQL
//
// The independent ledger: what clients were told, kept where no server can touch it.
//
// `ledger run` keeps several sessions open to every server at once, each by the server's own address
// and none asking who is primary, and inserts unique ids through all of them.  Of each attempt it
// writes down begin, end, server, timeline and outcome.  `ledger verify` then compares that with what
// the last primary has: an acknowledged id that is missing is lost; an acknowledgement of an attempt
// that began after a later timeline had acknowledged already is a double one, and so is every second
// server that acknowledges in one timeline.  All clocks are CLOCK_BOOTTIME of this one machine.
//
// It must never guess: an attempt without an answer is unknown, its id is not used again, and it
// counts neither as lost nor as acknowledged.  In a pipeline only ReadyForQuery is an
// acknowledgement, because CommandComplete comes before the commit there.
#include <libpq-fe.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <charconv>
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
#include <sstream>
#include <string>
#include <string_view>
#include <unistd.h>
#include <unordered_set>
#include <vector>

namespace {

using Nanoseconds = std::int64_t;
constexpr Nanoseconds millisecond = 1'000'000;
constexpr Nanoseconds second = 1000 * millisecond;

constexpr Nanoseconds retry_after = 10 * millisecond; // after a refusal or a lost connection
constexpr Nanoseconds connect_limit = 500 * millisecond;
constexpr int pipeline_depth = 4;
constexpr std::size_t max_sessions = 256;

std::atomic<bool> stop_requested{false};

Nanoseconds now() {
    timespec t{};
    clock_gettime(CLOCK_BOOTTIME, &t);
    return t.tv_sec * second + t.tv_nsec;
}

[[noreturn]] void fail(const std::string &text) {
    std::fprintf(stderr, "ledger: %s\n", text.c_str());
    std::exit(2);
}

struct Options {
    std::string command;
    std::vector<std::string> hosts; // "host:port"
    std::vector<std::string> files;
    std::string user = "postgres";
    std::string database = "postgres";
    std::string table = "ledger";
    std::string synchronous_commit = "on";
    std::int64_t sessions = 4;  // per server
    std::int64_t pipelined = 1; // of these
    std::int64_t first_id = 1;
    std::int64_t pause_us = 2000;
    Nanoseconds after = 0;
};

std::string conninfo_of(const std::string &address, const Options &options) {
    const auto colon = address.rfind(':');
    if (colon == std::string::npos)
        fail("expected host:port, got " + address);
    return "host=" + address.substr(0, colon) + " port=" + address.substr(colon + 1) + " user=" + options.user +
           " dbname=" + options.database + " application_name=ledger sslmode=disable gssencmode=disable";
}

// ---- the file --------------------------------------------------------------------------------------

enum class Outcome : char { acknowledged = 'A', unknown = 'U' };

struct Entry {
    std::int64_t id;
    std::string address;
    Nanoseconds begin, end;
    std::int64_t timeline; // 0: not told
    char outcome;
};

class File {
public:
    explicit File(const std::string &path) : fd_(open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0644)) {
        if (fd_ < 0)
            fail("cannot write " + path + ": " + std::strerror(errno));
    }
    ~File() { ::close(fd_); }
    File(const File &) = delete;
    File &operator=(const File &) = delete;

    void add(std::int64_t id, const std::string &address, Nanoseconds begin, std::int64_t timeline, Outcome outcome) {
        waiting_ += std::to_string(id) + ' ' + address + ' ' + std::to_string(begin) + ' ' + std::to_string(now()) +
                    ' ' + std::to_string(timeline) + ' ' + static_cast<char>(outcome) + '\n';
    }
    void refused() { ++refused_; }
    std::int64_t refusals() const { return refused_; }

    // Whole lines only, so that readers and whoever kills this process never leave half a one.
    void flush() {
        if (waiting_.empty())
            return;
        if (write(fd_, waiting_.data(), waiting_.size()) != static_cast<ssize_t>(waiting_.size()))
            fail(std::string("cannot write the ledger: ") + std::strerror(errno));
        waiting_.clear();
    }

private:
    int fd_;
    std::string waiting_;
    std::int64_t refused_ = 0;
};

// ---- one session -----------------------------------------------------------------------------------

struct Shared {
    const Options &options;
    File file;
    std::int64_t next_id;
};

// closed -> connecting -> open (idle, or with attempts under way) -> closed ...
class Session {
public:
    Session(const std::string &address, bool pipelined, Shared &shared)
        : address_(address), pipelined_(pipelined), shared_(shared) {
        // What standbys refuse many times per second is not to fill their logs.
        conninfo_ = conninfo_of(address, shared.options) +
                    " options='-c log_min_messages=log -c log_min_error_statement=panic -c synchronous_commit=" +
                    shared.options.synchronous_commit + "'";
        insert_ = "INSERT INTO " + shared.options.table + " (id, port) VALUES (";
    }
    ~Session() { close(); }
    Session(const Session &) = delete;
    Session &operator=(const Session &) = delete;

    int socket() const { return connection_ ? PQsocket(connection_) : -1; }
    short wanted() const { return events_; }
    bool busy() const { return !attempts_.empty(); }

    // Whatever is due by the clock.
    void act() {
        if (!connection_ && now() >= due_)
            connect();
        else if (connection_ && !open_ && now() >= give_up_)
            close();
        while (open_ && now() >= due_ && attempts_.size() < (pipelined_ ? pipeline_depth : 1) && !refused_)
            insert();
    }

    // Whatever has arrived.
    void advance() {
        if (!connection_)
            return;
        if (!open_)
            return finish_connecting();
        if (!PQconsumeInput(connection_))
            return close();
        flush();
        while (connection_ && busy() && !PQisBusy(connection_)) {
            PGresult *result = PQgetResult(connection_);
            const bool done = result ? read(result) : !pipelined_;
            if (!result && PQstatus(connection_) != CONNECTION_OK)
                break;
            PQclear(result);
            if (done)
                finish_attempt();
        }
        if (connection_ && PQstatus(connection_) != CONNECTION_OK)
            close();
    }

    void close() {
        for (const Attempt &attempt : attempts_)
            shared_.file.add(attempt.id, address_, attempt.begin, 0, Outcome::unknown);
        attempts_.clear();
        if (connection_)
            PQfinish(connection_);
        connection_ = nullptr;
        open_ = refused_ = false;
        due_ = now() + retry_after;
    }

private:
    struct Attempt {
        std::int64_t id;
        Nanoseconds begin;
        std::int64_t timeline = 0;
        bool inserted = false, failed = false;
    };

    void connect() {
        connection_ = PQconnectStart(conninfo_.c_str());
        if (!connection_ || PQstatus(connection_) == CONNECTION_BAD)
            return close();
        PQsetnonblocking(connection_, 1);
        events_ = POLLOUT;
        give_up_ = now() + connect_limit;
    }

    void finish_connecting() {
        switch (PQconnectPoll(connection_)) {
        case PGRES_POLLING_READING: events_ = POLLIN; return;
        case PGRES_POLLING_WRITING: events_ = POLLOUT; return;
        case PGRES_POLLING_OK: break;
        default: return close();
        }
        events_ = POLLIN;
        open_ = !pipelined_ || PQenterPipelineMode(connection_);
        due_ = now();
    }

    void insert() {
        const Attempt attempt{shared_.next_id++, now()};
        const std::string sql =
            insert_ + std::to_string(attempt.id) + ", inet_server_port()) RETURNING "
            "('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int";
        attempts_.push_back(attempt);
        due_ = now() + shared_.options.pause_us * 1000;
        const bool sent = pipelined_ ? PQsendQueryParams(connection_, sql.c_str(), 0, nullptr, nullptr, nullptr, nullptr, 0) &&
                                           PQpipelineSync(connection_)
                                     : PQsendQuery(connection_, sql.c_str());
        if (!sent)
            return close();
        flush();
    }

    void flush() {
        const int left = PQflush(connection_);
        if (left < 0)
            return close();
        events_ = left > 0 ? POLLIN | POLLOUT : POLLIN;
    }

    // True: in a pipeline, the transaction of the oldest attempt has ended.
    bool read(const PGresult *result) {
        Attempt &attempt = attempts_.front();
        switch (PQresultStatus(result)) {
        case PGRES_TUPLES_OK:
            attempt.inserted = true;
            attempt.timeline = std::strtoll(PQgetvalue(result, 0, 0), nullptr, 10);
            return false;
        case PGRES_PIPELINE_SYNC: return true;
        default: attempt.failed = true; return false;
        }
    }

    // The server has finished with the oldest attempt, unless the connection was what ended it.
    void finish_attempt() {
        if (PQstatus(connection_) != CONNECTION_OK)
            return close();
        const Attempt attempt = attempts_.front();
        attempts_.pop_front();
        if (attempt.inserted && !attempt.failed) {
            shared_.file.add(attempt.id, address_, attempt.begin, attempt.timeline, Outcome::acknowledged);
        } else {
            shared_.file.refused();
            refused_ = true;
            due_ = now() + retry_after;
        }
        if (attempts_.empty())
            refused_ = false;
    }

    const std::string address_;
    const bool pipelined_;
    Shared &shared_;
    std::string conninfo_, insert_;
    PGconn *connection_ = nullptr;
    bool open_ = false;
    bool refused_ = false; // until the rest of the pipeline is through
    short events_ = POLLIN;
    Nanoseconds due_ = 0, give_up_ = 0;
    std::deque<Attempt> attempts_;
};

int run(const Options &options) {
    Shared shared{options, File(options.files.front()), options.first_id};
    std::deque<Session> sessions; // they stay where they are
    for (std::int64_t i = 0; i < options.sessions; ++i)
        for (const std::string &host : options.hosts)
            sessions.emplace_back(host, i < options.pipelined, shared);
    std::vector<pollfd> descriptors;
    std::vector<Session *> owners;
    while (!stop_requested) {
        descriptors.clear();
        owners.clear();
        for (Session &session : sessions) {
            session.act();
            if (session.socket() < 0)
                continue;
            descriptors.push_back({session.socket(), session.wanted(), 0});
            owners.push_back(&session);
        }
        if (poll(descriptors.data(), descriptors.size(), 1) > 0)
            for (std::size_t i = 0; i < owners.size(); ++i)
                if (descriptors[i].revents)
                    owners[i]->advance();
        shared.file.flush();
    }
    sessions.clear(); // what is under way becomes unknown
    shared.file.flush();
    std::printf("%lld attempts were refused\n", static_cast<long long>(shared.file.refusals()));
    return 0;
}

// ---- reading it --------------------------------------------------------------------------------------

std::vector<Entry> read_files(const Options &options) {
    std::vector<Entry> entries;
    for (const std::string &path : options.files) {
        std::ifstream in(path);
        if (!in)
            fail("cannot read " + path);
        for (Entry e; in >> e.id >> e.address >> e.begin >> e.end >> e.timeline >> e.outcome;)
            entries.push_back(e);
    }
    std::sort(entries.begin(), entries.end(), [](const Entry &a, const Entry &b) { return a.end < b.end; });
    return entries;
}

std::vector<Entry> acknowledged_only(std::vector<Entry> entries) {
    std::erase_if(entries, [](const Entry &e) { return e.outcome != static_cast<char>(Outcome::acknowledged); });
    return entries;
}

// From the last acknowledgement of the timelines there were at --after to the first of a later one:
// "ms, ms from --after to its end, servers before and behind".  "-1": no later timeline acknowledged.
int outage(const Options &options) {
    const auto entries = acknowledged_only(read_files(options));
    std::int64_t timeline = 0;
    for (const Entry &e : entries)
        if (e.end <= options.after)
            timeline = std::max(timeline, e.timeline);
    const auto first = std::find_if(entries.begin(), entries.end(), [&](const Entry &e) {
        return e.end > options.after && e.timeline > timeline;
    });
    if (timeline == 0 || first == entries.end()) {
        std::printf("-1\n");
        return 1;
    }
    const auto last = std::find_if(std::make_reverse_iterator(first), entries.rend(),
                                   [&](const Entry &e) { return e.timeline <= timeline; });
    const auto ms = [](Nanoseconds time) { return static_cast<double>(time) / millisecond; };
    std::printf("%.1f %.1f %s %s\n", ms(first->end - last->end), ms(first->end - options.after), last->address.c_str(),
                first->address.c_str());
    return 0;
}

// The longest time between two acknowledgements that ends behind --after, in ms; or until --after's now.
int gap(const Options &options) {
    const auto entries = acknowledged_only(read_files(options));
    Nanoseconds before = options.after, longest = 0;
    for (const Entry &e : entries) {
        if (e.end > options.after)
            longest = std::max(longest, e.end - before);
        before = std::max(before, e.end);
    }
    longest = std::max(longest, now() - before);
    std::printf("%.1f\n", static_cast<double>(longest) / millisecond);
    return 0;
}

std::unordered_set<std::int64_t> ids_on(const Options &options) {
    PGconn *connection = PQconnectdb((conninfo_of(options.hosts.front(), options) + " connect_timeout=10").c_str());
    if (PQstatus(connection) != CONNECTION_OK)
        fail(PQerrorMessage(connection));
    PGresult *result = PQexec(connection, ("SELECT id FROM " + options.table).c_str());
    if (PQresultStatus(result) != PGRES_TUPLES_OK)
        fail(PQerrorMessage(connection));
    std::unordered_set<std::int64_t> ids;
    for (int row = 0; row < PQntuples(result); ++row)
        ids.insert(std::strtoll(PQgetvalue(result, row, 0), nullptr, 10));
    PQclear(result);
    PQfinish(connection);
    return ids;
}

struct Doubles {
    std::int64_t double_acks = 0; // begun after a later timeline had acknowledged, or by a second server
    std::int64_t late_acks = 0;   // begun before, answered after: allowed for what the later one has
};

Doubles count_doubles(const std::vector<Entry> &acknowledged) {
    std::map<std::int64_t, Nanoseconds> first; // timeline -> its first acknowledgement
    std::map<std::int64_t, std::string> owner;
    for (const Entry &e : acknowledged) {
        first.emplace(e.timeline, e.end);
        owner.emplace(e.timeline, e.address);
    }
    Nanoseconds earliest = INT64_MAX; // of all later timelines
    std::map<std::int64_t, Nanoseconds> later;
    for (auto it = first.rbegin(); it != first.rend(); ++it) {
        later[it->first] = earliest;
        earliest = std::min(earliest, it->second);
    }
    Doubles doubles;
    for (const Entry &e : acknowledged) {
        const bool twice = e.begin > later[e.timeline] || e.address != owner[e.timeline];
        doubles.double_acks += twice;
        doubles.late_acks += !twice && e.end > later[e.timeline];
        if (twice && doubles.double_acks <= 3)
            std::fprintf(stderr, "double: id %lld by %s in timeline %lld, begun at %lld\n", static_cast<long long>(e.id),
                         e.address.c_str(), static_cast<long long>(e.timeline), static_cast<long long>(e.begin));
    }
    return doubles;
}

// One JSON line.  Status 1: an acknowledged id is lost, or two servers acknowledged.
int verify(const Options &options) {
    const auto entries = read_files(options);
    const auto acknowledged = acknowledged_only(entries);
    const auto present = ids_on(options);
    std::int64_t lost = 0;
    std::map<std::int64_t, std::int64_t> lost_of; // timeline -> rows
    for (const Entry &e : acknowledged) {
        if (present.contains(e.id))
            continue;
        ++lost_of[e.timeline];
        if (++lost <= 3)
            std::fprintf(stderr, "lost: id %lld, acknowledged by %s in timeline %lld at %lld\n", static_cast<long long>(e.id),
                         e.address.c_str(), static_cast<long long>(e.timeline), static_cast<long long>(e.end));
    }
    const Doubles doubles = count_doubles(acknowledged);
    std::map<std::int64_t, int> timelines;
    for (const Entry &e : acknowledged)
        ++timelines[e.timeline];
    std::printf("{\"acknowledged\": %zu, \"unknown\": %zu, \"timelines\": %zu, \"lost\": %lld, \"double_acks\": %lld, "
                "\"late_acks\": %lld}\n",
                acknowledged.size(), entries.size() - acknowledged.size(), timelines.size(), static_cast<long long>(lost),
                static_cast<long long>(doubles.double_acks), static_cast<long long>(doubles.late_acks));
    return lost == 0 && doubles.double_acks == 0 ? 0 : 1;
}

// ---- command line --------------------------------------------------------------------------------------

constexpr const char *usage =
    "ledger run    --hosts h:p,... --out FILE      insert through all servers until SIGTERM\n"
    "              [--sessions 4] [--pipelined 1]  per server; so many of them send ahead\n"
    "              [--first-id N] [--pause-us 2000] [--synchronous-commit on]\n"
    "ledger verify --hosts h:p --out FILE[,FILE]   one JSON line; status 1: acknowledged rows are lost, or two servers\n"
    "                                              acknowledged at a time\n"
    "ledger outage --out FILE --after NS           ms between the acknowledgements of two primaries; ms after NS; servers\n"
    "ledger gap    --out FILE --after NS           longest time without an acknowledgement since NS, in ms\n"
    "ledger now                                    CLOCK_BOOTTIME in ns, the clock of the file\n"
    "common: --user postgres --dbname postgres --table ledger (id bigint primary key, port int)\n"
    "file: id server begin end timeline A|U        acknowledged, or unknown because no answer came\n";

std::int64_t number(const std::string &option, const std::string &text) {
    std::int64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc{} || end != text.data() + text.size())
        fail(option + " needs a number, got \"" + text + "\"");
    return value;
}

std::vector<std::string> split(const std::string &text) {
    std::vector<std::string> parts;
    std::istringstream list(text);
    for (std::string part; std::getline(list, part, ',');)
        parts.push_back(part);
    return parts;
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
        if (option == "--hosts") options.hosts = split(value);
        else if (option == "--out") options.files = split(value);
        else if (option == "--user") options.user = value;
        else if (option == "--dbname") options.database = value;
        else if (option == "--table") options.table = value;
        else if (option == "--synchronous-commit") options.synchronous_commit = value;
        else if (option == "--sessions") options.sessions = number(option, value);
        else if (option == "--pipelined") options.pipelined = number(option, value);
        else if (option == "--first-id") options.first_id = number(option, value);
        else if (option == "--pause-us") options.pause_us = number(option, value);
        else if (option == "--after") options.after = number(option, value);
        else fail("unknown option " + option);
    }
    if (options.command != "now" && options.files.empty())
        fail("--out is missing");
    if ((options.command == "run" || options.command == "verify") && options.hosts.empty())
        fail("--hosts is missing");
    if (options.sessions < 1 || options.hosts.size() * static_cast<std::size_t>(options.sessions) > max_sessions)
        fail("at least one session per server, at most 256 in all");
    return options;
}

} // namespace

int main(int argc, char **argv) {
    const Options options = parse(argc, argv);
    if (options.command == "now")
        return std::printf("%lld\n", static_cast<long long>(now())) > 0 ? 0 : 1;
    if (options.command == "outage")
        return outage(options);
    if (options.command == "gap")
        return gap(options);
    if (options.command == "verify")
        return verify(options);
    if (options.command != "run")
        fail("unknown command " + options.command + "; see ledger --help");
    std::signal(SIGTERM, [](int) { stop_requested = true; });
    std::signal(SIGINT, [](int) { stop_requested = true; });
    std::signal(SIGPIPE, SIG_IGN);
    return run(options);
}
