// SPDX-License-Identifier: PostgreSQL
//
// What the user asked for.  Each subcommand's options in one place, with the text of its --help; what is
// wrong on the command line is said before anything is contacted or touched.
#pragma once

#include "clone.hpp"
#include "diverged.hpp"
#include "operator.hpp"
#include "status.hpp"

#include <variant>

namespace pg_ha::cli {

struct HelpText {
    std::string text;
};
enum class StatusMode { once, watch };
struct StatusCommand {
    StatusMode mode = StatusMode::once;
    StatusOptions options;
};
using Command = std::variant<HelpText, StatusCommand, CloneOptions, DivergedOptions, OrderOptions>;

// Without the program's name.  Throws Failure with exit_misused.
Command parse_command_line(const std::vector<std::string> &arguments);

} // namespace pg_ha::cli
