// SPDX-License-Identifier: PostgreSQL
//
// The flag in shared memory, and the file `unverified` in the state directory that keeps it over restarts:
// a server that went down as a primary comes up as a standby, and the next time its control file does
// not say any more what it was.  Where the file cannot be written the flag still holds until the next
// restart, so nothing here stops a server.
#include "verification.hpp"

#include "guc.hpp"
#include "shmem.hpp"

extern "C" {
#include "catalog/pg_control.h"
#include "common/controldata_utils.h"
#include "miscadmin.h"
}

#include <cerrno>
#include <fcntl.h>
#include <unistd.h>

namespace pg_ha {

namespace {

void marker_path(char *path, size_t size) { snprintf(path, size, "%s/unverified", state_directory()); }

bool marker_exists() {
    char path[MAXPGPATH];
    marker_path(path, sizeof(path));
    return access(path, F_OK) == 0;
}

bool sync_and_close(int fd) {
    const bool synced = fd >= 0 && fsync(fd) == 0;
    const int error = errno;
    if (fd >= 0)
        close(fd);
    errno = error;
    return synced;
}

void write_marker() {
    char path[MAXPGPATH];
    marker_path(path, sizeof(path));
    if (sync_and_close(open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600)) &&
        sync_and_close(open(state_directory(), O_RDONLY | O_DIRECTORY | O_CLOEXEC))) // or its name may be lost with the power
        return;
    if (errno != ENOENT) // no state directory yet
        ereport(LOG, (errcode_for_file_access(), errmsg("could not write file \"%s\": %m", path)));
}

bool went_down_as_primary() {
    bool valid = false;
    ControlFileData *control = get_controlfile(DataDir, &valid);
    const bool primary = valid && control->state == DB_IN_PRODUCTION;
    pfree(control);
    return primary;
}

} // namespace

void verification_at_start() {
    const bool crashed = went_down_as_primary();
    if (crashed)
        write_marker();
    pg_atomic_write_u32(&shared->unverified, crashed || marker_exists());
}

bool is_unverified() { return pg_atomic_read_u32(&shared->unverified) != 0; }

void verification_needed() {
    if (is_unverified())
        return;
    pg_atomic_write_u32(&shared->unverified, 1);
    write_marker();
}

void verification_done() {
    if (!is_unverified())
        return;
    char path[MAXPGPATH];
    marker_path(path, sizeof(path));
    if (unlink(path) != 0 && errno != ENOENT)
        ereport(LOG, (errcode_for_file_access(), errmsg("could not remove file \"%s\": %m", path)));
    pg_atomic_write_u32(&shared->unverified, 0);
}

} // namespace pg_ha
