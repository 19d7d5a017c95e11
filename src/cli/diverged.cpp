// SPDX-License-Identifier: PostgreSQL
#include "diverged.hpp"

#include "failure.hpp"
#include "rejoin/files.hpp"
#include "rejoin/process.hpp"
#include "rejoin/wal_files.hpp"
#include "relation_names.hpp"
#include "server_settings.hpp"
#include "table.hpp"
#include "wal_summary.hpp"

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <fstream>
#include <iostream>
#include <sstream>

namespace pg_ha::cli {

namespace {

constexpr const char *what_is_missing =
    "Segments were whole when they were set aside. If they were moved or compressed since, put them back.";

struct Kept {
    std::string name, directory;
    KeptRange range;
    std::int64_t at() const { return std::strtoll(name.c_str() + name.rfind('-') + 1, nullptr, 10); }
};

std::string read_text(const std::string &path) {
    std::ifstream in(path);
    std::stringstream text;
    text << in.rdbuf();
    return text.str();
}

std::vector<Kept> find_kept(const std::string &state_directory) {
    if (!rejoin::exists(state_directory))
        throw Failure("state directory \"" + state_directory + "\" does not exist",
                      "Name it with --state-directory, if pg_ha.state_directory is set.");
    std::vector<Kept> all;
    const std::string place = state_directory + "/diverged";
    if (!rejoin::exists(place))
        return all;
    for (const std::string &name : rejoin::entries(place))
        if (const auto range = parse_range(read_text(place + "/" + name + "/range.txt")))
            all.push_back({name, place + "/" + name, *range});
        else
            std::cerr << "WARNING:  \"" << place << "/" << name << "\" is left out: it has no range.txt that tells which WAL it holds\n";
    std::sort(all.begin(), all.end(), [](const Kept &a, const Kept &b) { return a.at() < b.at(); });
    return all;
}

std::string time_text(std::int64_t seconds) {
    const std::time_t time = seconds;
    std::tm parts = {};
    ::localtime_r(&time, &parts);
    char text[64];
    std::strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", &parts);
    return text;
}

std::string from_text(const KeptRange &range) { return range.from ? to_string(*range.from) : "unknown"; }

std::string size_text(const KeptRange &range) {
    return range.from ? format_bytes(raw(range.to) - raw(*range.from)) : "unknown";
}

std::string range_json(const Kept &kept) {
    const KeptRange &range = kept.range;
    return "\"name\": " + quote_json(kept.name) + ", \"at\": " + std::to_string(kept.at()) +
           ", \"directory\": " + quote_json(kept.directory) + ", \"primary\": " + quote_json(range.primary) +
           ", \"timeline\": " + std::to_string(raw(range.timeline)) +
           ", \"from\": " + (range.from ? quote_json(to_string(*range.from)) : "null") +
           ", \"to\": " + quote_json(to_string(range.to));
}

int list(const std::vector<Kept> &all, bool json) {
    if (json) {
        std::string text;
        for (const Kept &kept : all)
            text += (text.empty() ? "{" : ",\n {") + range_json(kept) + "}";
        std::cout << "[" << text << "]\n";
        return exit_done;
    }
    if (all.empty()) {
        std::cout << "no diverged WAL is kept\n";
        return exit_done;
    }
    std::vector<std::vector<std::string>> rows = {{"NAME", "SET ASIDE", "TIMELINE", "FROM", "TO", "SIZE", "PRIMARY"}};
    for (const Kept &kept : all)
        rows.push_back({kept.name, time_text(kept.at()), std::to_string(raw(kept.range.timeline)), from_text(kept.range),
                        to_string(kept.range.to), size_text(kept.range), kept.range.primary});
    std::cout << format_table(rows);
    return exit_done;
}

// Each line that pg_waldump prints; returns what it complains about.  It is told the segments: left to itself it takes
// the size of all of them from whichever the directory lists first, which may be an empty one.
template <typename Take> std::string read_wal(const Kept &kept, const WalPiece &piece, const std::vector<rejoin::WalFile> &files,
                                              Take take) {
    const Stretch stretch = stretch_of(piece, files);
    if (stretch.first.empty())
        return stretch.missing;
    std::string complaint;
    const rejoin::Ran ran = rejoin::run(
        {program_directory() + "/pg_waldump", "-p", kept.directory, "-s", to_string(piece.from), "-e", to_string(stretch.end),
         stretch.first, stretch.last},
        rejoin::Echo::off, [&](const std::string &text) {
            const std::string line = text.substr(0, text.find('\n'));
            if (line.starts_with("pg_waldump: "))
                complaint = complaint.empty() ? line.substr(12) : complaint; // what follows is advice
            else
                take(line);
            return rejoin::Heard::progress; // there may be too much of it to keep
        });
    if (!stretch.missing.empty())
        return stretch.missing;
    return ran.status == 0 ? "" : complaint.empty() ? "pg_waldump failed" : complaint;
}

std::string kinds_text(const WalSummary &summary) {
    std::string text;
    for (const auto &[kind, count] : summary.kinds)
        text += (text.empty() ? "" : ", ") + kind + " " + std::to_string(count);
    return text;
}

void print_summary(const Kept &kept, const WalSummary &summary, const RelationNames &names, const std::string &complaint) {
    const KeptRange &range = kept.range;
    std::cout << format_table({{"name", kept.name},
                               {"kept in", kept.directory},
                               {"set aside", time_text(kept.at()) + ", to follow " + range.primary},
                               {"range", "timeline " + std::to_string(raw(range.timeline)) + ", " + from_text(range) + " to " +
                                             to_string(range.to) + ", " + size_text(range)},
                               {"records", std::to_string(summary.records) + (summary.records ? ": " : "") + kinds_text(summary)},
                               {"transactions", std::to_string(summary.committed) + " committed, " +
                                                    std::to_string(summary.aborted) + " aborted, " +
                                                    std::to_string(summary.prepared) + " prepared, " +
                                                    std::to_string(summary.unfinished.size()) + " without an end"}});
    if (!summary.first_commit.empty())
        std::cout << "commits from " << summary.first_commit << " to " << summary.last_commit << "\n";
    if (!summary.relations.empty()) {
        std::vector<std::vector<std::string>> rows = {{"RELATION", "RECORDS", "INSERTED", "UPDATED", "DELETED"}};
        for (const auto &[id, changes] : summary.relations)
            rows.push_back({names.name_of(id), std::to_string(changes.records), std::to_string(changes.inserted),
                            std::to_string(changes.updated), std::to_string(changes.deleted)});
        std::cout << "\n" << format_table(rows);
    }
    if (!complaint.empty())
        std::cerr << "WARNING:  not all of it can be read: " << complaint << "\nHINT:  " << what_is_missing << "\n";
}

void print_json(const Kept &kept, const WalSummary &summary, const RelationNames &names, const std::string &complaint) {
    std::string kinds, relations;
    for (const auto &[kind, count] : summary.kinds)
        kinds += (kinds.empty() ? "" : ", ") + quote_json(kind) + ": " + std::to_string(count);
    for (const auto &[id, changes] : summary.relations)
        relations += std::string(relations.empty() ? "" : ", ") + "{\"relation\": " + quote_json(names.name_of(id)) +
                     ", \"records\": " + std::to_string(changes.records) + ", \"inserted\": " +
                     std::to_string(changes.inserted) + ", \"updated\": " + std::to_string(changes.updated) +
                     ", \"deleted\": " + std::to_string(changes.deleted) + "}";
    std::cout << "{" << range_json(kept) << ", \"records\": " << summary.records << ", \"kinds\": {" << kinds
              << "}, \"committed\": " << summary.committed << ", \"aborted\": " << summary.aborted << ", \"prepared\": "
              << summary.prepared << ", \"without_end\": " << summary.unfinished.size() << ", \"relations\": [" << relations
              << "], \"unreadable\": " << (complaint.empty() ? "null" : quote_json(complaint)) << "}\n";
}

const Kept &choose(const std::vector<Kept> &all, const std::string &name) {
    if (all.empty())
        throw Failure("no diverged WAL is kept", "\"pg_hactl diverged list\" shows what there is.");
    if (name.empty())
        return all.back();
    const auto found = std::find_if(all.begin(), all.end(), [&name](const Kept &kept) { return kept.name == name; });
    if (found == all.end())
        throw Failure("no diverged WAL called \"" + name + "\" is kept", "\"pg_hactl diverged list\" shows what there is.");
    return *found;
}

} // namespace

std::optional<KeptRange> parse_range(const std::string &text) {
    KeptRange range;
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) {
        const std::size_t key_end = line.find(' '), begin = line.find_first_not_of(' ', key_end);
        if (begin == std::string::npos)
            continue;
        const std::string key = line.substr(0, key_end), value = line.substr(begin);
        if (key == "primary")
            range.primary = value;
        else if (key == "timeline")
            range.timeline = static_cast<Timeline>(std::strtoul(value.c_str(), nullptr, 10));
        else if (key == "from")
            range.from = rejoin::parse_lsn(value);
        else if (key == "to")
            range.to = rejoin::parse_lsn(value).value_or(Lsn::none);
    }
    if (range.timeline == Timeline::none || range.to == Lsn::none)
        return std::nullopt;
    return range;
}

