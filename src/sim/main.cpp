// SPDX-License-Identifier: PostgreSQL
//
// sim: runs seeds of the simulator and explains a failing one.  docs/testing.md says how to read it.
#include "plants.hpp"
#include "runner.hpp"

#include "core/invariants.hpp"

#include <csignal>
#include <cstdio>
#include <cstring>
#include <deque>
#include <fstream>
#include <stdexcept>
#include <thread>
#include <unistd.h>

namespace {

using namespace pg_ha::sim;

const char usage[] =
    "Simulates whole clusters: the real core and agent, with fake network, disks, PostgreSQL and clients.\n"
    "\n"
    "Usage:\n"
    "  sim --seeds N [--first-seed F] [--threads T] [--keep-going]\n"
    "  sim --seed S [--verbose]\n"
    "  sim --events DIRECTORY --seeds N [--first-seed F]\n"
    "\n"
    "Options:\n"
    "  --seeds N        run N seeds\n"
    "  --first-seed F   begin with this one (default 1)\n"
    "  --threads T      run so many at once (default: the number of processors)\n"
    "  --keep-going     do not stop at the first violation\n"
    "  --seed S         replay one seed with its trace\n"
    "  --verbose        with --seed: heartbeats too\n"
    "  --plant DEFECT   plant this defect; the checkers must notice\n"
    "  --events DIR     for each seed a file with its steps of models/election.pml, unjudged (scripts/check-traces)\n"
    "  --planted        plant each defect in turn, until it is caught in one of N seeds\n"
    "\n"
    "Exit status: 0 no violation, 1 a safety promise broken, 2 liveness lost, 3 an invariant of the core broken.\n";

struct Arguments {
    ManySeeds many;
    bool replay = false;
    bool verbose = false;
    bool each_plant = false;
    std::string events;
};

void plant_into(ManySeeds &plan, const Plant &plant) {
    plan.sabotage = plant.sabotage;
    plan.bug = plant.bug;
}

Arguments parse(int argc, char **argv) {
    Arguments arguments;
    arguments.many.threads = std::max(1u, std::thread::hardware_concurrency());
    arguments.many.progress = true;
    for (int i = 1; i < argc; i++) {
        const std::string option = argv[i];
        const auto value = [&]() -> std::string {
            if (i + 1 >= argc)
                throw std::invalid_argument(option + " needs a value");
            return argv[++i];
        };
        if (option == "--seeds")
            arguments.many.count = std::stoull(value());
        else if (option == "--first-seed")
            arguments.many.first = std::stoull(value());
        else if (option == "--threads")
            arguments.many.threads = std::max(1u, static_cast<unsigned>(std::stoul(value())));
        else if (option == "--seed")
            arguments.replay = true, arguments.many.first = std::stoull(value());
        else if (option == "--plant")
            plant_into(arguments.many, find_plant(value()));
        else if (option == "--planted")
            arguments.each_plant = true;
        else if (option == "--events")
            arguments.events = value();
        else if (option == "--verbose")
            arguments.verbose = true;
        else if (option == "--keep-going")
            arguments.many.keep_going = true;
        else
            throw std::invalid_argument("unknown option: " + option);
    }
    return arguments;
}

struct Printer : TraceSink {
    void line(const std::string &text) override { std::puts(text.c_str()); }
};

struct LastLines : TraceSink {
    std::deque<std::string> lines;
    void line(const std::string &text) override {
        lines.push_back(text);
        if (lines.size() > 200)
            lines.pop_front();
    }
};

const char *program = "sim"; // as it was called, so that a command that is printed can be pasted

std::string replay_command(const Options &options) {
    std::string command = std::string(program) + " --seed " + std::to_string(options.seed) + " --verbose";
    if (plant_of(options).any())
        command += std::string(" --plant ") + plant_of(options).name;
    return command;
}

void explain(const Options &options, const Verdict &verdict) {
    LastLines sink;
    const Verdict again = run_seed(options, &sink);
    std::printf("seed %llu\n%s", static_cast<unsigned long long>(options.seed), describe(options).c_str());
    std::printf("last trace lines (virtual ms, host, role, term, event):\n");
    for (const std::string &line : sink.lines)
        std::puts(line.c_str());
    std::printf("violation: %s\n", verdict.violation.c_str());
    if (again.trace_hash != verdict.trace_hash)
        std::printf("warning: the second run of this seed went another way\n");
    std::printf("replay: %s", replay_command(options).c_str());
    if (!plant_of(options).any())
        std::printf("   (or: make sim SEED=%llu)", static_cast<unsigned long long>(options.seed));
    std::printf("\n");
}

int replay(const Arguments &arguments) {
    Options options = draw_options(arguments.many.first);
    options.sabotage = arguments.many.sabotage;
    options.bug = arguments.many.bug;
    std::printf("seed %llu\n%s", static_cast<unsigned long long>(options.seed), describe(options).c_str());
    Printer sink;
    sink.everything = arguments.verbose;
    const Verdict verdict = run_seed(options, &sink);
    const Statistics &s = verdict.statistics;
    std::printf("trace hash %016llx, %.1f virtual seconds, elections %llu, failovers %llu, acknowledged %llu\n",
                static_cast<unsigned long long>(verdict.trace_hash),
                static_cast<double>(s.virtual_time) / static_cast<double>(second),
                static_cast<unsigned long long>(s.elections), static_cast<unsigned long long>(s.failovers),
                static_cast<unsigned long long>(s.acknowledged));
    std::printf("%s\n",
                verdict.outcome == Outcome::good ? "no violation" : ("violation: " + verdict.violation).c_str());
    return static_cast<int>(verdict.outcome);
}

int run(const Arguments &arguments) {
    const ManyVerdicts result = run_many(arguments.many);
    for (const auto &[options, verdict] : result.violations)
        std::printf("seed %llu: %s\n", static_cast<unsigned long long>(options.seed), verdict.violation.c_str());
    if (!result.violations.empty())
        explain(result.violations.front().first, result.violations.front().second);
    const Statistics &t = result.total;
    std::printf("late answers %llu; rewinds %llu; asynchronous: overlaps %llu, promotions that lost commits %llu; beyond "
                "help at the end %llu\n",
                static_cast<unsigned long long>(t.late_answers), static_cast<unsigned long long>(t.rewinds), static_cast<unsigned long long>(t.overlaps),
                static_cast<unsigned long long>(t.lost), static_cast<unsigned long long>(t.liveness_skipped));
    std::printf("%s\n", summary(result).c_str());
    return result.violations.empty() ? 0 : static_cast<int>(result.violations.front().second.outcome);
}

// What each seed did, for the model to judge.
int write_events(const Arguments &arguments) {
    pg_ha::set_invariant_handler([](const char *) {});
    const std::uint64_t count = arguments.replay ? 1 : arguments.many.count;
    for (std::uint64_t i = 0; i < count; i++) {
        Options options = options_of_model(draw_options(arguments.many.first + i));
        options.sabotage = arguments.many.sabotage;
        options.bug = arguments.many.bug;
        std::ofstream file(arguments.events + "/" + std::to_string(options.seed));
        run_seed(options, nullptr, [&](const std::string &line) { file << line << '\n'; });
        if (!file.flush())
            throw std::runtime_error("cannot write into " + arguments.events);
    }
    return 0;
}

// Each planted defect in turn, until a checker notices it.
int run_planted(const Arguments &arguments) {
    std::size_t caught = 0;
    for (const Plant &plant : plants()) {
        ManySeeds plan = arguments.many;
        plan.progress = plan.keep_going = false;
        plant_into(plan, plant);
        const ManyVerdicts result = run_many(plan);
        const auto seeds = static_cast<unsigned long long>(result.seeds);
        if (result.violations.empty()) {
            std::printf("%s, NOT CAUGHT after %llu seeds\n", plant.name, seeds);
        } else {
            caught++;
            const auto &[options, verdict] = result.violations.front();
            std::printf("%s, caught by %s, at seed %llu after %llu seeds\n", plant.name, verdict.violation.c_str(),
                        static_cast<unsigned long long>(options.seed), seeds);
        }
        std::fflush(stdout);
    }
    std::printf("%zu of %zu planted bugs caught\n", caught, plants().size());
    return caught == plants().size() ? 0 : 1;
}

} // namespace

