// SPDX-License-Identifier: PostgreSQL
//
// By PostgreSQL's own rule (CreateLockFile in miscinit.c): the lock file names a process that lives, and that is neither
// this one nor its parent.  A process of another user is no server of this directory.  In containers numbers recur, so the
// lock that a member's postmaster holds (src/server/start_gate.cpp) is looked at as well.
#include "running.hpp"

#include <csignal>
#include <cstdlib>
#include <fcntl.h>
#include <fstream>
#include <stdexcept>
#include <unistd.h>

namespace pg_ha::rejoin {

namespace {

bool locked_by_another(const std::string &path) {
    const int fd = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return false;
    struct flock found = {};
    found.l_type = F_WRLCK;
    found.l_whence = SEEK_SET;
    const bool locked = ::fcntl(fd, F_GETLK, &found) == 0 && found.l_type != F_UNLCK && found.l_pid != ::getppid();
    ::close(fd);
    return locked;
}

} // namespace

void require_server_down(const std::string &data_directory) {
    if (locked_by_another(data_directory + "/pg_ha.lock"))
        throw std::runtime_error("a server runs in \"" + data_directory + "\", perhaps in another container. Stop it; it "
                                 "finishes the rejoin itself when it is started");
    const std::string path = data_directory + "/postmaster.pid";
    std::ifstream in(path);
    long number = 0;
    if (!(in >> number)) // no such file, or one that names nobody
        return;
    const auto pid = static_cast<pid_t>(std::labs(number)); // negative: a server in single-user mode
    if (pid == 0 || pid == ::getpid() || pid == ::getppid() || ::kill(pid, 0) != 0)
        return;
    throw std::runtime_error("a server runs in \"" + data_directory + "\", or \"" + path + "\" is a leftover: process " +
                             std::to_string(pid) + " lives. Stop the server; it finishes the rejoin itself when it is started");
}

} // namespace pg_ha::rejoin
