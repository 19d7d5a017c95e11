// SPDX-License-Identifier: PostgreSQL
//
// The start gate: no member wakes up as a second primary, whoever starts it (design, promise 3), and
// none goes on as primary after a crash restart: its peers were told that it is gone, and what it
// wrote as primary after crash recovery nobody else would have.
//
// A data directory with the cluster's secret belongs to a member.  It comes up as a standby, which
// holds until it is elected.  The one exception is a cluster whose only voter is this very server:
// nobody else can have been elected meanwhile.  Any doubt about that (no state, unreadable state,
// another cluster's state) means standby.  An unreadable state directory stops the start: it is an
// operator's mistake that a wrong identity would make worse.
#include "agent/state_file.hpp"
#include "core/planted.hpp"
#include "net/runtime.hpp"

#include "entry.hpp"
#include "guc.hpp"
#include "start_gate.hpp"
#include "timeline_files.hpp"
#include "verification.hpp"

extern "C" {
#include "access/xlog.h"
#include "access/xlogrecovery.h"
#include "common/file_perm.h"
#include "miscadmin.h"
#include "utils/guc.h"
}

#include <cerrno>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace pg_ha {

namespace {

constexpr const char *placeholder_conninfo = "application_name=pg_ha_chooses_the_primary";
constexpr const char *lock_file = "pg_ha.lock"; // in the data directory; src/rejoin/running.cpp looks at it, too
constexpr int lock_tries = 500;                 // of 10 ms: a server that ends removes postmaster.pid a little earlier

bool sync_path(const char *path, int flags) {
    const int fd = open(path, flags);
    if (fd < 0)
        return false;
    const bool done = fsync(fd) == 0;
    const int error = errno;
    close(fd);
    errno = error;
    return done;
}

// Null: this server alone is the cluster and may start as it is.  Otherwise why it must not.
const char *why_standby() {
    if (guc_node_name[0] == '\0')
        return "pg_ha.node_name is not set, so this server cannot know whether it may be the primary";
    const StateView view = read_state(state_directory(), echo_file_name);
    if (view.condition == StateCondition::missing)
        return "this server has no state of its own yet";
    if (view.condition == StateCondition::corrupt)
        return "its state file is not readable";
    if (view.condition != StateCondition::valid)
        return "its state directory and its data directory do not belong together any more";
    const Configuration &configuration = view.state.configuration;
    if (configuration.cluster != read_secret(secret_file()).cluster ||
        configuration.system_identifier != GetSystemIdentifier() || view.state.node_name != guc_node_name)
        return "its state belongs to another cluster, server or node name";
    if (!configuration.is_voter(view.state.self) || configuration.voter_count() > 1)
        return "a member waits for its election";
    return nullptr;
}

void require_readable_state_directory() {
    if (access(state_directory(), R_OK | W_OK | X_OK) != 0 && errno != ENOENT)
        ereport(FATAL, (errcode_for_file_access(),
                        errmsg("could not access state directory \"%s\" of pg_ha: %m", state_directory()),
                        errdetail("This server is a member of a cluster; its term and its vote are kept there."),
                        errhint("Make the directory accessible to the server's user, or correct "
                                "pg_ha.state_directory.")));
}

// Recovery asks for WAL only while primary_conninfo is not empty; the gate chooses the real one.
void pin_conninfo() {
    const char *present = PrimaryConnInfo && PrimaryConnInfo[0] != '\0' ? PrimaryConnInfo : placeholder_conninfo;
    char copy[1024];
    strlcpy(copy, present, sizeof(copy));
    SetConfigOption("primary_conninfo", copy, PGC_POSTMASTER, PGC_S_OVERRIDE);
}

} // namespace

bool start_gate_is_member() {
    struct stat unused;
    // Anything but a clear "not there" counts as a member: fencing too much loses nothing.
    return stat(secret_file(), &unused) == 0 || (errno != ENOENT && errno != ENOTDIR);
}

// postmaster.pid names a process, and in two containers with one volume both may have the same number, as a rule 1.  This
// lock is the kernel's: held as long as the postmaster lives, by nobody that it leaves behind.
void start_gate_lock_directory() {
    const int fd = open(lock_file, O_RDWR | O_CREAT | O_CLOEXEC, pg_file_create_mode);
    if (fd < 0)
        ereport(FATAL, (errcode_for_file_access(), errmsg("could not open lock file \"%s\": %m", lock_file)));
    struct flock whole = {};
    whole.l_type = F_WRLCK;
    whole.l_whence = SEEK_SET;
    for (int tries = 0; fcntl(fd, F_SETLK, &whole) != 0; tries++) {
        if (errno != EACCES && errno != EAGAIN)
            ereport(FATAL, (errcode_for_file_access(), errmsg("could not lock file \"%s\": %m", lock_file)));
        if (tries == lock_tries)
            ereport(FATAL, (errcode(ERRCODE_LOCK_FILE_EXISTS),
                            errmsg("pg_ha: another server works in data directory \"%s\"", DataDir),
                            errhint("It may run in another container with the same volume.")));
        pg_usleep(10000);
    }
}

const char *write_standby_signal() {
    const int fd = open(STANDBY_SIGNAL_FILE, O_WRONLY | O_CREAT, pg_file_create_mode);
    if (fd < 0)
        return "could not create standby.signal";
    close(fd);
    if (!sync_path(STANDBY_SIGNAL_FILE, O_RDWR))
        return "could not fsync standby.signal";
    if (!sync_path(".", O_RDONLY))
        return "could not fsync the data directory";
    return nullptr;
}

void start_gate() {
    require_readable_state_directory();
    pin_conninfo();
    if (const char *error = remove_stale_placeholders())
        ereport(FATAL, (errcode_for_file_access(), errmsg("%s: %m", error)));

    if (planted(Bug::start_gate_open))
        return;
    const char *reason = nullptr;
    const Failure failure = run_cpp([&reason] { reason = why_standby(); });
    if (!failure.failed && reason == nullptr)
        return;
    verification_at_start();
    const bool was_standby = access(STANDBY_SIGNAL_FILE, F_OK) == 0;
    const char *error = write_standby_signal();
    if (error != nullptr)
        ereport(FATAL, (errcode_for_file_access(), errmsg("%s: %m", error),
                        errdetail("pg_ha must start this server as a standby.")));
    if (const char *fault = remove_foreign_histories())
        ereport(FATAL, (errcode_for_file_access(), errmsg("%s: %m", fault)));
    int made = 0;
    const Failure incomplete = run_cpp([&made] { made = complete_histories(); });
    if (incomplete.failed)
        ereport(FATAL, (errmsg("pg_ha: %s", incomplete.text), errdetail("Recovery would not find the newest timeline."),
                        errhint("Make sure that the server can write to pg_wal, then start it again.")));
    if (made > 0)
        ereport(LOG, (errmsg("pg_ha: %d missing timeline history files were made from the newest one", made)));
    ereport(LOG, (errmsg("pg_ha: starting as a standby: %s", failure.failed ? failure.text : reason),
                  was_standby ? 0 : errdetail("standby.signal was created.")));
}

} // namespace pg_ha
