// SPDX-License-Identifier: PostgreSQL
//
// pg_hactl clone: a new standby from a running member, by pg_basebackup, or from a directory that was
// restored from a backup.  Whatever can be checked is checked before anything is written.
//
// Must never touch a directory that it did not make, and never leave one behind that PostgreSQL would
// open although it is not complete.
#pragma once

#include "conninfo.hpp"

#include <map>
#include <string>

namespace pg_ha::cli {

struct CloneOptions {
    std::string directory;
    Conninfo from;
    std::string source;      // name of a member; empty: the server that `from` reaches
    std::string config_file; // empty: Debian's for that directory, or the one inside it
    std::string rate;        // as pg_basebackup's --max-rate
    std::map<std::string, std::string> settings; // that the new server shall have
    std::map<std::string, std::string> mapping;  // of tablespaces
    bool restored = false;
    bool check_only = false;
    bool no_sync = false;
};

int run_clone(const CloneOptions &options); // throws Failure

} // namespace pg_ha::cli
