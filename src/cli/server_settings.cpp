// SPDX-License-Identifier: PostgreSQL
#include "server_settings.hpp"

#include "failure.hpp"
#include "net/addresses.hpp"
#include "rejoin/files.hpp"
#include "rejoin/process.hpp"

#include <algorithm>
#include <cstdlib>
#include <regex>
#include <set>
#include <sstream>

namespace pg_ha::cli {

namespace {

const std::set<std::string> managed_by_pg_ha = {"primary_conninfo", "primary_slot_name"};

std::string lower(std::string text) {
    for (char &c : text)
        c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    return text;
}

std::string name_in(const std::string &line) {
    const std::size_t begin = line.find_first_not_of(" \t");
    if (begin == std::string::npos || line[begin] == '#')
        return "";
    return lower(line.substr(begin, line.find_first_of(" \t=", begin) - begin));
}

std::string quoted(const std::string &value) {
    std::string text = "'";
    for (const char c : value) {
        if (c == '\'' || c == '\\')
            text += c;
        text += c;
    }
    return text + "'";
}

std::string to_string(const Endpoint &endpoint) {
    const bool bare_ipv6 = endpoint.host.find(':') != std::string::npos;
    return (bare_ipv6 ? "[" + endpoint.host + "]" : endpoint.host) + ":" + std::to_string(endpoint.port);
}

bool loopback(const std::string &host) { return host == "localhost" || host == "::1" || host.starts_with("127."); }

bool name_fits(const std::string &name) {
    return !name.empty() && name.size() <= 63 && name[0] != '_' && name[0] != '-' &&
           name.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789_-") == std::string::npos;
}

std::uint16_t port_of(const std::optional<std::string> &text, std::uint16_t otherwise) {
    return text ? static_cast<std::uint16_t>(std::strtoul(text->c_str(), nullptr, 10)) : otherwise;
}

} // namespace

std::string edit_settings(const std::string &text, const std::map<std::string, std::string> &set) {
    std::set<std::string> replaced = managed_by_pg_ha;
    for (const auto &[name, value] : set)
        replaced.insert(lower(name));
    std::string result;
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);)
        if (!replaced.contains(name_in(line)))
            result += line + "\n";
    for (const auto &[name, value] : set)
        result += name + " = " + quoted(value) + "\n";
    return result;
}

void check_identity(const NewNode &node, const std::vector<MemberInfo> &members) {
    if (node.name.empty())
        throw Failure("the new server has no name", "Give it one with --node-name.");
    if (!name_fits(node.name))
        throw Failure("\"" + node.name + "\" is no name for a server",
                      "Use 1 to 63 of a-z, 0-9, _ and -, starting with a letter or digit.");
    bool all_local = true;
    for (const MemberInfo &member : members) {
        all_local = all_local && loopback(member.peer.host);
        if (member.gone)
            continue;
        if (member.name == node.name)
            throw Failure("the cluster has a member \"" + node.name + "\" already, at " + to_string(member.peer),
                          "Choose another --node-name, or stop that server if this one shall take its place.");
        if (member.peer == node.peer)
            throw Failure("the new server would tell the others to reach it at " + to_string(node.peer) +
                              ", where member \"" + member.name + "\" is",
                          "Set --advertise-address to this host, or --peer-port if both are on one.");
        if (member.data && member.postgres == node.postgres)
            throw Failure("the new server would listen at " + to_string(node.postgres) + ", where member \"" +
                              member.name + "\" is",
                          "Set --advertise-address to this host, or --port if both are on one.");
    }
    if (loopback(node.peer.host) && !all_local)
        throw Failure("the new server would tell the others to reach it at \"" + node.peer.host + "\"",
                      "Set --advertise-address to a name or an address of this host that the others can reach.");
}

std::optional<std::string> peers_to_write(const std::string &present, const NewNode &node,
                                          const std::vector<MemberInfo> &members) {
    std::vector<Endpoint> wanted;
    for (const MemberInfo &member : members)
        if (member.name != node.name)
            wanted.push_back(member.peer);
    wanted.push_back(node.peer);
    std::vector<Endpoint> peers = parse_peers(present, 7432).value_or(std::vector<Endpoint>{});
    const std::size_t before = peers.size();
    for (const Endpoint &endpoint : wanted)
        if (std::find(peers.begin(), peers.end(), endpoint) == peers.end())
            peers.push_back(endpoint);
    if (peers.size() == before)
        return std::nullopt;
    std::string list;
    for (const Endpoint &endpoint : peers)
        list += (list.empty() ? "" : ", ") + to_string(endpoint);
    return list;
}

std::string debian_config_file(const std::string &data_directory) {
    std::smatch parts;
    if (!std::regex_match(data_directory, parts, std::regex("/var/lib/postgresql/([0-9]+)/([^/]+)")))
        return "";
    const std::string file = "/etc/postgresql/" + parts[1].str() + "/" + parts[2].str() + "/postgresql.conf";
    return rejoin::exists(file) ? file : "";
}

std::string program_directory() {
    const std::string self = rejoin::link_target("/proc/self/exe");
    return self.substr(0, self.rfind('/'));
}

