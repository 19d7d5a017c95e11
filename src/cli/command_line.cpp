// SPDX-License-Identifier: PostgreSQL
#include "command_line.hpp"

#include "net/addresses.hpp"

#include <boost/program_options/options_description.hpp>
#include <boost/program_options/parsers.hpp>
#include <boost/program_options/positional_options.hpp>
#include <boost/program_options/value_semantic.hpp>
#include <boost/program_options/variables_map.hpp>

#include <climits>
#include <cstdlib>
#include <sstream>

namespace pg_ha::cli {

namespace options = boost::program_options;

namespace {

constexpr const char *overview = R"(pg_hactl looks after clusters of pg_ha.

Usage:
  pg_hactl status     [-d CONNINFO] [--json]
  pg_hactl watch      [-d CONNINFO] [--interval SECONDS] [--json]
  pg_hactl switchover [-d CONNINFO] [--to NAME]
  pg_hactl pause      [-d CONNINFO]
  pg_hactl resume     [-d CONNINFO]
  pg_hactl remove     [-d CONNINFO] NAME
  pg_hactl clone      -D DIRECTORY --from CONNINFO --node-name NAME [OPTION]...
  pg_hactl diverged   list|show [NAME] [OPTION]...

"pg_hactl SUBCOMMAND --help" tells more.

Exit status: 0 done (status: healthy), 1 failed (status: degraded), 2 no primary,
3 no server could be asked, 4 wrong command line.
)";

[[noreturn]] void misuse(const std::string &text, const std::string &subcommand) {
    throw Failure(text, "Try \"pg_hactl" + (subcommand.empty() ? "" : " " + subcommand) + " --help\".", exit_misused);
}

options::variables_map parse(const std::vector<std::string> &arguments, const options::options_description &known,
                             const options::positional_options_description &positional, const std::string &subcommand) {
    options::variables_map given;
    try {
        // No guessing: an abbreviated option means something else once a new one begins alike.
        const int style = options::command_line_style::unix_style & ~options::command_line_style::allow_guessing;
        options::store(options::command_line_parser(arguments).options(known).positional(positional).style(style).run(),
                       given);
        options::notify(given);
    } catch (const options::error &error) {
        misuse(error.what(), subcommand);
    }
    return given;
}

std::string help(const std::string &usage, const options::options_description &known) {
    std::ostringstream text;
    text << usage << "\n" << known;
    return text.str();
}

std::pair<std::string, std::string> split_pair(const std::string &text, const std::string &option) {
    const std::size_t equals = text.find('=');
    if (equals == 0 || equals == std::string::npos || equals + 1 == text.size())
        misuse("invalid argument for option " + option + ": \"" + text + "\"", "clone");
    return {text.substr(0, equals), text.substr(equals + 1)};
}

std::string absolute(const std::string &path) {
    std::string whole = path;
    if (!whole.starts_with('/')) {
        char here[PATH_MAX];
        if (!::realpath(".", here))
            throw Failure("could not find out the current directory");
        whole = std::string(here) + "/" + whole;
    }
    while (whole.size() > 1 && whole.ends_with('/'))
        whole.pop_back();
    return whole;
}

Command parse_status(const std::vector<std::string> &arguments, StatusMode mode) {
    const bool watch = mode == StatusMode::watch;
    const std::string name = watch ? "watch" : "status";
    StatusCommand command;
    command.mode = mode;
    std::string conninfo;
    options::options_description known("Options");
    known.add_options()("dbname,d", options::value(&conninfo)->value_name("CONNINFO"),
                        "any members, e.g. \"host=db1,db2,db3 user=postgres\"; the environment's by default")(
        "json", options::bool_switch(&command.options.json), "one JSON object, with all columns of ha_cluster and ha_members");
    if (watch)
        known.add_options()("interval,n", options::value(&command.options.interval)->value_name("SECONDS"),
                            "between two looks (default: 2)")(
            "count", options::value(&command.options.count)->value_name("N"), "end after so many looks");
    known.add_options()("help", "show this text");
    const auto given = parse(arguments, known, {}, name);
    if (given.contains("help"))
        return HelpText{help("pg_hactl " + name + " shows the cluster as its members see it" +
                                 (watch ? ", again and again" : "") + ".\n\nUsage: pg_hactl " + name + " [OPTION]...\n", known) +
                        "\nExit status: 0 healthy, 1 degraded, 2 no primary, 3 no member could be asked, 4 wrong command line.\n"};
    if (!(command.options.interval >= 0.1 && command.options.interval <= 86400))
        misuse("the interval must be between 0.1 and 86400 seconds", name);
    command.options.conninfo = Conninfo(conninfo);
    return command;
}

struct OrderWords {
    const char *name, *usage, *text;
    Order order;
};
constexpr OrderWords orders[] = {
    {"switchover", "[--to NAME]",
     "pg_hactl switchover makes a standby the primary, by default the one with the highest priority and the most WAL.\n"
     "Nothing is lost; the old primary becomes a standby, and its sessions end.  Waits until the new one accepts writes.",
     Order::switchover},
    {"pause", "",
     "pg_hactl pause: no automatic failover from now on, until \"pg_hactl resume\".  The primary goes on.", Order::pause},
    {"resume", "", "pg_hactl resume ends what \"pg_hactl pause\" began.", Order::resume},
    {"remove", "NAME",
     "pg_hactl remove: the cluster forgets a member that is gone for good.  Refused while it is heard: stop it first.",
     Order::remove},
};

Command parse_order(const std::vector<std::string> &arguments, const OrderWords &words) {
    OrderOptions order;
    order.order = words.order;
    std::string conninfo;
    options::options_description known("Options");
    known.add_options()("dbname,d", options::value(&conninfo)->value_name("CONNINFO"),
                        "any members, e.g. \"host=db1,db2,db3 user=postgres\"; the primary is found through them");
    if (words.order == Order::switchover)
        known.add_options()("to", options::value(&order.name)->value_name("NAME"), "hand over to this member");
    known.add_options()("help", "show this text");
    options::options_description all;
    options::positional_options_description positional;
    all.add(known);
    if (words.order == Order::remove) {
        all.add_options()("name", options::value(&order.name));
        positional.add("name", 1);
    }
    const auto given = parse(arguments, all, positional, words.name);
    if (given.contains("help"))
        return HelpText{help(std::string(words.text) + "\nThe role must be a superuser, or one that may execute the function behind it.\n\n" +
                                 "Usage: pg_hactl " + words.name + " [-d CONNINFO] " + words.usage + "\n", known) +
                        "\nExit status: 0 done, 1 refused or failed, 2 there is no primary, 3 no server could be asked,\n"
                        "4 wrong command line.\n"};
    if (words.order == Order::remove && order.name.empty())
        misuse("no member was named", words.name);
    if (given.contains("to") && order.name.empty())
        misuse("the name of the member is empty", words.name);
    order.conninfo = Conninfo(conninfo);
    return order;
}

options::options_description clone_options(CloneOptions &clone, std::string &from) {
    options::options_description known("Options");
    const auto setting = [&clone](const char *name) {
        return options::value<std::string>()->notifier([&clone, name](const std::string &value) { clone.settings[name] = value; });
    };
    known.add_options()("pgdata,D", options::value(&clone.directory)->value_name("DIRECTORY"),
                        "data directory of the new server: missing or empty (required)")(
        "from", options::value(&from)->value_name("CONNINFO"), "any member, with a role that may replicate (required)")(
        "source", options::value(&clone.source)->value_name("NAME"), "copy from this member, e.g. a standby to spare the primary")(
        "node-name", setting("pg_ha.node_name")->value_name("NAME"), "pg_ha.node_name of the new server")(
        "advertise-address", setting("pg_ha.advertise_address")->value_name("HOST"), "how the others reach it")(
        "port", setting("port")->value_name("PORT"), "its PostgreSQL port")(
        "peer-port", setting("pg_ha.port")->value_name("PORT"), "its pg_ha.port")(
        "setting,c", options::value<std::vector<std::string>>()->value_name("NAME=VALUE")->composing(), "any other setting; repeatable")(
        "config-file", options::value(&clone.config_file)->value_name("FILE"),
        "its postgresql.conf, if that lies outside the data directory (Debian's is found by itself)")(
        "tablespace-mapping,T", options::value<std::vector<std::string>>()->value_name("OLD=NEW")->composing(),
        "where a tablespace goes; repeatable")(
        "rate", options::value(&clone.rate)->value_name("RATE"), "limit, in kB/s or with a suffix k or M")(
        "restored", options::bool_switch(&clone.restored), "the directory was restored from a backup: check and adopt it, copy nothing")(
        "check", options::bool_switch(&clone.check_only), "only check, write nothing")(
        "no-sync", options::bool_switch(&clone.no_sync), "do not wait until the copy is on disk (tests only)")("help", "show this text");
    return known;
}

void fill_clone(CloneOptions &clone, const options::variables_map &given, const std::string &from) {
    if (clone.directory.empty())
        misuse("no data directory was given (-D)", "clone");
    if (from.empty())
        misuse("no member was given to clone from (--from)", "clone");
    clone.directory = absolute(clone.directory);
    clone.from = Conninfo(from);
    if (!clone.config_file.empty())
        clone.config_file = absolute(clone.config_file);
    if (given.contains("setting"))
        for (const std::string &text : given["setting"].as<std::vector<std::string>>()) {
            const auto [name, value] = split_pair(text, "-c");
            if (!clone.settings.emplace(name, value).second)
                misuse("setting \"" + name + "\" was given twice", "clone");
        }
    if (given.contains("tablespace-mapping"))
        for (const std::string &text : given["tablespace-mapping"].as<std::vector<std::string>>()) {
            const auto [old_place, new_place] = split_pair(text, "-T");
            if (!old_place.starts_with('/') || !new_place.starts_with('/'))
                misuse("tablespace mapping \"" + text + "\" needs two absolute paths", "clone");
            if (!clone.mapping.emplace(old_place, absolute(new_place)).second)
                misuse("tablespace \"" + old_place + "\" was mapped twice", "clone");
        }
    for (const char *name : {"port", "pg_ha.port"})
        if (clone.settings.contains(name) && !parse_peers("x:" + clone.settings[name], 0))
            misuse("invalid port number: \"" + clone.settings[name] + "\"", "clone");
    if (clone.restored && (!clone.source.empty() || !clone.rate.empty() || !clone.mapping.empty()))
        misuse("--restored copies nothing, so --source, --rate and --tablespace-mapping have no meaning with it", "clone");
}

Command parse_clone(const std::vector<std::string> &arguments) {
    CloneOptions clone;
    std::string from;
    const options::options_description known = clone_options(clone, from);
    const auto given = parse(arguments, known, {}, "clone");
    if (given.contains("help"))
        return HelpText{help("pg_hactl clone makes a new standby of a running cluster; run it as the server's user.\n"
                             "Everything is checked before anything is written.  After an interruption run it again:\n"
                             "it removes what it left unfinished and begins anew.\n\n"
                             "Usage: pg_hactl clone -D DIRECTORY --from CONNINFO --node-name NAME [OPTION]...\n", known) +
                        "\nExit status: 0 done, 1 failed or interrupted, 3 a server could not be asked, 4 wrong command line.\n"};
    fill_clone(clone, given, from);
    return clone;
}

Command parse_diverged(const std::vector<std::string> &arguments) {
    DivergedOptions diverged;
    std::string what, conninfo;
    options::options_description known("Options");
    known.add_options()("pgdata,D", options::value(&diverged.data_directory)->value_name("DIRECTORY"),
                        "data directory of the server; its state directory is the same name with .pg_ha")(
        "state-directory", options::value(&diverged.state_directory)->value_name("DIRECTORY"), "if pg_ha.state_directory is set")(
        "dbname,d", options::value(&conninfo)->value_name("CONNINFO"), "a server to ask for the names of tables")(
        "records", options::bool_switch(&diverged.records), "every record, as pg_waldump prints it")(
        "json", options::bool_switch(&diverged.json), "for programs")("help", "show this text");
    options::options_description all;
    all.add(known).add_options()("what", options::value(&what))("name", options::value(&diverged.name));
    const auto given = parse(arguments, all, options::positional_options_description().add("what", 1).add("name", 1), "diverged");
    if (given.contains("help"))
        return HelpText{help("pg_hactl diverged shows WAL that a server had and its cluster has not: it was set aside\n"
                             "when the server was rewound or cloned anew.  Run it on that server, as the server's user.\n\n"
                             "Usage: pg_hactl diverged list (-D DIRECTORY | --state-directory DIRECTORY) [OPTION]...\n"
                             "       pg_hactl diverged show [NAME] (-D DIRECTORY | --state-directory DIRECTORY) [OPTION]...\n\n"
                             "show: NAME as in list; the newest if there is none.\n", known) +
                        "\nExit status: 0 done, 1 failed, 3 a server could not be asked, 4 wrong command line.\n"};
    if (what != "list" && what != "show")
        misuse(what.empty() ? "\"list\" or \"show\" is missing" : "\"" + what + "\" is neither \"list\" nor \"show\"", "diverged");
    diverged.show = what == "show";
    if (!diverged.show && (!diverged.name.empty() || diverged.records))
        misuse("a name and --records belong to \"show\"", "diverged");
    if (diverged.records && diverged.json)
        misuse("--records and --json exclude each other", "diverged");
    if (diverged.state_directory.empty()) {
        if (diverged.data_directory.empty())
            misuse("no server was given (-D or --state-directory)", "diverged");
        diverged.state_directory = absolute(diverged.data_directory) + ".pg_ha";
    }
    if (given.contains("dbname"))
        diverged.conninfo = Conninfo(conninfo);
    return diverged;
}

} // namespace

Command parse_command_line(const std::vector<std::string> &arguments) {
    if (arguments.empty())
        misuse("no subcommand was given", "");
    const std::string &name = arguments.front();
    const std::vector<std::string> rest(arguments.begin() + 1, arguments.end());
    if (name == "--help")
        return HelpText{overview};
    if (name == "--version")
        return HelpText{"pg_hactl (pg_ha) 1.0\n"};
    if (name == "status")
        return parse_status(rest, StatusMode::once);
    if (name == "watch")
        return parse_status(rest, StatusMode::watch);
    if (name == "clone")
        return parse_clone(rest);
    if (name == "diverged")
        return parse_diverged(rest);
    for (const OrderWords &words : orders)
        if (name == words.name)
            return parse_order(rest, words);
    misuse("there is no subcommand \"" + name + "\"", "");
}

} // namespace pg_ha::cli
