// SPDX-License-Identifier: PostgreSQL
#include "clone.hpp"

#include "clone_source.hpp"
#include "clone_target.hpp"
#include "failure.hpp"
#include "new_server.hpp"
#include "progress.hpp"
#include "rejoin/conninfo.hpp"
#include "rejoin/files.hpp"
#include "rejoin/process.hpp"
#include "rejoin/room.hpp"
#include "restored.hpp"
#include "table.hpp"

#include <algorithm>
#include <iostream>
#include <map>
#include <unistd.h>

namespace pg_ha::cli {

namespace {

std::string place_of(const Tablespace &tablespace, const CloneOptions &options) {
    const auto mapped = options.mapping.find(tablespace.location);
    return mapped == options.mapping.end() ? tablespace.location : mapped->second;
}

void check_tablespaces(const CloneSource &source, const CloneOptions &options, const CloneTarget &target) {
    for (const auto &[from, to] : options.mapping) {
        bool known = false;
        for (const Tablespace &tablespace : source.tablespaces)
            known = known || tablespace.location == from;
        if (!known)
            throw Failure("the cluster has no tablespace at \"" + from + "\"", "psql's \\db shows where its tablespaces are.",
                          exit_misused);
    }
    std::map<std::string, std::string> taken;
    for (const Tablespace &tablespace : source.tablespaces) {
        const std::string place = place_of(tablespace, options);
        if ((place + "/").starts_with(options.directory + "/"))
            throw Failure("tablespace \"" + tablespace.name + "\" would go into the data directory, to \"" + place + "\"",
                          "Map it with --tablespace-mapping=" + tablespace.location + "=NEW.");
        if (const auto [other, fresh] = taken.emplace(place, tablespace.name); !fresh)
            throw Failure("tablespaces \"" + other->second + "\" and \"" + tablespace.name + "\" would both go to \"" +
                          place + "\"");
        const std::string there = rejoin::existing_part_of(place);
        if (::access(there.c_str(), W_OK | X_OK) != 0)
            throw Failure("tablespace \"" + tablespace.name + "\" cannot go to \"" + place + "\": \"" + there +
                              "\" is not writable",
                          "Make the directory, or map the tablespace with --tablespace-mapping=" + tablespace.location + "=NEW.");
        target.check_place_for(place);
    }
}

void check_space(const CloneSource &source, const CloneOptions &options) {
    rejoin::RoomNeeded room;
    std::uint64_t elsewhere = 0;
    for (const Tablespace &tablespace : source.tablespaces) {
        elsewhere += tablespace.bytes;
        room.add(place_of(tablespace, options), tablespace.bytes);
        if (!tablespace.size_known)
            std::cerr << "WARNING:  the role may not see the size of tablespace \"" << tablespace.name
                      << "\", so it is counted to the data directory\n";
    }
    room.add(options.directory, source.bytes - std::min(elsewhere, source.bytes) + wal_allowance);
    if (const auto shortage = room.shortage(5))
        throw Failure("not enough space in \"" + shortage->place + "\": " + format_bytes(shortage->needed) + " needed, " +
                          format_bytes(shortage->free) + " free",
                      "Free some, name another directory, or map tablespaces elsewhere with --tablespace-mapping.");
}

std::vector<std::string> copy_command(const CloneSource &source, const CloneOptions &options, const CloneTarget &target) {
    std::vector<std::string> command = {program_directory() + "/pg_basebackup", "-D", target.copy(), "-c", "fast", "-X",
                                        "stream", "--no-manifest", "--progress", "--no-password"};
    if (!options.rate.empty())
        command.push_back("--max-rate=" + options.rate);
    if (options.no_sync)
        command.push_back("--no-sync");
    for (const Tablespace &tablespace : source.tablespaces)
        command.push_back("--tablespace-mapping=" + tablespace.location + "=" + place_of(tablespace, options));
    Conninfo conninfo = source.session->conninfo();
    conninfo.set("application_name", "pg_hactl");
    command.insert(command.end(), {"-d", rejoin::for_command_line(conninfo.text())});
    return command;
}

rejoin::Amount copy(const CloneSource &source, const CloneOptions &options, CloneTarget &target, double &seconds) {
    std::cerr << "copying " << format_bytes(source.bytes) << " from " << source.session->server()
              << ", after a checkpoint there\n";
    ProgressDisplay display(::isatty(STDERR_FILENO));
    rejoin::Ran ran;
    try {
        ran = rejoin::run(copy_command(source, options, target), rejoin::Echo::off,
                          [&display](const std::string &line) { return display.hear(line); }, rejoin::Family::group);
    } catch (const rejoin::Stopped &) {
        display.end();
        throw Failure("interrupted; the unfinished copy is still in \"" + options.directory + "\"",
                      "Run the same command again: it removes it and begins anew.");
    }
    display.end();
    seconds = display.seconds();
    if (ran.status == 0)
        return display.last();
    target.remove();
    throw Failure("pg_basebackup failed: " + rejoin::last_lines(ran.output),
                  "What had been copied is removed. Run the same command again when the cause is.");
}

void make_copy(NewServer &server, CloneTarget &target, const CloneOptions &options) {
    std::vector<std::string> tablespaces;
    for (const Tablespace &tablespace : server.source.tablespaces)
        tablespaces.push_back(place_of(tablespace, options));
    target.begin(tablespaces);
    double seconds = 0;
    const rejoin::Amount copied = copy(server.source, options, target, seconds);
    write_settings(target.copy(), server);
    target.bring_out();
    target.finish();
    std::cerr << "copied " << format_bytes(copied.done_kb * 1024) << " in " << static_cast<int>(seconds + 0.5) << " s\n";
}

} // namespace

int run_clone(const CloneOptions &options) {
    if (::geteuid() == 0)
        throw Failure("pg_hactl clone must not be run as root", "Run it as the server's user: sudo -u postgres pg_hactl clone ...");
    const int version = local_version();
    if (options.restored)
        return adopt_restored(options, version);
    CloneTarget target(options.directory);
    if (target.complete()) {
        if (!options.check_only)
            target.finish();
        std::cout << "the clone in \"" << options.directory << "\" is complete already; an earlier run made it\n";
        return exit_done;
    }
    if (target.unfinished() && !options.check_only) {
        std::cerr << "removing what an interrupted clone left in \"" << options.directory << "\"\n";
        target.remove_leftovers();
    }
    NewServer server(options, open_source(options, version));
    check_tablespaces(server.source, options, target);
    if (const std::string there = rejoin::existing_part_of(options.directory); ::access(there.c_str(), W_OK | X_OK) != 0)
        throw Failure("directory \"" + options.directory + "\" cannot be made: \"" + there + "\" is not writable",
                      "Run pg_hactl as the server's user.");
    check_space(server.source, options);
    check_room_on_source(server.source);
    check_new_server(server);
    if (options.check_only) {
        std::cout << "nothing stands in the way of this clone\n";
        return exit_done;
    }
    make_copy(server, target, options);
    tell_what_is_next(server);
    return exit_done;
}

} // namespace pg_ha::cli
