// SPDX-License-Identifier: PostgreSQL
//
// Boost.Program_options takes the lines apart; the keys are ours, because sections are named by the
// operator.
#include "settings_file.hpp"

#include "net/addresses.hpp"

#include <boost/program_options/errors.hpp>
#include <boost/program_options/options_description.hpp>
#include <boost/program_options/parsers.hpp>

#include <algorithm>
#include <charconv>
#include <fstream>
#include <functional>
#include <map>
#include <set>

namespace pg_ha {

namespace options = boost::program_options;

namespace {

constexpr std::uint16_t default_port = 7432;

template <class Number> bool parse_number(const std::string &text, Number &out, std::string &rest) {
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
    const std::size_t used = static_cast<std::size_t>(end - text.data());
    const std::size_t unit = text.find_first_not_of(' ', used);
    rest = unit == std::string::npos ? "" : text.substr(unit);
    return error == std::errc{} && used > 0;
}

// As in postgresql.conf: a number without a unit is in milliseconds.
bool parse_duration(const std::string &text, Duration &out) {
    static const std::map<std::string, Duration> units{{"", std::chrono::milliseconds(1)},
                                                       {"ms", std::chrono::milliseconds(1)},
                                                       {"s", std::chrono::seconds(1)},
                                                       {"min", std::chrono::minutes(1)}};
    std::uint32_t number = 0;
    std::string unit;
    if (!parse_number(text, number, unit) || !units.contains(unit) || number > 1'000'000)
        return false;
    out = units.at(unit) * number;
    return true;
}

bool parse_port(const std::string &text, std::uint16_t &out) {
    std::string rest;
    return parse_number(text, out, rest) && rest.empty() && out != 0;
}

bool parse_switch(const std::string &text, bool &out) {
    out = text == "on";
    return out || text == "off";
}

struct Key {
    std::function<bool(WitnessSettings &, const std::string &)> take;
    const char *form; // what a good value looks like
};

const std::map<std::string, Key> &keys() {
    using S = WitnessSettings;
    static const std::map<std::string, Key> all{
        {"node_name", {[](S &s, const std::string &v) { return valid_node_name(s.node_name = v); },
                       "1 to 63 of a-z, 0-9, _ and -, starting with a letter or digit"}},
        {"listen_addresses", {[](S &s, const std::string &v) { return !(s.listen_addresses = split_list(v)).empty(); },
                              "numeric addresses with commas between, \"localhost\" or \"*\""}},
        {"port", {[](S &s, const std::string &v) { return parse_port(v, s.port); }, "a number from 1 to 65535"}},
        {"advertise_address", {[](S &s, const std::string &v) {
                                   s.advertise_address = v;
                                   const bool port = std::count(v.begin(), v.end(), ':') == 1; // IPv6 has more
                                   return !port && parse_peers("[" + v + "]", default_port).has_value();
                               },
                               "one host name or address, without a port"}},
        {"peers", {[](S &s, const std::string &v) {
                       const auto peers = parse_peers(v, default_port);
                       s.peers = peers.value_or(std::vector<Endpoint>{});
                       return !s.peers.empty();
                   },
                   "host:port of some or all servers, with commas between"}},
        {"state_directory", {[](S &s, const std::string &v) { return (s.state_directory = v).starts_with('/'); },
                             "an absolute path"}},
        {"secret_file", {[](S &s, const std::string &v) { return (s.secret_file = v).starts_with('/'); },
                         "an absolute path"}},
        {"heartbeat_interval", {[](S &s, const std::string &v) { return parse_duration(v, s.heartbeat_interval); },
                                "a time such as 200ms"}},
        {"lease_duration", {[](S &s, const std::string &v) { return parse_duration(v, s.lease_duration); },
                            "a time such as 2s"}},
        {"trace", {[](S &s, const std::string &v) { return parse_switch(v, s.trace); }, "on or off"}},
    };
    return all;
}

std::string known_keys() {
    std::string text;
    for (const auto &[name, key] : keys())
        text += (text.empty() ? "" : ", ") + name;
    return text;
}

class Reader {
public:
    std::vector<WitnessSettings> read(std::istream &in) {
        for (const auto &[name, value] : lines(in))
            take(name, value);
        std::vector<WitnessSettings> all;
        if (clusters_.empty())
            clusters_.emplace("", common_);
        for (auto &[section, settings] : clusters_) {
            settings.section = section;
            complete(settings);
            all.push_back(settings);
        }
        require_distinct(all);
        if (!problems_.empty())
            throw SettingsError(problems_);
        return all;
    }

private:
    using Lines = std::vector<std::pair<std::string, std::string>>;

    static Lines lines(std::istream &in) {
        Lines found;
        try {
            const auto parsed = options::parse_config_file(in, options::options_description(), true);
            for (const auto &option : parsed.options)
                found.emplace_back(option.string_key, option.value.empty() ? "" : option.value.front());
        } catch (const options::error &error) {
            throw SettingsError(std::string(error.what()) + "\nHINT: Each line is \"key = value\", \"[section]\" or a comment.");
        }
        return found;
    }

