// SPDX-License-Identifier: PostgreSQL
#include "new_server.hpp"

#include "agent/rejoin_journal.hpp"
#include "agent/state_file.hpp"
#include "failure.hpp"
#include "rejoin/files.hpp"
#include "rejoin/process.hpp"

#include <cstdio>
#include <fstream>
#include <iostream>
#include <sstream>

namespace pg_ha::cli {

namespace {

std::string state_directory_of(NewServer &server) {
    const std::string set = server.settings.get("pg_ha.state_directory").value_or("");
    return set.empty() ? server.options.directory + ".pg_ha" : set;
}

// A state directory that another server left may stay: pg_ha sees that it is not this one's and gives the
// clone a new identity.  But not under another name, and not with a rejoin that waits to be finished.
void check_state_directory(const std::string &directory, const std::string &name) {
    if (!rejoin::exists(directory))
        return;
    const std::string hint = "Remove it if that server is gone for good, or set -c pg_ha.state_directory=... for the new one.";
    if (rejoin_unfinished(read_rejoin_journal(directory).phase))
        throw Failure("state directory \"" + directory + "\" belongs to a server in the middle of a rejoin", hint);
    const StateView view = read_state(directory);
    if (view.condition == StateCondition::valid && view.state.node_name != name)
        throw Failure("state directory \"" + directory + "\" belongs to node \"" + view.state.node_name + "\"", hint);
}

std::string read_text(const std::string &path) {
    std::ifstream in(path);
    std::stringstream text;
    text << in.rdbuf();
    return text.str();
}

// It is complete by now, so what is wrong is only said.
void check_secret(const std::string &directory, const std::string &config) {
    try {
        const std::string set = read_setting(config, "pg_ha.secret_file").value_or("");
        const std::string secret = set.empty() ? directory + "/pg_ha.secret" : set;
        if (!rejoin::exists(secret))
            std::cerr << "WARNING:  the cluster's secret is not in \"" << secret << "\"\n"
                      << "HINT:  Copy it from a member's pg_ha.secret_file, mode 0600, before the start; without it the "
                         "server does not join.\n";
    } catch (const Failure &failure) {
        std::cerr << "WARNING:  " << failure.what() << "\n";
    }
}

} // namespace

int local_version() {
    const std::string program = program_directory() + "/postgres";
    int major = 0, minor = 0;
    if (rejoin::exists(program)) {
        const rejoin::Ran ran = rejoin::run({program, "--version"}, rejoin::Echo::off);
        if (std::sscanf(ran.output.c_str(), "postgres (PostgreSQL) %d.%d", &major, &minor) >= 1)
            return major * 10000 + minor;
    }
    throw Failure("PostgreSQL's programs are not in \"" + program_directory() + "\"",
                  "pg_hactl clone uses those beside it: install PostgreSQL and pg_ha on this host.");
}

void check_new_server(NewServer &server) {
    const NewNode node = server.settings.node();
    check_identity(node, server.source.members);
    server.settings.check(*server.source.session);
    check_state_directory(state_directory_of(server), node.name);
    if (const auto conninfo = server.settings.get("pg_ha.replication_conninfo"))
        for (const std::string &warning : check_streaming(server.source, *conninfo))
            std::cerr << "WARNING:  " << warning << "\n";
    else
        std::cerr << "WARNING:  the role may not see pg_ha.replication_conninfo, so it was not tried from here\n";
    server.to_write = server.settings.to_write();
    if (!server.options.settings.contains("pg_ha.peers"))
        if (const auto peers = peers_to_write(server.settings.get("pg_ha.peers").value_or(""), node, server.source.members))
            server.to_write["pg_ha.peers"] = *peers;
}

void write_settings(const std::string &directory, const NewServer &server) {
    const std::string file = directory + "/postgresql.auto.conf";
    rejoin::write_file(file, edit_settings(rejoin::exists(file) ? read_text(file) : "", server.to_write));
    rejoin::write_file(directory + "/standby.signal", "");
    rejoin::remove_tree(directory + "/recovery.signal");
}

void tell_what_is_next(NewServer &server) {
    const std::string directory = server.options.directory;
    const std::string config = server.settings.from_source() ? directory + "/postgresql.conf" : server.settings.config_file();
    const bool outside = !config.starts_with(directory + "/");
    if (!rejoin::exists(config)) {
        std::cerr << "WARNING:  the source keeps its configuration outside its data directory, and there is none here\n"
                     "HINT:  Make a configuration file for the new server and name it when starting it.\n";
    } else {
        check_secret(directory, config);
    }
    std::cout << "\"" << directory << "\" is ready to join as \"" << server.settings.node().name << "\". Start it with:\n    "
              << start_command(directory, outside ? config : "") << "\n";
}

} // namespace pg_ha::cli
