// SPDX-License-Identifier: PostgreSQL
//
// pg_ha_rejoin: carries out the rejoin that the journal in the state directory tells of.  The server runs
// it before it opens its data directory; a person may, while the server is down.
#include "process.hpp"
#include "rewind.hpp"
#include "running.hpp"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <fcntl.h>
#include <string>
#include <sys/file.h>
#include <sys/stat.h>

namespace {

using namespace pg_ha;
using namespace pg_ha::rejoin;

// Held until this process ends; a second helper, or the helper of a second server, waits in vain.
bool take_lock(const std::string &state_directory) {
    const int fd = ::open((state_directory + "/rejoin.lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    return fd >= 0 && ::flock(fd, LOCK_EX | LOCK_NB) == 0;
}

int go(const std::string &state_directory) {
    if (!take_lock(state_directory)) {
        say("another pg_ha_rejoin works in \"" + state_directory + "\"");
        return rejoin_exit_failed;
    }
    try {
        require_server_down(read_rejoin_journal(state_directory).data_directory);
        return carry_out(state_directory) == Outcome::done ? rejoin_exit_done : rejoin_exit_given_up;
    } catch (const Stopped &) {
        say("stopped; it goes on at the next start");
        return rejoin_exit_stopped;
    } catch (const std::exception &error) {
        say(error.what());
        return rejoin_exit_failed;
    }
}

} // namespace

int main(int argc, char **argv) {
    if (argc == 2 && std::strcmp(argv[1], "--format") == 0)
        return std::printf("%d\n", rejoin_format) > 0 ? 0 : 1;
    if (argc != 3 || std::strcmp(argv[1], "--state-directory") != 0) {
        std::fprintf(stderr, "Usage: pg_ha_rejoin --state-directory DIR\n"
                             "Finishes an interrupted rejoin of a server that is down. The server does it itself when started.\n");
        return 2;
    }
    ::setenv("LC_ALL", "C", 1); // what pg_rewind and pg_controldata say is read here
    ::setenv("PGOPTIONS", "-c jit=off", 1); // pg_rewind's one big query takes longer to compile than to run
    ::umask(077);
    listen_for_stop();
    return go(argv[2]);
}