    void problem(const std::string &section, const std::string &what, const std::string &hint) {
        const std::string where = section.empty() ? "" : " in section [" + section + "]";
        problems_ += (problems_.empty() ? "" : "\n") + what + where + "\nHINT: " + hint;
    }

    void take(const std::string &name, const std::string &value) {
        const std::size_t dot = name.rfind('.');
        const std::string section = dot == std::string::npos ? "" : name.substr(0, dot);
        const std::string key = dot == std::string::npos ? name : name.substr(dot + 1);
        if (!section.empty() && !valid_node_name(section))
            return problem(section, "unusable section name", "Use 1 to 63 of a-z, 0-9, _ and -.");
        const auto known = keys().find(key);
        if (known == keys().end())
            return problem(section, "unknown key \"" + key + "\"", "There are: " + known_keys() + ".");
        if (!seen_.insert(name).second)
            return problem(section, "key \"" + key + "\" is given twice", "Keep one of the lines.");
        WitnessSettings &settings = section.empty() ? common_ : clusters_.try_emplace(section, common_).first->second;
        if (!known->second.take(settings, value))
            problem(section, "value \"" + value + "\" of \"" + key + "\" is not usable",
                    std::string("It must be ") + known->second.form + ".");
    }

    // What is missing, and what does not go together.
    void complete(WitnessSettings &settings) {
        const std::string &section = settings.section;
        const auto require = [&](const std::string &key, bool present, const std::string &hint) {
            if (!present && !seen_.contains(key) && !seen_.contains(section + "." + key))
                problem(section, "key \"" + key + "\" is missing", hint);
        };
        require("node_name", !settings.node_name.empty(), "Set node_name to a name that no other member has.");
        require("peers", !settings.peers.empty(), "Set peers to host:port of the servers (their pg_ha.port).");
        require("state_directory", !settings.state_directory.empty(),
                "Set state_directory to a directory that only this cluster's witness uses.");
        require("secret_file", !settings.secret_file.empty(),
                "Copy pg_ha.secret from the data directory of a server, with mode 0600, and set secret_file to it.");
        const std::string first = settings.listen_addresses.empty() ? "" : settings.listen_addresses.front();
        const bool wildcard = first == "*" || first == "0.0.0.0" || first == "::";
        if (settings.advertise_address.empty() && !wildcard)
            settings.advertise_address = first;
        require("advertise_address", !settings.advertise_address.empty(),
                "Set advertise_address to the address at which the servers reach this host.");
        if (valid_node_name(settings.node_name)) // otherwise it has been said
            for (const SettingError &error : validate(core_settings(settings, no_cluster)))
                problem(section, error.message, error.hint);
    }

    void require_distinct(const std::vector<WitnessSettings> &all) {
        std::set<std::string> directories, ports;
        for (const WitnessSettings &settings : all) {
            if (!settings.state_directory.empty() && !directories.insert(settings.state_directory).second)
                problem(settings.section, "state_directory \"" + settings.state_directory + "\" is used twice",
                        "Give each cluster a state directory of its own.");
            if (!ports.insert(std::to_string(settings.port)).second)
                problem(settings.section, "port " + std::to_string(settings.port) + " is used twice",
                        "Give each cluster a port of its own.");
        }
    }

    WitnessSettings common_;
    std::map<std::string, WitnessSettings> clusters_;
    std::set<std::string> seen_;
    std::string problems_;
};

} // namespace

std::vector<WitnessSettings> parse_settings(std::istream &in) { return Reader().read(in); }

std::vector<WitnessSettings> read_settings(const std::string &path) {
    std::ifstream in(path);
    if (!in || in.peek() == std::ifstream::traits_type::eof())
        throw SettingsError("could not read configuration file \"" + path +
                            "\", or it is empty\nHINT: Name the file with --config, and look at its permissions.");
    return parse_settings(in);
}

Settings core_settings(const WitnessSettings &settings, ClusterId cluster) {
    Settings core;
    core.cluster = cluster;
    core.node_name = settings.node_name;
    core.peer = {settings.advertise_address, settings.port};
    core.kind = MemberKind::witness;
    core.heartbeat_interval = settings.heartbeat_interval;
    core.lease_duration = settings.lease_duration;
    core.priority = 0;
    core.tracing = settings.trace;
    return core;
}

std::vector<std::string> take_reloadable(WitnessSettings &settings, const WitnessSettings &fresh) {
    settings.peers = fresh.peers;
    settings.advertise_address = fresh.advertise_address;
    settings.heartbeat_interval = fresh.heartbeat_interval;
    settings.lease_duration = fresh.lease_duration;
    settings.trace = fresh.trace;
    std::vector<std::string> fixed;
    const auto compare = [&fixed](const char *name, bool same) {
        if (!same)
            fixed.emplace_back(name);
    };
    compare("node_name", settings.node_name == fresh.node_name);
    compare("listen_addresses", settings.listen_addresses == fresh.listen_addresses);
    compare("port", settings.port == fresh.port);
    compare("state_directory", settings.state_directory == fresh.state_directory);
    compare("secret_file", settings.secret_file == fresh.secret_file);
    return fixed;
}

} // namespace pg_ha
