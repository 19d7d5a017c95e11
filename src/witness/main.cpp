// SPDX-License-Identifier: PostgreSQL
//
// pg_ha_witness: a voter without PostgreSQL, for sites with two data nodes.
//
// The main thread reads the configuration, starts a thread per cluster and then only waits for
// signals: SIGTERM and SIGINT end it, SIGHUP reads the configuration again.  If one cluster's
// witness fails, the process ends with status 1 and systemd starts it again; a restarted witness
// waits one lease before it votes.
//
// Exit status: 0 stopped, 1 failed, 2 wrong command line or configuration.
#include "log.hpp"
#include "net/notify.hpp"
#include "witness.hpp"

#include <boost/program_options/options_description.hpp>
#include <boost/program_options/parsers.hpp>
#include <boost/program_options/value_semantic.hpp>
#include <boost/program_options/variables_map.hpp>

#include <atomic>
#include <csignal>
#include <iostream>
#include <malloc.h>
#include <memory>
#include <thread>
#include <unistd.h>

namespace options = boost::program_options;

namespace {

using namespace pg_ha;

constexpr int exit_stopped = 0;
constexpr int exit_failed = 1;
constexpr int exit_misused = 2;
constexpr const char *version = "1.0";

struct CommandLine {
    std::string config;
    bool check = false;
    std::optional<int> done; // --help, --version or a mistake: end with this status
};

CommandLine parse_command_line(int argc, char **argv) {
    CommandLine result;
    options::options_description known("Options");
    known.add_options()("config", options::value(&result.config)->value_name("FILE"), "configuration file (required)")(
        "check", options::bool_switch(&result.check), "look at configuration, secret and state, then end")(
        "help", "show this text")("version", "show the version");
    options::variables_map given;
    try {
        options::store(options::command_line_parser(argc, argv).options(known).positional({}).run(), given);
        options::notify(given);
    } catch (const options::error &error) {
        std::cerr << "pg_ha_witness: " << error.what() << "\nHINT: Try \"pg_ha_witness --help\".\n";
        result.done = exit_misused;
        return result;
    }
    if (given.contains("help")) {
        std::cout << "pg_ha_witness votes in clusters of pg_ha, without PostgreSQL.\n\n"
                  << "Usage: pg_ha_witness --config FILE [--check]\n\n" << known;
        result.done = exit_stopped;
    } else if (given.contains("version")) {
        std::cout << "pg_ha_witness (pg_ha) " << version << "\n";
        result.done = exit_stopped;
    } else if (result.config.empty()) {
        std::cerr << "pg_ha_witness: no configuration file\nHINT: Name it with --config.\n";
        result.done = exit_misused;
    }
    return result;
}

// Each problem on lines of its own.
void report(const std::string &section, const std::string &text) { write_log(LogLevel::error, section, text); }

int check(const std::vector<WitnessSettings> &all) {
    int status = exit_stopped;
    for (const WitnessSettings &settings : all) {
        try {
            std::cout << (settings.section.empty() ? "" : settings.section + ": ") << check_witness(settings) << "\n";
        } catch (const std::runtime_error &error) {
            report(settings.section, error.what());
            status = exit_misused;
        }
    }
    return status;
}

class Process {
public:
    explicit Process(std::string config) : config_(std::move(config)) {
        sigemptyset(&signals_);
        for (const int number : {SIGTERM, SIGINT, SIGHUP})
            sigaddset(&signals_, number);
        ::pthread_sigmask(SIG_BLOCK, &signals_, nullptr); // threads inherit it: only wait() sees them
    }

    int run(const std::vector<WitnessSettings> &all) {
        for (const WitnessSettings &settings : all) {
            try {
                witnesses_.push_back(std::make_unique<Witness>(settings));
            } catch (const std::runtime_error &error) {
                report(settings.section, error.what());
                return exit_failed;
            }
        }
        for (const auto &witness : witnesses_)
            threads_.emplace_back([this, &witness = *witness] { serve(witness); });
        notify_systemd("READY=1");
        wait();
        notify_systemd("STOPPING=1");
        for (const auto &witness : witnesses_)
            witness->request_stop();
        for (std::thread &thread : threads_)
            thread.join();
        return failed_ ? exit_failed : exit_stopped;
    }

private:
    void serve(Witness &witness) {
        try {
            witness.run();
        } catch (const std::exception &error) {
            report(witness.settings().section, error.what());
            failed_ = true;
            ::kill(::getpid(), SIGTERM);
        }
    }

    void wait() {
        for (;;) {
            int number = 0;
            ::sigwait(&signals_, &number);
            if (number != SIGHUP)
                return;
            reload();
        }
    }

    void reload() {
        try {
            const std::vector<WitnessSettings> fresh = read_settings(config_);
            for (const auto &witness : witnesses_)
                for (const WitnessSettings &settings : fresh)
                    if (settings.section == witness->settings().section)
                        witness->reload(settings);
            if (fresh.size() != witnesses_.size())
                write_log(LogLevel::warning, "", "clusters that were added or removed are noticed only at a restart");
        } catch (const SettingsError &error) {
            report("", std::string("the configuration stays as it was: ") + error.what());
        }
    }

    std::string config_;
    sigset_t signals_{};
    std::vector<std::unique_ptr<Witness>> witnesses_;
    std::vector<std::thread> threads_;
    std::atomic<bool> failed_ = false;
};

} // namespace

int main(int argc, char **argv) {
    std::signal(SIGPIPE, SIG_IGN); // whoever reads the log may go away
    ::mallopt(M_ARENA_MAX, 1); // threads that allocate little need no arenas of their own
    const CommandLine command = parse_command_line(argc, argv);
    if (command.done)
        return *command.done;
    open_log(false);
    if (::geteuid() == 0) {
        report("", "pg_ha_witness must not be run as root\nHINT: Run it as a user of its own; the systemd unit does.");
        return exit_misused;
    }
    std::vector<WitnessSettings> settings;
    try {
        settings = read_settings(command.config);
    } catch (const SettingsError &error) {
        report("", error.what());
        return exit_misused;
    }
    return command.check ? check(settings) : Process(command.config).run(settings);
}
