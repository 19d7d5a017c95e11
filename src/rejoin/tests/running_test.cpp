// SPDX-License-Identifier: PostgreSQL
//
// Nothing is touched under a server that runs; the postmaster that waits for us is none of those.
#include "rejoin/running.hpp"
#include "support.hpp"

#include <csignal>
#include <fcntl.h>
#include <stdexcept>
#include <sys/wait.h>
#include <unistd.h>

namespace pg_ha::rejoin {
namespace {

class RunningTest : public InDirectory {
protected:
    void lock(const std::string &pid) { spill(root_ + "/postmaster.pid", pid + "\n" + root_ + "\n"); }
};

TEST_F(RunningTest, AnotherProcessThatHoldsTheDirectoryIsRespected) {
    const pid_t server = ::fork();
    if (server == 0) {
        ::pause();
        ::_exit(0);
    }
    for (const std::string &pid : {std::to_string(server), "-" + std::to_string(server)}) {
        lock(pid);
        EXPECT_THROW(require_server_down(root_), std::runtime_error) << pid;
    }
    ::kill(server, SIGKILL);
    ::waitpid(server, nullptr, 0);
    EXPECT_NO_THROW(require_server_down(root_)) << "it is dead";
}

TEST_F(RunningTest, AnotherProcessThatHoldsTheLockIsRespectedWhateverItsNumber) {
    lock(std::to_string(::getppid())); // as process 1 of another container may be called
    spill(root_ + "/pg_ha.lock", "");
    EXPECT_NO_THROW(require_server_down(root_)) << "nobody holds it";
    int ready[2];
    ASSERT_EQ(::pipe(ready), 0);
    const pid_t server = ::fork();
    if (server == 0) {
        struct flock whole = {};
        whole.l_type = F_WRLCK;
        const bool held = ::fcntl(::open((root_ + "/pg_ha.lock").c_str(), O_RDWR), F_SETLK, &whole) == 0;
        (void)!::write(ready[1], "x", held ? 1 : 0);
        ::close(ready[1]);
        ::pause();
        ::_exit(0);
    }
    ::close(ready[1]);
    char byte;
    EXPECT_EQ(::read(ready[0], &byte, 1), 1);
    EXPECT_THROW(require_server_down(root_), std::runtime_error);
    ::kill(server, SIGKILL);
    ::waitpid(server, nullptr, 0);
    ::close(ready[0]);
    EXPECT_NO_THROW(require_server_down(root_)) << "it is dead";
}

TEST_F(RunningTest, OurOwnPostmasterIsNoObstacle) {
    EXPECT_NO_THROW(require_server_down(root_)) << "no lock file";
    for (const std::string &pid : {std::to_string(::getppid()), std::to_string(::getpid()), std::string("0"), std::string("?")}) {
        lock(pid);
        EXPECT_NO_THROW(require_server_down(root_)) << pid;
    }
}

} // namespace
} // namespace pg_ha::rejoin
