// SPDX-License-Identifier: PostgreSQL
//
// pg_hactl: the cluster from the command line.  Every subcommand is short-lived and talks libpq; nothing
// here decides anything about the cluster.
//
// Exit status: 0 done (status: healthy), 1 failed (status: degraded), 2 no primary, 3 no server could be
// asked, 4 wrong command line.
#include "command_line.hpp"

#include "rejoin/process.hpp"

#include <cstdlib>
#include <iostream>

namespace {

using namespace pg_ha::cli;

int run(const Command &command) {
    if (const auto *help = std::get_if<HelpText>(&command)) {
        std::cout << help->text;
        return exit_done;
    }
    pg_ha::rejoin::listen_for_stop();
    if (const auto *clone = std::get_if<CloneOptions>(&command))
        return run_clone(*clone);
    if (const auto *diverged = std::get_if<DivergedOptions>(&command))
        return run_diverged(*diverged);
    if (const auto *order = std::get_if<OrderOptions>(&command))
        return run_order(*order);
    const auto &status = std::get<StatusCommand>(command);
    return status.mode == StatusMode::watch ? run_watch(status.options) : run_status(status.options);
}

} // namespace

int main(int argc, char **argv) {
    ::setenv("LC_ALL", "C", 1); // the texts of the programs that we run are read
    try {
        return run(parse_command_line({argv + 1, argv + argc}));
    } catch (const Failure &failure) {
        std::cerr << "pg_hactl: error: " << failure.what() << "\n";
        if (!failure.hint().empty())
            std::cerr << "HINT:  " << failure.hint() << "\n";
        return failure.status();
    } catch (const pg_ha::rejoin::Stopped &) {
        std::cerr << "pg_hactl: error: interrupted\n";
        return exit_failed;
    } catch (const std::exception &error) {
        std::cerr << "pg_hactl: error: " << error.what() << "\n";
        return exit_failed;
    }
}
