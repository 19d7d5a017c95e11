// SPDX-License-Identifier: PostgreSQL
#include "kept_wal.hpp"

#include "files.hpp"
#include "process.hpp"
#include "wal_files.hpp"

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <vector>

namespace pg_ha::rejoin {

namespace {

constexpr std::uint64_t room_to_leave = 64u << 20;

std::string tail(const Places &p) { return p.state + "/rejoin.tail"; }
std::string saved(const Places &p) { return p.state + "/rejoin.wal"; }
std::string wal(const Places &p) { return p.hidden + "/pg_wal"; }
std::string control_file(const Places &p) { return p.hidden + "/global/pg_control"; }

std::string read_text(const std::string &path) {
    std::ifstream in(path);
    std::stringstream text;
    text << in.rdbuf();
    if (!in)
        throw std::runtime_error("could not read \"" + path + "\"");
    return text.str();
}

// Where recovery ends if it reads only up to `timeline`: our own history tells.
Position end_on(const Places &places, Timeline timeline, Position own) {
    if (timeline == own.timeline)
        return own;
    char name[32];
    std::snprintf(name, sizeof name, "/%08X.history", raw(own.timeline));
    std::istringstream lines(read_text(wal(places) + name));
    for (std::string line; std::getline(lines, line);) {
        unsigned number;
        char lsn[32];
        if (std::sscanf(line.c_str(), "%u\t%31s", &number, lsn) == 2 && number == raw(timeline))
            if (const auto end = parse_lsn(lsn))
                return {timeline, *end};
    }
    throw std::runtime_error("timeline " + std::to_string(raw(timeline)) + " is no part of this server's history");
}

using Copier = void (*)(const std::string &from, const std::string &to);

void copy_segments(const std::vector<std::string> &names, const std::string &from, const std::string &to,
                   Copier copy = copy_file) {
    for (const std::string &name : names)
        if (!exists(to + "/" + name))
            copy(from + "/" + name, to + "/" + name);
}

// pg_waldump is told the segments: left to itself it takes the size of all from whichever it finds first, which may be
// one that was never written.
void write_range(const std::string &directory, const RejoinJournal &journal, Position fork) {
    std::string text;
    text += "This server's WAL that its primary does not have, set aside before the server was rewound.\n";
    text += "primary   " + journal.leader + ", timeline " + std::to_string(raw(journal.timeline)) + "\n";
    text += "timeline  " + std::to_string(raw(journal.own.timeline)) + "\n";
    const bool known = fork.timeline != Timeline::none;
    text += "from      " + (known ? to_string(fork.lsn) : "unknown") + "\n";
    text += "to        " + to_string(journal.own.lsn) + "\n";
    if (known) {
        text += "bytes     " + std::to_string(raw(journal.own.lsn) - raw(fork.lsn)) + "\n";
        const std::vector<WalFile> files = wal_files_in(directory);
        const WalFile *first = file_with({journal.own.timeline, fork.lsn}, files);
        const WalFile *last = file_with({journal.own.timeline, static_cast<Lsn>(raw(journal.own.lsn) - 1)}, files);
        text += "read it with: pg_waldump -p . -t " + std::to_string(raw(journal.own.timeline)) + " -s " + to_string(fork.lsn) +
                " -e " + to_string(journal.own.lsn) + (first && last ? " " + first->name + " " + last->name : "") + "\n";
    }
    write_file(directory + "/range.txt", text);
}

std::string set_aside(const Places &places, const RejoinJournal &journal, const std::vector<std::string> &names,
                      const std::string &from, Position fork, Copier copy) {
    make_directory(places.state + "/diverged", 0700);
    const std::string aside =
        places.state + "/diverged/" + std::to_string(raw(journal.timeline)) + "-" + std::to_string(journal.began_at);
    make_directory(aside, 0700);
    copy_segments(names, from, aside, copy);
    write_range(aside, journal, fork);
    return aside;
}

} // namespace

std::optional<Divergence> parse_divergence(const std::string &output) {
    const auto position_after = [&output](const std::string &words) -> std::optional<Position> {
        const std::size_t at = output.find(words);
        unsigned high, low, timeline;
        if (at == std::string::npos ||
            std::sscanf(output.c_str() + at + words.size(), "%X/%X on timeline %u", &high, &low, &timeline) != 3)
            return std::nullopt;
        return Position{static_cast<Timeline>(timeline), static_cast<Lsn>(static_cast<std::uint64_t>(high) << 32 | low)};
    };
    const auto fork = position_after("servers diverged at WAL location ");
    const auto checkpoint = position_after("rewinding from last common checkpoint at ");
    if (!fork || !checkpoint)
        return std::nullopt;
    return Divergence{*fork, *checkpoint};
}

std::optional<std::uint64_t> parse_need_mb(const std::string &output) {
    const std::string words = "need to copy ";
    const std::size_t at = output.find(words);
    unsigned long long mb;
    if (at == std::string::npos || std::sscanf(output.c_str() + at + words.size(), "%llu MB", &mb) != 1)
        return std::nullopt;
    return mb;
}

std::optional<Lsn> parse_redo(const std::string &output) {
    const std::string words = "desc: CHECKPOINT_";
    const std::size_t record = output.find(words), at = output.find(" redo ", record);
    if (record == std::string::npos || at == std::string::npos)
        return std::nullopt;
    return parse_lsn(output.substr(at + 6));
}

// Recovery appends behind the end: in the segment of the end, or in the one after it.
void keep_tail(const Places &places, const ControlData &control, Position own) {
    if (exists(tail(places) + "/present"))
        return;
    remove_tree(tail(places));
    make_directory(tail(places), 0700);
    copy_file(control_file(places), tail(places) + "/pg_control");
    const Position end = end_on(places, control.recovery_timeline, own);
    const std::uint64_t last = (raw(end.lsn) - 1) / control.segment_bytes;
    std::string present;
    for (const std::uint64_t number : {last, last + 1}) {
        const std::string name = segment_name({end.timeline, number}, control.segment_bytes);
        const bool there = exists(wal(places) + "/" + name);
        present += name + (there ? " yes\n" : " no\n");
        if (there)
            copy_file(wal(places) + "/" + name, tail(places) + "/" + name);
    }
    write_file(tail(places) + "/present", present);
}

void put_back_tail(const Places &places) {
    if (!exists(tail(places) + "/present") || !exists(wal(places)))
        return; // recovery has not begun, or all is back already
    std::istringstream lines(read_text(tail(places) + "/present"));
    for (std::string name, there; lines >> name >> there;) {
        if (there == "yes")
            copy_file(tail(places) + "/" + name, wal(places) + "/" + name);
        else
            remove_tree(wal(places) + "/" + name);
    }
    sync_directory(wal(places));
    copy_file(tail(places) + "/pg_control", control_file(places));
}

std::string keep_diverged_wal(const Places &places, const RejoinJournal &journal, std::uint64_t segment_bytes,
                              const Divergence &found, Lsn redo) {
    const std::uint64_t first = raw(std::min(redo, found.checkpoint.lsn)) / segment_bytes;
    const std::uint64_t fork = raw(found.fork.lsn) / segment_bytes;
    const std::uint64_t end = raw(journal.own.lsn) / segment_bytes + 1; // recovery's checkpoint may lie behind our end
    const std::uint64_t last = (raw(journal.own.lsn) - 1) / segment_bytes; // what comes after may be empty
    std::vector<std::string> all, diverged;
    for (const std::string &name : entries(wal(places))) {
        const auto segment = parse_segment(name, segment_bytes);
        if (is_history_file(name) || (segment && segment->number >= first && segment->number <= end))
            all.push_back(name);
        if (segment && segment->number >= fork && segment->number <= last && segment->timeline >= found.fork.timeline)
            diverged.push_back(name);
    }
    const std::uint64_t needed = all.size() * segment_bytes + room_to_leave;
    if (const std::uint64_t free = free_bytes(places.state); free < needed && !exists(saved(places)))
        throw std::runtime_error("no room to keep the diverged WAL: " + std::to_string(needed >> 20) + " MB needed in \"" +
                                 places.state + "\", " + std::to_string(free >> 20) + " MB free");
    make_directory(saved(places), 0700);
    copy_segments(all, wal(places), saved(places));
    copy_file(control_file(places), saved(places) + "/pg_control");
    return set_aside(places, journal, diverged, saved(places), found.fork, link_file); // those are only read, too
}

// The fork is unknown if our timeline was never part of the primary's history: then all of it is kept.
std::string keep_diverged_wal(const Places &places, const RejoinJournal &journal) {
    std::vector<std::string> diverged;
    for (const std::string &name : entries(wal(places))) {
        const std::uint64_t bytes = name.size() == 24 ? size_of(wal(places) + "/" + name) : 0;
        const auto segment = parse_segment(name, bytes);
        if (segment && segment->timeline == journal.own.timeline && segment->number >= raw(journal.fork.lsn) / bytes &&
            segment->number <= raw(journal.own.lsn) / bytes)
            diverged.push_back(name);
        else if (is_history_file(name))
            diverged.push_back(name);
    }
    return set_aside(places, journal, diverged, wal(places), journal.fork, copy_file);
}

void put_back_saved_wal(const Places &places) {
    for (const std::string &name : entries(saved(places)))
        if (name != "pg_control")
            copy_file(saved(places) + "/" + name, wal(places) + "/" + name);
    copy_file(saved(places) + "/pg_control", control_file(places));
}

void add_older_wal(const Places &places, Position fork) {
    if (!exists(wal(places)))
        return; // the directories are back already
    for (const std::string &name : entries(saved(places))) {
        const std::uint64_t bytes = size_of(saved(places) + "/" + name);
        const auto segment = parse_segment(name, bytes);
        if (segment && segment->timeline <= fork.timeline && segment->number < raw(fork.lsn) / bytes &&
            !exists(wal(places) + "/" + name))
            copy_file(saved(places) + "/" + name, wal(places) + "/" + name);
    }
}

void remove_kept(const Places &places) {
    remove_tree(tail(places));
    remove_tree(saved(places));
}

} // namespace pg_ha::rejoin
