// SPDX-License-Identifier: PostgreSQL
//
// The node worker's loop waits in epoll, not in WaitLatch, so everything that sets its latch or
// signals it must become a readable descriptor.  A second signalfd beside PostgreSQL's own works,
// because SIGURG is blocked in every child.  Our handlers write an eventfd, since SetLatch on one's
// own latch wakes only a WaitLatch.
//
// SIGQUIT is the one handler that acts: orphaned sessions must not commit for another moment.
#include "wake_sources.hpp"
#include "shmem.hpp"

extern "C" {
#include "libpq/pqsignal.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "postmaster/postmaster.h"
}

#include <cerrno>
#include <fcntl.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <system_error>
#include <unistd.h>

namespace pg_ha {

namespace {

volatile sig_atomic_t got_stop = 0;
volatile sig_atomic_t got_quit = 0;
volatile sig_atomic_t got_reload = 0;
int event_fd = -1;

void wake() {
    const int saved = errno;
    const uint64 one = 1;
    (void)!write(event_fd, &one, sizeof(one));
    errno = saved;
}

void on_stop(int) {
    got_stop = 1;
    wake();
}

void on_quit(int) {
    pg_atomic_write_u64(&shared->lease_until_ns, 0);
    got_quit = 1;
    wake();
}

void on_reload(int) {
    got_reload = 1;
    wake();
}

void on_wake(int) { wake(); }

int checked(int fd, const char *what) {
    if (fd < 0)
        throw std::system_error(errno, std::generic_category(), what);
    return fd;
}

} // namespace

WakeSources install_wake_sources() {
    event_fd = checked(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC), "could not create an eventfd");
    sigset_t urgent;
    sigemptyset(&urgent);
    sigaddset(&urgent, SIGURG);
    const int latch = checked(signalfd(-1, &urgent, SFD_NONBLOCK | SFD_CLOEXEC), "could not create a signalfd");
    const int postmaster = checked(fcntl(postmaster_alive_fds[POSTMASTER_FD_WATCH], F_DUPFD_CLOEXEC, 0),
                                   "could not watch the postmaster");
    pqsignal(SIGTERM, on_stop);
    pqsignal(SIGQUIT, on_quit);
    pqsignal(SIGHUP, on_reload);
    pqsignal(SIGUSR1, on_wake);
    BackgroundWorkerUnblockSignals();
    return {latch, event_fd, postmaster};
}

void drain(int fd) {
    char bytes[1024];
    while (read(fd, bytes, sizeof(bytes)) > 0) {
    }
}

bool stop_requested() { return got_stop != 0; }
bool quit_requested() { return got_quit != 0; }

bool take_reload_request() {
    const bool requested = got_reload != 0;
    got_reload = 0;
    return requested;
}

// The postmaster notes a stop in its lock file before it signals its children; its state is nowhere
// else to be seen.  Without a stop, SIGTERM came from somebody who wants this worker restarted.
bool postmaster_stops() {
    char text[4096];
    const int fd = open("postmaster.pid", O_RDONLY);
    if (fd < 0)
        return true;
    const ssize_t length = read(fd, text, sizeof(text) - 1);
    close(fd);
    if (length < 0)
        return true;
    text[length] = '\0';
    return strstr(text, "stopping") != nullptr;
}

} // namespace pg_ha
