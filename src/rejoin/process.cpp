// SPDX-License-Identifier: PostgreSQL
#include "process.hpp"

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <system_error>
#include <unistd.h>

namespace pg_ha::rejoin {

namespace {

constexpr int look_every_ms = 20;
volatile std::sig_atomic_t stop_asked = 0;

[[noreturn]] void fail(const char *what) { throw std::system_error(errno, std::generic_category(), what); }

[[noreturn]] void become(const std::vector<std::string> &command, int output) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    const int input = ::open("/dev/null", O_RDONLY);
    if (input < 0 || ::dup2(input, 0) < 0 || ::dup2(output, 1) < 0 || ::dup2(output, 2) < 0)
        ::_exit(126);
    std::vector<char *> arguments;
    for (const std::string &argument : command)
        arguments.push_back(const_cast<char *>(argument.c_str()));
    arguments.push_back(nullptr);
    ::execv(arguments[0], arguments.data());
    ::_exit(127);
}

// Until the pipe ends; false: somebody wants us to stop.
bool listen_to(int fd, std::string &output, Echo echo) {
    for (;;) {
        if (stop_asked)
            return false;
        pollfd wait{fd, POLLIN, 0};
        if (::poll(&wait, 1, look_every_ms) <= 0)
            continue;
        char piece[4096];
        const ssize_t n = ::read(fd, piece, sizeof piece);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return true;
        output.append(piece, static_cast<std::size_t>(n));
        if (echo == Echo::on && ::write(2, piece, static_cast<std::size_t>(n)) < 0)
            continue; // nobody reads the log; that is no reason to fail
    }
}

} // namespace

void listen_for_stop() {
    struct sigaction action = {};
    action.sa_handler = [](int) { stop_asked = 1; };
    for (const int signal : {SIGTERM, SIGINT, SIGQUIT})
        ::sigaction(signal, &action, nullptr);
    std::signal(SIGPIPE, SIG_IGN);
}

void leave_if_stopped() {
    if (stop_asked)
        throw Stopped{};
}

void wait_a_second() {
    for (int i = 0; i < 1000 / look_every_ms; i++) {
        leave_if_stopped();
        ::usleep(look_every_ms * 1000);
    }
}

void say(const std::string &line) {
    const std::string text = "pg_ha_rejoin: " + line + "\n";
    if (::write(2, text.data(), text.size()) < 0)
        return;
}

Ran run(const std::vector<std::string> &command, Echo echo) {
    leave_if_stopped();
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0)
        fail("could not create a pipe");
    const pid_t child = ::fork();
    if (child < 0)
        fail("could not fork");
    if (child == 0)
        become(command, ends[1]);
    ::close(ends[1]);
    Ran ran;
    const bool ended = listen_to(ends[0], ran.output, echo);
    ::close(ends[0]);
    if (!ended)
        ::kill(child, SIGKILL);
    while (::waitpid(child, &ran.status, 0) < 0 && errno == EINTR)
        continue;
    leave_if_stopped();
    return ran;
}

std::string last_lines(const std::string &output) {
    constexpr std::size_t most = 600;
    std::string text = output.size() > most ? output.substr(output.size() - most) : output;
    while (!text.empty() && text.back() == '\n')
        text.pop_back();
    return text;
}

} // namespace pg_ha::rejoin
