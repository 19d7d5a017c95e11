// SPDX-License-Identifier: PostgreSQL
//
// The postmaster's part of a rejoin: runs the helper while no other process of this server lives and
// shared memory is gone, because single-user recovery must not find any.
//
// In a crash-restart cycle the postmaster calls shmem_exit() and then starts recovery.  Our callback runs
// the callbacks after it, so that the memory is really gone, and then waits for the helper with all
// signals blocked, as they are in that place; a stop is seen because it is pending.  It never
// returns to a half-rewound directory: it tries again, or leaves when somebody wants to stop.
//
// At a start the helper runs from _PG_init.  Afterwards this program executes itself anew, for it has
// read a control file that may be another one now.
#include "agent/rejoin_journal.hpp"
#include "net/notify.hpp"

#include "entry.hpp"
#include "guc.hpp"
#include "rejoin.hpp"
#include "start_gate.hpp"

extern "C" {
#include "miscadmin.h"
#include "storage/ipc.h"
#include "utils/timestamp.h"
}

#include <csignal>
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

namespace pg_ha {

namespace {

constexpr long poll_us = 10000;
constexpr int polls_until_kill = 200;  // a helper that was told to stop gets 2 s
constexpr int polls_between_tries = 500;
constexpr int polls_between_notices = 500;
constexpr int stop_pending = -1;

// What the journal says, copied to plain memory.
struct Look {
    RejoinPhase phase;
    bool run; // the helper has to
};

Look look_at_journal() {
    Look look = {RejoinPhase::none, false};
    const Failure failure = run_cpp([&look] {
        const RejoinJournal journal = read_rejoin_journal(state_directory());
        const bool ours = journal.postmaster == 0 ||
                          (journal.postmaster == PostmasterPid && journal.postmaster_started == PgStartTime);
        look.phase = journal.phase;
        look.run = rejoin_unfinished(journal.phase) || (journal.phase == RejoinPhase::requested && ours);
        if (look.run && journal.data_directory != DataDir)
            throw std::runtime_error("the rejoin in \"" + std::string(state_directory()) + "\" is one of data directory \"" +
                                     journal.data_directory + "\"");
    });
    if (failure.failed)
        ereport(FATAL, (errmsg("pg_ha: cannot tell whether the data directory may be opened: %s", failure.text),
                        errhint("See \"A diverged old primary\" in docs/operations.md.")));
    return look;
}

bool stop_is_pending() {
    sigset_t pending;
    sigpending(&pending);
    return sigismember(&pending, SIGTERM) == 1 || sigismember(&pending, SIGINT) == 1 || sigismember(&pending, SIGQUIT) == 1;
}

void helper_path(char *path, size_t size) {
    strlcpy(path, my_exec_path, size);
    char *slash = strrchr(path, '/');
    if (slash)
        *slash = '\0';
    strlcat(path, "/pg_ha_rejoin", size);
}

// In the child: nothing of the postmaster but its log, and a group of its own, so that it can be ended whole.
[[noreturn]] void become_helper() {
    char path[MAXPGPATH];
    helper_path(path, sizeof(path));
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    for (int number = 1; number < NSIG; number++)
        signal(number, SIG_DFL);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, nullptr);
    const int input = open("/dev/null", O_RDONLY);
    if (input >= 0)
        dup2(input, 0);
    dup2(2, 1);
    close_range(3, ~0U, 0);
    execl(path, path, "--state-directory", state_directory(), static_cast<char *>(nullptr));
    _exit(127);
}

// As the first process of a container the postmaster inherits what a killed helper leaves behind, and would take it
// for a crashed backend.  Its own children have sessions of their own, so none of them is collected here.
void collect_orphans() {
    siginfo_t ended;
    for (;;) {
        ended.si_pid = 0;
        if (waitid(P_ALL, 0, &ended, WEXITED | WNOHANG | WNOWAIT) != 0 || ended.si_pid == 0 || getsid(ended.si_pid) != getsid(0))
            return;
        waitpid(ended.si_pid, nullptr, 0);
    }
}

void end_helper(pid_t helper, int *status) {
    kill(-helper, SIGTERM);
    for (int polls = 0; waitpid(helper, status, WNOHANG) == 0; polls++) {
        if (polls >= polls_until_kill)
            kill(-helper, SIGKILL);
        pg_usleep(poll_us);
    }
}

// A start may have to copy a whole database; systemd would end it at TimeoutStartSec.  Each notice gives it a minute more.
void notice(int polls) {
    if (polls % polls_between_notices == 0)
        notify_systemd("EXTEND_TIMEOUT_USEC=60000000\nSTATUS=pg_ha_rejoin is at work, see the log");
}

// Exit status of the helper, or stop_pending.
int run_helper() {
    if (stop_is_pending())
        return stop_pending;
    const pid_t helper = fork();
    if (helper == 0)
        become_helper();
    if (helper < 0) {
        ereport(LOG, (errmsg("pg_ha: could not fork: %m")));
        return rejoin_exit_failed;
    }
    setpgid(helper, helper); // whoever of the two comes first
    int status = 0;
    for (int polls = 0; waitpid(helper, &status, WNOHANG) == 0; polls++) {
        notice(polls);
        if (stop_is_pending()) {
            end_helper(helper, &status);
            return stop_pending;
        }
        pg_usleep(poll_us);
    }
    collect_orphans();
    notify_systemd("STATUS=");
    return WIFEXITED(status) ? WEXITSTATUS(status) : rejoin_exit_failed;
}

bool pause_before_retry() {
    for (int polls = 0; polls < polls_between_tries; polls++) {
        notice(polls);
        if (stop_is_pending())
            return false;
        pg_usleep(poll_us);
    }
    return true;
}

// Returns when the data directory may be opened.
void rejoin_now(const char *when) {
    ereport(LOG, (errmsg("pg_ha: running pg_ha_rejoin %s", when)));
    for (;;) {
        const int status = run_helper();
        if (status == stop_pending || (status == rejoin_exit_stopped && stop_is_pending()))
            break;
        if (!look_at_journal().run || status == rejoin_exit_given_up)
            return;
        if (look_at_journal().phase == RejoinPhase::requested) {
            ereport(LOG, (errmsg("pg_ha: pg_ha_rejoin could not do its work (status %d); nothing was touched", status)));
            return;
        }
        ereport(LOG, (errmsg("pg_ha: pg_ha_rejoin has not finished (status %d); it is run again", status),
                      errdetail("The data directory cannot be opened before it has.")));
        if (!pause_before_retry())
            break;
    }
    ereport(LOG, (errmsg("pg_ha: stopping before the rejoin is finished; the next start goes on with it")));
    proc_exit(1);
}

// In every other case the whole server ends, and there is nothing to recover.
void on_cycle(int code, Datum) {
    if (proc_exit_inprogress || MyProcPid != PostmasterPid || !look_at_journal().run)
        return;
    shmem_exit(code);
    rejoin_now("before recovery");
}

// `postgres -C setting` comes this far, too, and must change nothing.
bool only_asks_for_a_setting(const char *command, size_t size) {
    for (const char *argument = command; argument < command + size; argument += strlen(argument) + 1)
        if (strncmp(argument, "-C", 2) == 0)
            return true;
    return false;
}

size_t read_command(char *command, size_t size) {
    const int fd = open("/proc/self/cmdline", O_RDONLY);
    const ssize_t length = fd < 0 ? -1 : read(fd, command, size - 1);
    if (fd >= 0)
        close(fd);
    if (length <= 0 || static_cast<size_t>(length) >= size - 1)
        ereport(FATAL, (errmsg("could not read the command line of this server: %m")));
    command[length] = '\0';
    return static_cast<size_t>(length);
}

// Signals stay blocked on the way, so a stop that comes now is not lost.
[[noreturn]] void start_anew(char *command, size_t size) {
    char *arguments[256];
    int count = 0;
    for (char *argument = command; argument < command + size && count < 255; argument += strlen(argument) + 1)
        arguments[count++] = argument;
    arguments[count] = nullptr;
    close_range(3, ~0U, CLOSE_RANGE_CLOEXEC);
    execv(my_exec_path, arguments);
    ereport(FATAL, (errmsg("could not execute \"%s\": %m", my_exec_path)));
    pg_unreachable();
}

} // namespace

void rejoin_at_start() {
    if (IsUnderPostmaster || !start_gate_is_member())
        return;
    static char command[65536];
    const size_t size = read_command(command, sizeof(command));
    if (only_asks_for_a_setting(command, size))
        return;
    start_gate_lock_directory();
    if (access(state_directory(), F_OK) != 0 || !look_at_journal().run)
        return;
    rejoin_now("to finish what was begun");
    start_anew(command, size);
}

void rejoin_register_callback() { on_shmem_exit(on_cycle, 0); }

void rejoin_require_finished() {
    const Look look = look_at_journal();
    if (rejoin_unfinished(look.phase))
        ereport(FATAL, (errmsg("pg_ha: the data directory is in the middle of a rejoin (%s)", to_string(look.phase)),
                        errhint("Start the server again: it finishes the rejoin first.")));
}

} // namespace pg_ha
