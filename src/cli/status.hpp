// SPDX-License-Identifier: PostgreSQL
//
// pg_hactl status and watch: the cluster as its members tell it.  Of those that can be reached the one
// that knows most is believed: one with a quorum and a primary before one that is cut off.
//
// Must never call a cluster healthy because something could not be read.
#pragma once

#include "failure.hpp"
#include "session.hpp"

#include <string>
#include <vector>

namespace pg_ha::cli {

struct View {
    Answer cluster{{}, {}}; // one row of ha_cluster
    Answer members{{}, {}}; // rows of ha_members
    std::string cluster_json, members_json;
    std::string asked; // name of the member
};

struct Health {
    ExitStatus status = exit_done; // exit_done, exit_failed (degraded) or exit_no_primary
    std::vector<std::string> problems;
};
Health judge(const View &view);
const char *word_for(ExitStatus health); // "healthy"

std::string format_status(const View &view, const Health &health);
std::string format_json(const View &view, const Health &health);

struct StatusOptions {
    Conninfo conninfo;
    bool json = false;
    double interval = 2; // of watch, seconds
    unsigned count = 0;  // of watch; 0: without end
};
View look(const Conninfo &conninfo); // throws Failure with exit_unreachable
int run_status(const StatusOptions &options);
int run_watch(const StatusOptions &options);

} // namespace pg_ha::cli
