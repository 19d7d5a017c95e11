// SPDX-License-Identifier: PostgreSQL
//
// LD_PRELOAD for servers of a test: every fdatasync() takes PG_HA_SLOW_FLUSH_US longer, as on a busy disk.
// What PostgreSQL has written is then, nearly always, not flushed yet.
#include <cstdlib>
#include <sys/syscall.h>
#include <unistd.h>

extern "C" int fdatasync(int fd) {
    const char *delay = std::getenv("PG_HA_SLOW_FLUSH_US");
    if (delay)
        usleep(static_cast<useconds_t>(std::atoi(delay)));
    return static_cast<int>(syscall(SYS_fdatasync, fd));
}