std::string start_command(const std::string &data_directory, const std::string &config_file) {
    std::smatch parts;
    if (std::regex_match(config_file, parts, std::regex("/etc/postgresql/([0-9]+)/([^/]+)/postgresql\\.conf")))
        return "systemctl start postgresql@" + parts[1].str() + "-" + parts[2].str();
    const std::string command = program_directory() + "/pg_ctl -D '" + data_directory + "' -l '" + data_directory + ".log'";
    return command + (config_file.empty() ? "" : " -o '-c config_file=" + config_file + "'") + " start";
}

std::optional<std::string> read_setting(const std::string &config_file, const std::string &name) {
    const std::string directory = config_file.substr(0, config_file.rfind('/'));
    // Before the clone is made it would log that there is no postgresql.auto.conf.
    const rejoin::Ran ran = rejoin::run({program_directory() + "/postgres", "-C", name, "-D", directory, "-c",
                                         "config_file=" + config_file, "-c", "log_min_messages=fatal"},
                                        rejoin::Echo::off);
    if (ran.status != 0) {
        if (ran.output.find("unrecognized configuration parameter \"" + name + "\"") != std::string::npos)
            return std::nullopt;
        throw Failure("could not read configuration file \"" + config_file + "\": " + rejoin::last_lines(ran.output));
    }
    std::string value = ran.output;
    value.erase(value.find_last_not_of('\n') + 1);
    return value;
}

NewSettings::NewSettings(const CloneOptions &options, Session &source)
    : options_(options),
      config_file_(options.config_file.empty() ? debian_config_file(options.directory) : options.config_file),
      source_(source) {
    if (!config_file_.empty() && !rejoin::exists(config_file_))
        throw Failure("configuration file \"" + config_file_ + "\" does not exist");
    const std::string inside = options.directory + "/postgresql.conf";
    if (!options.restored && config_file_ == inside)
        config_file_.clear(); // the copy brings it along
    if (options.restored && config_file_.empty() && rejoin::exists(inside))
        config_file_ = inside;
}

std::optional<std::string> NewSettings::get(const std::string &name) {
    if (const auto given = options_.settings.find(name); given != options_.settings.end())
        return given->second;
    if (!config_file_.empty())
        return read_setting(config_file_, name);
    const auto answer = source_.try_ask("SELECT pg_catalog.current_setting($1, true) AS value", {name});
    return answer ? answer->get(0, "value") : std::nullopt;
}

std::map<std::string, std::string> NewSettings::to_write() {
    std::map<std::string, std::string> wanted = options_.settings;
    if (!from_source())
        std::erase_if(wanted, [this](const auto &setting) { return read_setting(config_file_, setting.first) == setting.second; });
    return wanted;
}

// As the server does it (src/server/identity.cpp).
NewNode NewSettings::node() {
    std::string host = get("pg_ha.advertise_address").value_or("");
    if (host.empty()) {
        const std::vector<std::string> addresses = split_list(get("pg_ha.listen_addresses").value_or("localhost"));
        const bool nameless = addresses.empty() || addresses[0] == "*" || addresses[0] == "0.0.0.0" || addresses[0] == "::";
        host = nameless ? "localhost" : addresses[0];
    }
    // The copied configuration has the source's name, which is never the new server's.
    const bool named = !from_source() || options_.settings.contains("pg_ha.node_name");
    return {named ? get("pg_ha.node_name").value_or("") : "",
            {host, port_of(get("pg_ha.port"), 7432)},
            {host, port_of(get("port"), 5432)}};
}

void NewSettings::check(Session &source) {
    // The source has loaded it, or it would not be one; its setting is not for every role to see.
    const std::vector<std::string> libraries =
        from_source() ? std::vector<std::string>{"pg_ha"} : split_list(get("shared_preload_libraries").value_or(""));
    if (std::find(libraries.begin(), libraries.end(), "pg_ha") == libraries.end())
        throw Failure("the new server's configuration does not load pg_ha",
                      "Set shared_preload_libraries = 'pg_ha' in \"" + config_file_ + "\".");
    if (!from_source()) {
        const std::string place = get("data_directory").value_or("");
        if (!place.empty() && place != options_.directory && place != config_file_.substr(0, config_file_.rfind('/')))
            throw Failure("\"" + config_file_ + "\" belongs to data directory \"" + place + "\", not \"" +
                          options_.directory + "\"");
    }
    if (get("wal_level") == "minimal")
        throw Failure("wal_level of the new server is minimal", "Set it to replica.");
    if (get("hot_standby") == "off")
        throw Failure("hot_standby of the new server is off", "Set it to on.");
    for (const char *name : {"max_connections", "max_worker_processes", "max_wal_senders", "max_prepared_transactions",
                             "max_locks_per_transaction"}) {
        const std::string theirs = source.value("SELECT pg_catalog.current_setting($1)", {name});
        const std::string own = get(name).value_or(theirs);
        if (std::atoll(own.c_str()) < std::atoll(theirs.c_str()))
            throw Failure(std::string(name) + " of the new server is " + own + " and of " + source.server() + " " + theirs,
                          "A standby must not have less than its primary: raise it.");
    }
}

} // namespace pg_ha::cli
