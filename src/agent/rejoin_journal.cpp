// SPDX-License-Identifier: PostgreSQL
//
// The file `rejoin`: "name value" per line, control characters, % and spaces in names as %XX.  Names this version does
// not know, or a file without its last line, are refused: half a journal must never look like none.
#include "rejoin_journal.hpp"

#include <cerrno>
#include <charconv>
#include <cstdio>
#include <fcntl.h>
#include <stdexcept>
#include <system_error>
#include <unistd.h>

namespace pg_ha {

namespace {

constexpr const char *names[] = {"none",      "requested", "hiding",    "recovering", "saving",
                                 "rewinding", "finishing", "cloning",   "swapping",   "returning",
                                 "done",      "given_up"};
constexpr const char *last_line = "end";

[[noreturn]] void fail(const std::string &what, const std::string &path) {
    throw std::system_error(errno, std::generic_category(), "could not " + what + " \"" + path + "\"");
}

std::string escaped(const std::string &text, char least) {
    std::string out;
    for (const char c : text) {
        char hex[4];
        if (c == '%' || static_cast<unsigned char>(c) < static_cast<unsigned char>(least)) {
            std::snprintf(hex, sizeof hex, "%%%02X", static_cast<unsigned char>(c));
            out += hex;
        } else {
            out += c;
        }
    }
    return out;
}

std::string unescaped(const std::string &text) {
    std::string out;
    for (std::size_t i = 0; i < text.size(); i++) {
        unsigned value = 0;
        if (text[i] != '%') {
            out += text[i];
        } else if (i + 2 < text.size() &&
                   std::from_chars(&text[i + 1], &text[i + 3], value, 16).ptr == &text[i + 3]) {
            out += static_cast<char>(value);
            i += 2;
        } else {
            throw std::runtime_error("a broken value");
        }
    }
    return out;
}

template <class Number> Number number(const std::string &text) {
    Number value{};
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc{} || end != text.data() + text.size())
        throw std::runtime_error("a broken number");
    return value;
}

std::string text_of(Position p) { return std::to_string(raw(p.timeline)) + "/" + std::to_string(raw(p.lsn)); }

Position position(const std::string &text) {
    const std::size_t slash = text.find('/');
    if (slash == std::string::npos)
        throw std::runtime_error("a broken position");
    return {static_cast<Timeline>(number<std::uint32_t>(text.substr(0, slash))),
            static_cast<Lsn>(number<std::uint64_t>(text.substr(slash + 1)))};
}

RejoinPhase phase(const std::string &text) {
    for (std::size_t i = 0; i < std::size(names); i++)
        if (text == names[i])
            return static_cast<RejoinPhase>(i);
    throw std::runtime_error("a phase that is not known: " + text);
}

void set(RejoinJournal &j, const std::string &name, const std::string &value) {
    if (name.starts_with("candidate."))
        j.candidates[name.substr(10)] = value;
    else if (name.starts_with("parameter."))
        j.parameters[name.substr(10)] = value;
    else if (name == "phase")
        j.phase = phase(value);
    else if (name == "postmaster")
        j.postmaster = number<std::int64_t>(value);
    else if (name == "postmaster_started")
        j.postmaster_started = number<std::int64_t>(value);
    else if (name == "data_directory")
        j.data_directory = value;
    else if (name == "config_file")
        j.config_file = value;
    else if (name == "program_directory")
        j.program_directory = value;
    else if (name == "system_identifier")
        j.system_identifier = number<std::uint64_t>(value);
    else if (name == "clone")
        j.clone = value;
    else if (name == "self")
        j.self = static_cast<NodeId>(number<std::uint64_t>(value));
    else if (name == "leader")
        j.leader = value;
    else if (name == "conninfo")
        j.conninfo = value;
    else if (name == "term")
        j.term = static_cast<Term>(number<std::uint32_t>(value));
    else if (name == "timeline")
        j.timeline = static_cast<Timeline>(number<std::uint32_t>(value));
    else if (name == "own")
        j.own = position(value);
    else if (name == "fork")
        j.fork = position(value);
    else if (name == "numbers_shared")
        j.numbers_shared = value == "1";
    else if (name == "aside")
        j.aside = value;
    else if (name == "rewinds")
        j.rewinds = number<unsigned>(value);
    else if (name == "hidden")
        j.hidden = value == "1";
    else if (name == "rewinds_failed")
        j.rewinds_failed = number<unsigned>(value);
    else if (name == "failures")
        j.failures = number<unsigned>(value);
    else if (name == "began_at")
        j.began_at = number<std::int64_t>(value);
    else if (name == "at")
        j.at = number<std::int64_t>(value);
    else if (name == "text")
        j.text = value;
    else if (name == "reported")
        j.reported = value == "1";
    else
        throw std::runtime_error("a name that is not known: " + name);
}

std::string to_text(const RejoinJournal &j) {
    std::string out;
    const auto add = [&out](const std::string &name, const std::string &value) {
        out += escaped(name, ' ' + 1) + " " + escaped(value, ' ') + "\n"; // a space ends the name
    };
    add("format", std::to_string(rejoin_format));
    add("phase", to_string(j.phase));
    add("postmaster", std::to_string(j.postmaster));
    add("postmaster_started", std::to_string(j.postmaster_started));
    add("data_directory", j.data_directory);
    add("config_file", j.config_file);
    add("program_directory", j.program_directory);
    add("system_identifier", std::to_string(j.system_identifier));
    if (!j.clone.empty()) // a helper that does not know the name must still understand the other requests
        add("clone", j.clone);
    add("self", std::to_string(raw(j.self)));
    add("leader", j.leader);
    add("conninfo", j.conninfo);
    add("term", std::to_string(raw(j.term)));
    add("timeline", std::to_string(raw(j.timeline)));
    add("own", text_of(j.own));
    add("fork", text_of(j.fork));
    add("numbers_shared", j.numbers_shared ? "1" : "0");
    for (const auto &[name, value] : j.candidates)
        add("candidate." + name, value);
    for (const auto &[name, value] : j.parameters)
        add("parameter." + name, value);
    add("aside", j.aside);
    add("rewinds", std::to_string(j.rewinds));
    add("hidden", j.hidden ? "1" : "0");
    add("rewinds_failed", std::to_string(j.rewinds_failed));
    add("failures", std::to_string(j.failures));
    add("began_at", std::to_string(j.began_at));
    add("at", std::to_string(j.at));
    add("text", j.text);
    add("reported", j.reported ? "1" : "0");
    return out + last_line + "\n";
}

RejoinJournal parse(const std::string &text) {
    RejoinJournal journal;
    std::size_t begin = 0;
    bool first = true;
    for (std::size_t end = 0; (end = text.find('\n', begin)) != std::string::npos; begin = end + 1, first = false) {
        const std::string line = text.substr(begin, end - begin);
        if (line == last_line)
            return journal;
        const std::size_t space = line.find(' ');
        if (space == std::string::npos)
            throw std::runtime_error("a line without a value");
        const std::string name = unescaped(line.substr(0, space)), value = unescaped(line.substr(space + 1));
        if (!first)
            set(journal, name, value);
        else if (name != "format" || value != std::to_string(rejoin_format))
            throw std::runtime_error("the format of another version of pg_ha");
    }
    throw std::runtime_error("no last line");
}

std::string read_text(int fd, const std::string &path) {
    std::string text;
    char piece[4096];
    for (ssize_t n = 0; (n = ::read(fd, piece, sizeof piece)) != 0;) {
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            fail("read", path);
        text.append(piece, static_cast<std::size_t>(n));
    }
    return text;
}

} // namespace

