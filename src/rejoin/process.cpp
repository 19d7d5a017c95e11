// SPDX-License-Identifier: PostgreSQL
#include "process.hpp"

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <ctime>
#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <system_error>
#include <unistd.h>

namespace pg_ha::rejoin {

namespace {

constexpr int look_every_ms = 20;
constexpr int leave_after_looks = 100;
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

// A process between us and the program, which leads their group and outlives neither of the two.
[[noreturn]] void keep_group(const std::vector<std::string> &command, int output, pid_t parent) {
    if (::setpgid(0, 0) != 0)
        ::_exit(126); // from here on kill(0, ...) means this group only
    std::signal(SIGTERM, [](int) { ::kill(0, SIGKILL); });
    ::prctl(PR_SET_PDEATHSIG, SIGTERM);
    ::prctl(PR_SET_CHILD_SUBREAPER, 1); // or in a container the postmaster inherits them
    if (::getppid() != parent)
        ::_exit(126);
    const pid_t child = ::fork();
    if (child == 0) {
        std::signal(SIGTERM, SIG_DFL);
        become(command, output);
    }
    ::close(output);
    int status = 126 << 8;
    while (child > 0 && ::waitpid(child, &status, 0) < 0 && errno == EINTR)
        continue;
    std::signal(SIGTERM, SIG_IGN);
    ::kill(0, SIGTERM); // those that it left behind
    for (int looks = 0; looks < leave_after_looks && ::waitpid(-1, nullptr, WNOHANG) >= 0; looks++)
        ::usleep(look_every_ms * 1000);
    ::_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 125);
}

void write_out(const std::string &text) {
    if (::write(2, text.data(), text.size()) < 0)
        return; // nobody reads the log; that is no reason to fail
}

enum class End { of_output, enough, stopped };

class Ear {
public:
    Ear(std::string &output, Echo echo, const Hear &hear) : output_(output), echo_(echo), hear_(hear) {}
    End listen_to(int fd);

private:
    bool take_lines(); // false: enough
    bool take(const std::string &line);

    std::string &output_;
    std::string pending_; // the line that has not ended yet
    const Echo echo_;
    const Hear &hear_;
};

End Ear::listen_to(int fd) {
    for (;;) {
        if (stop_asked)
            return End::stopped;
        pollfd wait{fd, POLLIN, 0};
        if (::poll(&wait, 1, look_every_ms) <= 0)
            continue;
        char piece[4096];
        const ssize_t n = ::read(fd, piece, sizeof piece);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return take(pending_) ? End::of_output : End::enough;
        pending_.append(piece, static_cast<std::size_t>(n));
        if (!take_lines())
            return End::enough;
    }
}

bool Ear::take_lines() {
    for (std::size_t end = 0; (end = pending_.find('\n')) != std::string::npos;) {
        const std::string line = pending_.substr(0, end + 1);
        pending_.erase(0, end + 1);
        if (!take(line))
            return false;
    }
    return true;
}

bool Ear::take(const std::string &line) {
    const Heard heard = hear_ ? hear_(line) : Heard::a_line;
    if (heard == Heard::progress)
        return true;
    output_ += line;
    if (echo_ == Echo::on)
        write_out(line);
    return heard != Heard::enough;
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
    timespec now = {};
    ::clock_gettime(CLOCK_REALTIME, &now);
    tm parts = {};
    ::gmtime_r(&now.tv_sec, &parts);
    char day[32], stamp[64];
    std::strftime(day, sizeof day, "%Y-%m-%d %H:%M:%S", &parts);
    std::snprintf(stamp, sizeof stamp, "%s.%03ld UTC [%d] ", day, now.tv_nsec / 1000000, static_cast<int>(::getpid()));
    const std::string text = std::string(stamp) + "pg_ha_rejoin: " + line + "\n";
    write_out(text);
}

Ran run(const std::vector<std::string> &command, Echo echo, const Hear &hear, Family family) {
    leave_if_stopped();
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0)
        fail("could not create a pipe");
    const pid_t self = ::getpid(), child = ::fork();
    if (child < 0)
        fail("could not fork");
    if (child == 0 && family == Family::group)
        keep_group(command, ends[1], self);
    if (child == 0)
        become(command, ends[1]);
    ::close(ends[1]);
    if (family == Family::group)
        ::setpgid(child, child); // whoever of us comes first
    Ran ran;
    const End end = Ear(ran.output, echo, hear).listen_to(ends[0]);
    ::close(ends[0]);
    if (end != End::of_output)
        ::kill(family == Family::group ? -child : child, SIGKILL);
    while (::waitpid(child, &ran.status, 0) < 0 && errno == EINTR)
        continue;
    leave_if_stopped();
    if (end == End::enough)
        ran.status = 0;
    return ran;
}

std::string last_lines(const std::string &output) {
    constexpr std::size_t most = 600;
    std::string text = output;
    if (output.size() > most)
        text.erase(0, output.find('\n', output.size() - most) + 1); // from the beginning of a line
    while (!text.empty() && text.back() == '\n')
        text.pop_back();
    return text;
}

} // namespace pg_ha::rejoin