std::vector<WalPiece> pieces_of(const KeptRange &range, const std::string &history) {
    std::vector<WalPiece> pieces;
    Lsn begin = range.from.value_or(Lsn::none);
    std::istringstream lines(history);
    for (std::string line; std::getline(lines, line);) {
        unsigned timeline;
        char text[32];
        if (std::sscanf(line.c_str(), "%u %31s", &timeline, text) != 2)
            continue;
        const auto end = rejoin::parse_lsn(text);
        if (!end || *end <= begin || *end >= range.to)
            continue;
        pieces.push_back({static_cast<Timeline>(timeline), begin, *end});
        begin = *end;
    }
    pieces.push_back({range.timeline, begin, range.to});
    return pieces;
}

Stretch stretch_of(const WalPiece &piece, const std::vector<rejoin::WalFile> &files) {
    Stretch stretch;
    stretch.end = piece.from;
    while (stretch.end < piece.to) {
        const rejoin::WalFile *file = rejoin::file_with({piece.timeline, stretch.end}, files);
        if (!file) {
            stretch.missing = "the segment that contains " + to_string(stretch.end) + " of timeline " +
                              std::to_string(raw(piece.timeline)) + " is missing";
            break;
        }
        if (stretch.first.empty())
            stretch.first = file->name;
        stretch.last = file->name;
        stretch.end = std::min(piece.to, static_cast<Lsn>((raw(stretch.end) / file->bytes + 1) * file->bytes));
    }
    return stretch;
}

