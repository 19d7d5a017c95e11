// SPDX-License-Identifier: PostgreSQL
//
// The segment in which a timeline begins, made of what lies here already.  PostgreSQL streams it from its first byte,
// also the part before the fork, which the timeline before has here under another name; and recovery takes the file
// of the newest timeline.  So a standby whose stream breaks before the fork is reached has less than it had: recovery
// finds its WAL ended before the fork, on a timeline that begins there only, and ends the server ("according to
// history file, WAL location ... belongs to timeline"), now and at every later start.
//
// Here that part is copied before the stream begins; the file appears under its name when it is whole and durable.
// What is streamed over it afterwards are the same bytes.  Must never touch a file that exists.
//
// Runs in the walreceiver, where ereport(ERROR) ends the process.  No object here has a destructor.
#include "fork_segment.hpp"
#include "core/planted.hpp"

extern "C" {
#include "access/timeline.h"
#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "storage/fd.h"
}

#include <fcntl.h>
#include <sys/stat.h>
#include <cerrno>
#include <cstring>
#include <unistd.h>

namespace pg_ha {

namespace {

constexpr int chunk = 1 << 20;

bool exists(const char *path) {
    struct stat status;
    return stat(path, &status) == 0;
}

[[noreturn]] void give_up(const char *doing, const char *path, const char *temporary) {
    const int error = errno != 0 ? errno : ENOSPC; // a short write
    (void)unlink(temporary);
    errno = error;
    ereport(ERROR, (errcode_for_file_access(), errmsg("pg_ha: could not %s file \"%s\": %m", doing, path)));
    pg_unreachable();
}

// The first `length` bytes; zeros up to the end of the segment.  Startup removes what is left of it under such a name.
void copy_segment(const char *from, const char *to, int length) {
    char temporary[MAXPGPATH];
    snprintf(temporary, sizeof(temporary), XLOGDIR "/xlogtemp.%d", static_cast<int>(getpid()));
    (void)unlink(temporary);
    const int in = OpenTransientFile(from, O_RDONLY | PG_BINARY);
    if (in < 0)
        give_up("open", from, temporary);
    const int out = OpenTransientFile(temporary, O_RDWR | O_CREAT | O_EXCL | PG_BINARY);
    if (out < 0)
        give_up("create", temporary, temporary);
    auto *bytes = static_cast<char *>(palloc(chunk));
    for (int done = 0; done < wal_segment_size; done += chunk) {
        memset(bytes, 0, chunk);
        errno = 0;
        const int wanted = Min(chunk, Max(length - done, 0));
        if (wanted > 0 && read(in, bytes, static_cast<size_t>(wanted)) != wanted)
            give_up("read", from, temporary);
        errno = 0;
        if (write(out, bytes, chunk) != chunk)
            give_up("write", temporary, temporary);
    }
    pfree(bytes);
    CloseTransientFile(in);
    if (CloseTransientFile(out) != 0)
        give_up("close", temporary, temporary);
    (void)durable_rename(temporary, to, ERROR);
}

// Where the timeline that this entry stands for left the one before.
bool begins_within(const TimeLineHistoryEntry *entry, XLogRecPtr segment_start) {
    return entry->begin > segment_start && entry->begin - segment_start < static_cast<XLogRecPtr>(wal_segment_size);
}

// The newest file of an older timeline has everything before the fork: it was made or streamed in the same way.
void make_segment(const List *history, const TimeLineHistoryEntry *newest, XLogSegNo segment, XLogRecPtr segment_start) {
    char path[MAXPGPATH];
    XLogFilePath(path, newest->tli, segment, wal_segment_size);
    if (exists(path))
        return;
    for (int i = 1; i < list_length(history); i++) {
        const auto *older = static_cast<const TimeLineHistoryEntry *>(list_nth(history, i));
        char source[MAXPGPATH];
        XLogFilePath(source, older->tli, segment, wal_segment_size);
        if (!exists(source))
            continue;
        copy_segment(source, path, static_cast<int>(newest->begin - segment_start));
        return;
    }
}

} // namespace

void make_fork_segments(TimeLineID timeline, XLogRecPtr start) {
    if (timeline <= 1 || planted(Bug::fork_segment_streamed))
        return;
    List *history = readTimeLineHistory(timeline); // newest first
    const auto *newest = static_cast<const TimeLineHistoryEntry *>(linitial(history));
    for (XLogRecPtr begin = start; begin < newest->begin; begin += static_cast<XLogRecPtr>(wal_segment_size)) {
        XLogSegNo segment;
        XLByteToSeg(begin, segment, wal_segment_size);
        if (begins_within(newest, begin))
            make_segment(history, newest, segment, begin);
    }
    list_free_deep(history);
}

} // namespace pg_ha