const char *to_string(RejoinPhase p) { return names[static_cast<std::size_t>(p)]; }

bool rejoin_unfinished(RejoinPhase p) { return p >= RejoinPhase::hiding && p <= RejoinPhase::returning; }

RejoinJournal read_rejoin_journal(const std::string &state_directory) {
    const std::string path = state_directory + "/rejoin";
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT)
        return {};
    if (fd < 0)
        fail("open", path);
    try {
        const std::string text = read_text(fd, path);
        ::close(fd);
        return parse(text);
    } catch (const std::system_error &) {
        throw;
    } catch (const std::runtime_error &error) {
        throw std::runtime_error("journal \"" + path + "\" cannot be used: it has " + error.what());
    }
}

void write_rejoin_journal(const std::string &state_directory, const RejoinJournal &journal) {
    const std::string path = state_directory + "/rejoin", temporary = path + ".new";
    const std::string text = to_text(journal);
    const int fd = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        fail("create", temporary);
    const bool written = ::write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size()) && ::fsync(fd) == 0;
    ::close(fd);
    if (!written)
        fail("write", temporary);
    if (::rename(temporary.c_str(), path.c_str()) != 0)
        fail("rename", temporary);
    const int directory = ::open(state_directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    const bool synced = directory >= 0 && ::fsync(directory) == 0;
    if (directory >= 0)
        ::close(directory);
    if (!synced)
        fail("fsync", state_directory);
}

} // namespace pg_ha
