// SPDX-License-Identifier: PostgreSQL
//
// Promotion from the node worker: the promote file and SIGUSR1 to the postmaster, as pg_ctl does,
// then a look at shared memory every millisecond.
//
// The new timeline must get the number of the term, so that two winners that never met cannot use
// the same one.  PostgreSQL takes the first number without a history file; empty files for the
// numbers in between, which were terms without a primary that this node followed, fill the gap.
// They stay, since later joiners count through them too, unless the promotion never finished.
#include "promotion.hpp"

extern "C" {
#include "postgres.h"
#include "access/timeline.h"
#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "catalog/pg_control.h"
#include "common/controldata_utils.h"
#include "common/file_perm.h"
#include "miscadmin.h"
}

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdexcept>
#include <sys/stat.h>
#include <unistd.h>

namespace pg_ha {

namespace {

constexpr Duration give_up_after = std::chrono::seconds(60);
constexpr Duration signal_every = std::chrono::milliseconds(50);
// A cluster with so many elections between two promotions is broken; do not fill its pg_wal.
constexpr std::uint32_t placeholders_max = 10000;

std::string failed(const std::string &what) { return what + ": " + std::strerror(errno); }

std::string history_path(std::uint32_t timeline) {
    char name[MAXPGPATH];
    TLHistoryFilePath(name, static_cast<TimeLineID>(timeline));
    return name;
}

std::string create_empty(const std::string &path, int flags) {
    const int fd = open(path.c_str(), O_WRONLY | O_CREAT | flags, pg_file_create_mode);
    if (fd < 0)
        return errno == EEXIST ? "" : failed("could not create " + path);
    const bool synced = fsync(fd) == 0;
    close(fd);
    return synced ? "" : failed("could not fsync " + path);
}

std::string sync_directory(const char *path) {
    const int fd = open(path, O_RDONLY | O_DIRECTORY);
    if (fd < 0)
        return failed(std::string("could not open ") + path);
    const bool synced = fsync(fd) == 0;
    close(fd);
    return synced ? "" : failed(std::string("could not fsync ") + path);
}

std::string write_placeholders(Term term, Timeline replayed) {
    if (access(history_path(raw(term)).c_str(), F_OK) == 0)
        return "timeline " + std::to_string(raw(term)) + " exists already";
    if (raw(term) - raw(replayed) > placeholders_max)
        return "term " + std::to_string(raw(term)) + " is too far ahead of timeline " + std::to_string(raw(replayed));
    bool any = false;
    for (std::uint32_t timeline = raw(replayed) + 1; timeline < raw(term); timeline++) {
        if (const std::string error = create_empty(history_path(timeline), O_EXCL); !error.empty())
            return error;
        any = true;
    }
    return any ? sync_directory(XLOGDIR) : "";
}

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
        throw std::runtime_error(failed("could not open pg_wal"));
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
// what is on disk.
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
        if (access(path, F_OK) != 0 || !contradicts(readTimeLineHistory(timeline), control))
            continue;
        ereport(LOG, (errmsg("pg_ha: removing the history file of timeline %u", timeline),
                      errdetail("This server's WAL is no part of that history.")));
        if (unlink(path) != 0)
            return "could not remove a timeline history file";
    }
    return nullptr;
}

std::string Promotion::start(Term term, Timeline replayed, Instant now) {
    if (raw(term) <= raw(replayed))
        return "term " + std::to_string(raw(term)) + " is not above timeline " + std::to_string(raw(replayed));
    if (const std::string error = write_placeholders(term, replayed); !error.empty())
        return error;
    if (const std::string error = create_empty(PROMOTE_SIGNAL_FILE, 0); !error.empty())
        return error;
    kill(PostmasterPid, SIGUSR1);
    running_ = true;
    term_ = term;
    deadline_ = now + give_up_after;
    signal_again_ = now + signal_every;
    failure_.clear();
    return "";
}

Promotion::Outcome Promotion::poll(Instant now) {
    if (!RecoveryInProgress()) {
        running_ = false;
        return Outcome::done;
    }
    if (now >= deadline_) {
        running_ = false;
        unlink(PROMOTE_SIGNAL_FILE);
        failure_ = "PostgreSQL did not leave recovery within 60 s";
        return Outcome::failed;
    }
    // The postmaster ignores the signal in some states; recovery removes the file once it has seen it.
    if (now >= signal_again_ && access(PROMOTE_SIGNAL_FILE, F_OK) == 0) {
        kill(PostmasterPid, SIGUSR1);
        signal_again_ = now + signal_every;
    }
    return Outcome::pending;
}

} // namespace pg_ha
