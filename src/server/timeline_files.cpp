// SPDX-License-Identifier: PostgreSQL
//
// The history files in pg_wal, before recovery reads them.  Recovery counts them, one number after the other, to find
// the newest timeline, and reads WAL as far as that says.  A file too few, and a server does not know WAL that it has
// acknowledged; one too many, and it refuses to start.
//
// Terms without a primary have no timeline: an empty file (a placeholder) stands for each, made by the promotion after
// them.  A clone gets the newest history only, so what is missing before it is made from that: also for members that
// were away and ask this server, as primary, for all of them.
#include "agent/files.hpp"

#include "timeline_files.hpp"

extern "C" {
#include "postgres.h"
#include "access/timeline.h"
#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "catalog/pg_control.h"
#include "common/controldata_utils.h"
#include "miscadmin.h"
}

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <dirent.h>
#include <fcntl.h>
#include <sstream>
#include <stdexcept>
#include <string>
#include <sys/stat.h>
#include <unistd.h>

namespace pg_ha {

namespace {

// A server with more timelines than this has had more elections in a row than any cluster survives.
constexpr TimeLineID histories_max = 10000;
constexpr std::size_t history_bytes_max = 16 << 20;

// Newest first, as PostgreSQL lists them.  Does `whole` say something else about what came before the last timeline of
// `part` than `part` itself?  A placeholder says nothing.
bool says_otherwise(const List *whole, const List *part) {
    const int shorter = list_length(part), skipped = list_length(whole) - shorter;
    if (shorter <= 1)
        return false;
    for (int i = 1; i < shorter && skipped >= 0; i++) {
        const auto *ours = static_cast<const TimeLineHistoryEntry *>(list_nth(part, i));
        const auto *theirs = static_cast<const TimeLineHistoryEntry *>(list_nth(whole, i + skipped));
        if (ours->tli != theirs->tli || ours->end != theirs->end)
            return true;
    }
    return skipped < 0;
}

std::string path_of(TimeLineID timeline) {
    char path[MAXPGPATH];
    TLHistoryFilePath(path, timeline);
    return path;
}

// What the history file of this timeline says, by that of a later one: nothing if it is none of its ancestors.
std::string history_before(const std::string &whole, TimeLineID timeline) {
    std::istringstream lines(whole);
    std::string before;
    for (std::string line; std::getline(lines, line);) {
        const auto ancestor = static_cast<TimeLineID>(std::strtoul(line.c_str(), nullptr, 10));
        if (ancestor == timeline)
            return before;
        if (ancestor != 0)
            before += line + "\n";
    }
    return "";
}

bool contradicts(List *history, const ControlFileData *control) {
    if (tliOfPointInHistory(control->checkPoint, history) != control->checkPointCopy.ThisTimeLineID)
        return true;
    const XLogRecPtr reached = control->minRecoveryPoint;
    if (!XLogRecPtrIsInvalid(reached) && tliOfPointInHistory(reached - 1, history) != control->minRecoveryPointTLI)
        return true;
    const ListCell *cell;
    for_each_from(cell, history, 1) {
        if (says_otherwise(history, readTimeLineHistory(static_cast<const TimeLineHistoryEntry *>(lfirst(cell))->tli)))
            return true;
    }
    return false;
}

bool scan_histories(TimeLineID *newest_real, TimeLineID *newest) {
    *newest_real = *newest = 0;
    DIR *directory = opendir(XLOGDIR);
    if (directory == nullptr)
        return false;
    while (const dirent *entry = readdir(directory)) {
        if (!IsTLHistoryFileName(entry->d_name))
            continue;
        const auto timeline = static_cast<TimeLineID>(strtoul(entry->d_name, nullptr, 16));
        char path[MAXPGPATH];
        TLHistoryFilePath(path, timeline);
        struct stat file;
        if (stat(path, &file) == 0 && file.st_size > 0 && timeline > *newest_real)
            *newest_real = timeline;
        *newest = timeline > *newest ? timeline : *newest;
    }
    closedir(directory);
    return true;
}

} // namespace

Timeline newest_timeline() {
    TimeLineID newest_real, newest;
    if (!scan_histories(&newest_real, &newest))
        throw std::runtime_error(std::string("could not open pg_wal: ") + std::strerror(errno));
    return static_cast<Timeline>(newest_real > 0 ? newest_real : 1);
}

const char *remove_stale_placeholders() {
    TimeLineID newest_real, newest;
    if (!scan_histories(&newest_real, &newest))
        return "could not open pg_wal";
    for (TimeLineID timeline = newest_real + 1; timeline <= newest; timeline++) {
        char path[MAXPGPATH];
        TLHistoryFilePath(path, timeline);
        if (unlink(path) != 0 && errno != ENOENT)
            return "could not remove an empty timeline history file";
    }
    return nullptr;
}

// Recovery goes for the newest timeline that has a history here, and ends the server if that history does not contain
// what is on disk.  Those before it stay, whatever they say: they are only counted.
const char *remove_foreign_histories() {
    TimeLineID newest_real, newest;
    if (!scan_histories(&newest_real, &newest))
        return "could not open pg_wal";
    bool valid = false;
    const ControlFileData *control = get_controlfile(DataDir, &valid);
    const TimeLineID own = Max(control->checkPointCopy.ThisTimeLineID, control->minRecoveryPointTLI);
    for (TimeLineID timeline = newest_real; valid && timeline > own; timeline--) {
        char path[MAXPGPATH];
        TLHistoryFilePath(path, timeline);
        struct stat file;
        if (stat(path, &file) != 0 || file.st_size == 0)
            continue;
        if (!contradicts(readTimeLineHistory(timeline), control))
            break;
        ereport(LOG, (errmsg("pg_ha: removing the history file of timeline %u", timeline),
                      errdetail("This server's WAL is no part of that history.")));
        if (unlink(path) != 0)
            return "could not remove a timeline history file";
    }
    return remove_stale_placeholders();
}

int complete_histories() {
    TimeLineID newest, unused;
    if (!scan_histories(&newest, &unused))
        throw std::runtime_error(std::string("could not open pg_wal: ") + std::strerror(errno));
    if (newest <= 1)
        return 0;
    const Fd newest_file(open(path_of(newest).c_str(), O_RDONLY));
    if (newest_file.get() < 0)
        fail("open", path_of(newest));
    const std::string whole = read_up_to(newest_file.get(), history_bytes_max, path_of(newest));
    int made = 0;
    for (TimeLineID timeline = newest > histories_max ? newest - histories_max : 2; timeline < newest; timeline++) {
        if (access(path_of(timeline).c_str(), F_OK) == 0)
            continue;
        const Fd file(create_durably(path_of(timeline), history_before(whole, timeline)));
        if (file.get() < 0)
            fail("create", path_of(timeline));
        made++;
    }
    return made;
}

} // namespace pg_ha
