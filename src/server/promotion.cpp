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
#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "common/file_perm.h"
#include "miscadmin.h"
}

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <signal.h>
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

} // namespace

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
