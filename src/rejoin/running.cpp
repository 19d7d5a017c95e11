// SPDX-License-Identifier: PostgreSQL
//
// By PostgreSQL's own rule (CreateLockFile in miscinit.c): the lock file names a process that lives, and that is neither
// this one nor its parent.  A process of another user is no server of this directory.
#include "running.hpp"

#include <csignal>
#include <cstdlib>
#include <fstream>
#include <stdexcept>
#include <unistd.h>

namespace pg_ha::rejoin {

void require_server_down(const std::string &data_directory) {
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
