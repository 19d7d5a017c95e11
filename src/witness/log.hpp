// SPDX-License-Identifier: PostgreSQL
//
// Lines for people on standard error, in one write() each, so that clusters in several threads never
// mix.  Under systemd the journal adds time and process, and "<4>" tells it the level.
#pragma once

#include <string>

namespace pg_ha {

enum class LogLevel { error = 3, warning = 4, info = 6, debug = 7 };

// Before threads start.  `debug`: lines of that level are wanted.
void open_log(bool debug);

// `source`: the cluster's section; may be empty.
void write_log(LogLevel level, const std::string &source, const std::string &text);

} // namespace pg_ha
