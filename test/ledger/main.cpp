// SPDX-License-Identifier: PostgreSQL
//
// Command line and file of the independent ledger.
#include "ledger.hpp"

#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <fcntl.h>
#include <sstream>
#include <string_view>
#include <unistd.h>

namespace ledger {

Nanoseconds now() {
    timespec t{};
    clock_gettime(CLOCK_BOOTTIME, &t);
    return t.tv_sec * second + t.tv_nsec;
}

void fail(const std::string &text) {
    std::fprintf(stderr, "ledger: %s\n", text.c_str());
    std::exit(2);
}

std::string conninfo_of(const std::string &address, const Options &options) {
    const auto colon = address.rfind(':');
    if (colon == std::string::npos)
        fail("expected host:port, got " + address);
    return "host=" + address.substr(0, colon) + " port=" + address.substr(colon + 1) + " user=" + options.user +
           " dbname=" + options.database + " application_name=ledger sslmode=disable gssencmode=disable";
}

std::string insert_of(std::int64_t id, const Options &options) {
    return "INSERT INTO " + options.table + " (id, port) VALUES (" + std::to_string(id) +
           ", inet_server_port()) RETURNING ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int";
}

File::File(const std::string &path) : fd_(open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644)) {
    if (fd_ < 0)
        fail("cannot write " + path + ": " + std::strerror(errno));
}

File::~File() { close(fd_); }

void File::add(std::int64_t id, const std::string &address, Nanoseconds begin, std::int64_t timeline, Outcome outcome) {
    waiting_ += std::to_string(id) + ' ' + address + ' ' + std::to_string(begin) + ' ' + std::to_string(now()) + ' ' +
                std::to_string(timeline) + ' ' + static_cast<char>(outcome) + '\n';
}

void File::flush() {
    if (waiting_.empty())
        return;
    if (write(fd_, waiting_.data(), waiting_.size()) != static_cast<ssize_t>(waiting_.size()))
        fail(std::string("cannot write the ledger: ") + std::strerror(errno));
    waiting_.clear();
}

namespace {

constexpr std::size_t max_sessions = 256;

constexpr const char *usage =
    "ledger run    --hosts h:p,... --out FILE      insert through all servers until SIGTERM\n"
    "              [--sessions 4] [--pipelined 1]  per server; so many of them send ahead\n"
    "              [--first-id N] [--pause-us 2000] [--synchronous-commit on]\n"
    "ledger follow --hosts h:p,... --out FILE      insert through one session that looks for the primary, until SIGTERM\n"
    "              [--first-id N] [--pause-us 0]\n"
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
    const bool connects = options.command == "run" || options.command == "follow" || options.command == "verify";
    if (connects && options.hosts.empty())
        fail("--hosts is missing");
    if (options.sessions < 1 || options.hosts.size() * static_cast<std::size_t>(options.sessions) > max_sessions)
        fail("at least one session per server, at most 256 in all");
    return options;
}

} // namespace

} // namespace ledger

int main(int argc, char **argv) {
    using namespace ledger;
    const Options options = parse(argc, argv);
    if (options.command == "now")
        return std::printf("%lld\n", static_cast<long long>(now())) > 0 ? 0 : 1;
    if (options.command == "outage")
        return outage(options);
    if (options.command == "gap")
        return gap(options);
    if (options.command == "verify")
        return verify(options);
    if (options.command != "run" && options.command != "follow")
        fail("unknown command " + options.command + "; see ledger --help");
    std::signal(SIGTERM, [](int) { stop_requested = true; });
    std::signal(SIGINT, [](int) { stop_requested = true; });
    std::signal(SIGPIPE, SIG_IGN);
    return options.command == "run" ? run(options) : follow(options);
}
