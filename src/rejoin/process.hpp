// SPDX-License-Identifier: PostgreSQL
//
// Other programs, run to their end and heard; and the wish to stop, which ends them at once.  Killing any
// of them at any moment is allowed: every step of the helper can be done again.
#pragma once

#include <functional>
#include <string>
#include <vector>

namespace pg_ha::rejoin {

struct Stopped {}; // thrown when somebody wants the server to stop

void listen_for_stop();  // SIGTERM, SIGINT, SIGQUIT
void leave_if_stopped(); // throws Stopped
void wait_a_second();    // throws Stopped

void say(const std::string &line); // to the server's log

struct Ran {
    int status = 0; // 0: success
    std::string output;
};
enum class Echo { on, off };
// What to do with a line that a program says: keep and echo it, drop it, or keep it and end the program there,
// which counts as success.
enum class Heard { a_line, progress, enough };
using Hear = std::function<Heard(const std::string &line)>;
// group: the program starts others of its own (pg_basebackup one for the WAL); when it ends, or we do, in
// whatever way, none of them stays behind.
enum class Family { single, group };
// Standard input is empty; what it says goes to the server's log as well.
Ran run(const std::vector<std::string> &command, Echo echo = Echo::on, const Hear &hear = {},
        Family family = Family::single);
std::string last_lines(const std::string &output); // for messages

} // namespace pg_ha::rejoin