int run_diverged(const DivergedOptions &options) {
    const std::vector<Kept> all = find_kept(options.state_directory);
    if (!options.show)
        return list(all, options.json);
    const Kept kept = choose(all, options.name);
    const std::vector<rejoin::WalFile> files = rejoin::wal_files_in(kept.directory);
    if (files.empty())
        throw Failure("\"" + kept.directory + "\" contains no WAL", what_is_missing);
    KeptRange range = kept.range;
    if (!range.from) // what is not known begins with the oldest segment that is kept
        range.from = static_cast<Lsn>(rejoin::parse_segment(files[0].name, files[0].bytes)->number * files[0].bytes);
    char history[32];
    std::snprintf(history, sizeof history, "/%08X.history", raw(range.timeline));
    WalSummary summary;
    std::string complaint;
    for (const WalPiece &piece : pieces_of(range, read_text(kept.directory + history))) {
        const std::string why = read_wal(kept, piece, files, [&](const std::string &line) {
            if (options.records)
                std::cout << line << "\n";
            else
                summary.add(line);
        });
        complaint = complaint.empty() ? why : complaint;
    }
    if (options.records) {
        if (!complaint.empty())
            throw Failure("not all of it can be read: " + complaint, what_is_missing);
        return exit_done;
    }
    RelationNames names;
    if (options.conninfo)
        names.look_up(summary.relations, *options.conninfo);
    (options.json ? print_json : print_summary)(kept, summary, names, complaint);
    return complaint.empty() ? exit_done : exit_failed;
}

} // namespace pg_ha::cli