// The process dies inside a seed: say at least which.
extern "C" void on_crash(int signal) {
    char text[4200];
    const int length =
        std::snprintf(text, sizeof text, "sim: signal %d in seed %llu; replay: %.4000s --seed %llu --verbose\n", signal,
                      static_cast<unsigned long long>(current_seed()), program, static_cast<unsigned long long>(current_seed()));
    if (write(STDERR_FILENO, text, static_cast<std::size_t>(length)) < 0)
        _exit(4);
    _exit(3);
}

int main(int argc, char **argv) {
    if (argc < 2 || std::strcmp(argv[1], "--help") == 0) {
        std::fputs(usage, stdout);
        return argc < 2 ? 4 : 0;
    }
    program = argv[0];
    try {
        const Arguments arguments = parse(argc, argv);
        catch_broken_invariants();
        for (const int signal : {SIGSEGV, SIGABRT, SIGFPE, SIGBUS})
            std::signal(signal, on_crash);
        if (!arguments.events.empty())
            return write_events(arguments);
        return arguments.each_plant ? run_planted(arguments) : arguments.replay ? replay(arguments) : run(arguments);
    } catch (const std::exception &error) {
        std::fprintf(stderr, "sim: %s\nTry \"sim --help\".\n", error.what());
        return 4;
    }
}
