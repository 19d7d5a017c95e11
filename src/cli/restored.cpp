// SPDX-License-Identifier: PostgreSQL
#include "restored.hpp"

#include "failure.hpp"
#include "new_server.hpp"
#include "rejoin/control_data.hpp"
#include "rejoin/files.hpp"
#include "rejoin/wal_files.hpp"

#include <cstdio>
#include <fstream>
#include <iostream>
#include <sstream>
#include <sys/stat.h>
#include <unistd.h>

namespace pg_ha::cli {

namespace {

std::string read_text(const std::string &path) {
    std::ifstream in(path);
    std::stringstream text;
    text << in.rdbuf();
    return text.str();
}

void check_directory(const std::string &directory, int local_version) {
    if (!rejoin::exists(directory + "/PG_VERSION"))
        throw Failure("there is no data directory in \"" + directory + "\"", "Restore the backup first, or clone without --restored.");
    if (rejoin::exists(directory + "/pg_hactl.clone"))
        throw Failure("\"" + directory + "\" was made by pg_hactl clone", "Run pg_hactl clone without --restored.");
    struct stat info;
    if (::stat(directory.c_str(), &info) != 0 || info.st_uid != ::geteuid())
        throw Failure("directory \"" + directory + "\" belongs to another user", "Run pg_hactl as the server's user.");
    if (rejoin::exists(directory + "/postmaster.pid"))
        throw Failure("file \"" + directory + "/postmaster.pid\" exists: a server may be running there",
                      "Stop it. If the file came with the backup and no server runs there, remove it.");
    const int major = std::atoi(read_text(directory + "/PG_VERSION").c_str());
    if (major != local_version / 10000)
        throw Failure("\"" + directory + "\" is of PostgreSQL " + std::to_string(major) + " and this is " +
                      std::to_string(local_version / 10000));
}

// Where the directory's own history ends, as far as it can be known without replaying it.
Position position_of(const std::string &directory, const rejoin::ControlData &control) {
    if (rejoin::exists(directory + "/backup_label")) {
        if (const auto position = parse_backup_label(read_text(directory + "/backup_label")))
            return *position;
        throw Failure("file \"" + directory + "/backup_label\" is not readable", "Restore the backup again.");
    }
    if (control.state != "shut down" && control.state != "shut down in recovery")
        throw Failure("\"" + directory + "\" is no backup: it has no backup_label, and its server was not shut down (\"" +
                          control.state + "\")",
                      "A copy of a running server's files is not usable. Restore a backup, or clone without --restored.");
    return {control.recovery_timeline, control.end};
}

void check_history(const CloneSource &source, Position position) {
    const auto current = static_cast<Timeline>(std::strtoul(source.timeline.c_str(), nullptr, 10));
    if (position.timeline > current)
        throw Failure("the restored directory is on timeline " + std::to_string(raw(position.timeline)) +
                          ", which is newer than the cluster's, " + source.timeline,
                      "It is of another history than this cluster: clone without --restored.");
    Session replication(source.session->conninfo(), Session::Kind::replication);
    if (position.timeline == current) {
        const auto end = rejoin::parse_lsn(replication.command("IDENTIFY_SYSTEM").text(0, "xlogpos"));
        if (end && position.lsn > *end)
            throw Failure("the restored directory is at " + to_string(position.lsn) + ", further than the cluster, which is at " +
                              to_string(*end),
                          "It has WAL that the cluster has lost: look at it before you clone without --restored.");
        return;
    }
    const Answer answer = replication.command("TIMELINE_HISTORY " + source.timeline);
    if (!history_contains(answer.text(0, "content"), current, position))
        throw Failure("the restored directory, at " + to_string(position) + ", is not part of the history of the cluster's timeline " +
                          source.timeline,
                      "It was backed up from a server that the cluster left behind: restore another backup, or clone without --restored.");
}

void check_recovery_settings(NewServer &server) {
    for (const char *name : {"recovery_target", "recovery_target_lsn", "recovery_target_name", "recovery_target_time", "recovery_target_xid"})
        if (const std::string value = server.settings.get(name).value_or(""); !value.empty())
            throw Failure(std::string(name) + " is set, to \"" + value + "\": the server would stop following there",
                          "Remove it from the configuration (pgBackRest: restore with --type=standby).");
    if (const auto timeline = server.settings.get("recovery_target_timeline"); timeline && *timeline != "latest")
        throw Failure("recovery_target_timeline is \"" + *timeline + "\"", "Set it to latest.");
}

// From the archive, or from the server that it will stream from.
void check_wal(NewServer &server, Position position, std::uint64_t segment_bytes) {
    if (!server.settings.get("restore_command").value_or("").empty())
        return;
    const auto oldest = server.source.session->try_ask(
        "SELECT coalesce(min(substr(name, 9)), '') AS oldest FROM pg_catalog.pg_ls_waldir() WHERE name ~ '^[0-9A-F]{24}$'");
    const std::string needed =
        rejoin::segment_name({position.timeline, raw(position.lsn) / segment_bytes}, segment_bytes).substr(8);
    if (!oldest)
        std::cerr << "WARNING:  the role may not list WAL, so it is not known whether the cluster has all since "
                  << to_string(position.lsn) << "\n";
    else if (oldest->text(0, "oldest") > needed)
        throw Failure("the restored directory needs WAL from " + to_string(position.lsn) + " on, which " +
                          server.source.session->server() + " has removed",
                      "Set restore_command to read it from the archive, or clone without --restored.");
}

} // namespace

std::optional<Position> parse_backup_label(const std::string &text) {
    std::optional<Lsn> start;
    unsigned timeline = 0;
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) {
        char lsn[32];
        if (std::sscanf(line.c_str(), "START WAL LOCATION: %31s", lsn) == 1)
            start = rejoin::parse_lsn(lsn);
        std::sscanf(line.c_str(), "START TIMELINE: %u", &timeline);
    }
    if (!start || timeline == 0)
        return std::nullopt;
    return Position{static_cast<Timeline>(timeline), *start};
}

bool history_contains(const std::string &history, Timeline current, Position position) {
    if (position.timeline == current)
        return true;
    std::istringstream lines(history);
    for (std::string line; std::getline(lines, line);) {
        unsigned timeline;
        char end[32];
        if (std::sscanf(line.c_str(), "%u %31s", &timeline, end) == 2 && timeline == raw(position.timeline))
            if (const auto lsn = rejoin::parse_lsn(end))
                return position.lsn <= *lsn;
    }
    return false;
}

int adopt_restored(const CloneOptions &options, int local_version) {
    check_directory(options.directory, local_version);
    const rejoin::ControlData control = rejoin::read_control_data(program_directory(), options.directory);
    const Position position = position_of(options.directory, control);
    NewServer server(options, open_source(options, local_version));
    if (server.source.system_identifier != std::to_string(control.system_identifier))
        throw Failure("\"" + options.directory + "\" is of database system " + std::to_string(control.system_identifier) +
                          ", and the cluster of " + server.source.system_identifier,
                      "It is a backup of another cluster.");
    check_history(server.source, position);
    check_recovery_settings(server);
    check_wal(server, position, control.segment_bytes);
    check_new_server(server);
    if (options.check_only) {
        std::cout << "nothing stands in the way of adopting this directory\n";
        return exit_done;
    }
    write_settings(options.directory, server);
    tell_what_is_next(server);
    return exit_done;
}

} // namespace pg_ha::cli
