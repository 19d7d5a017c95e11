// SPDX-License-Identifier: PostgreSQL
#include "status.hpp"

#include "rejoin/process.hpp"
#include "table.hpp"

#include <algorithm>
#include <ctime>
#include <iostream>
#include <set>
#include <time.h>
#include <unistd.h>

namespace pg_ha::cli {

namespace {

// Columns of ha_members that the table shows or that are of no use to people; whatever else a server
// tells of a member (how far a rejoin has come) is shown below it under its own name.
const std::set<std::string> shown_columns = {
    "name",      "kind",      "role",         "liveness",      "is_primary",    "is_self",   "voter",
    "priority",  "term",      "timeline",     "lsn",           "replayed_lsn",  "lag_bytes", "lag",
    "streaming", "last_heard", "in_recovery", "postgres_host", "postgres_port", "peer_host", "peer_port",
    "node_id",   "reason",    "incarnation",  "in_sync_set"};

std::string vote_of(const Answer &members, std::size_t row) {
    if (!members.is_true(row, "voter"))
        return "learner";
    return members.is_true(row, "in_sync_set") ? "voter, sync" : "voter";
}

std::string lag_of(const Answer &members, std::size_t row) {
    const auto bytes = members.get(row, "lag_bytes");
    return bytes ? format_bytes(std::strtoull(bytes->c_str(), nullptr, 10)) : "";
}

std::string address_of(const Answer &members, std::size_t row) {
    const bool witness = members.text(row, "kind") == "witness";
    return members.text(row, witness ? "peer_host" : "postgres_host") + ":" +
           members.text(row, witness ? "peer_port" : "postgres_port");
}

std::string format_members(const Answer &members) {
    std::vector<std::vector<std::string>> rows = {
        {"NAME", "ADDRESS", "ROLE", "LIVENESS", "VOTE", "STREAMS", "TIMELINE", "LSN", "LAG"}};
    for (std::size_t row = 0; row < members.rows(); row++) {
        const bool witness = members.text(row, "kind") == "witness";
        rows.push_back({members.text(row, "name"), address_of(members, row),
                        witness ? "witness" : members.text(row, "role"), members.text(row, "liveness"),
                        vote_of(members, row), witness ? "" : members.is_true(row, "streaming") ? "yes" : "no",
                        members.text(row, "timeline"), members.text(row, "lsn"), lag_of(members, row)});
    }
    return format_table(rows);
}

std::string format_details(const Answer &members) {
    std::string text;
    for (std::size_t row = 0; row < members.rows(); row++) {
        std::string line;
        for (const std::string &column : members.columns())
            if (const auto value = members.get(row, column); value && !value->empty() && !shown_columns.contains(column))
                line += (line.empty() ? "" : ", ") + column + " " + *value;
        if (const std::string reason = members.text(row, "reason"); !reason.empty())
            line = reason + (line.empty() ? "" : "; ") + line;
        if (!line.empty())
            text += "  " + members.text(row, "name") + ": " + line + "\n";
    }
    return text;
}

View look_at_one(const Conninfo &conninfo) {
    Session session(conninfo);
    const std::string schema = session.required_schema();
    View view;
    view.cluster = session.ask("SELECT * FROM " + schema + "ha_cluster");
    view.members = session.ask("SELECT * FROM " + schema + "ha_members ORDER BY name");
    view.cluster_json = session.value("SELECT pg_catalog.row_to_json(c) FROM " + schema + "ha_cluster c");
    view.members_json = session.value("SELECT coalesce(pg_catalog.json_agg(m), '[]') FROM " + schema + "ha_members m");
    view.asked = view.cluster.text(0, "node_name");
    return view;
}

void write_out(const std::string &text) { std::cout << text << std::flush; }

std::string now_text() {
    const std::time_t now = std::time(nullptr);
    std::tm parts = {};
    ::localtime_r(&now, &parts);
    char text[64];
    std::strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", &parts);
    return text;
}

std::string round_of_watch(const StatusOptions &options, int &status) {
    try {
        const View view = look(options.conninfo);
        const Health health = judge(view);
        status = health.status;
        return options.json ? format_json(view, health) : format_status(view, health);
    } catch (const Failure &failure) {
        if (failure.status() == exit_misused)
            throw;
        status = failure.status();
        if (options.json) // one object for each round, whatever happens
            return "{\"health\": null}\n";
        return std::string("no member can be asked: ") + failure.what() + "\n";
    }
}

void pause(double seconds) {
    for (double left = seconds; left > 0; left -= 0.02) {
        rejoin::leave_if_stopped();
        ::usleep(20000);
    }
}

} // namespace

Health judge(const View &view) {
    Health health;
    const auto degraded = [&health](const std::string &problem) {
        health.problems.push_back(problem);
        health.status = std::max(health.status, exit_failed);
    };
    const auto headless = [&health](const std::string &problem) {
        health.problems.push_back(problem);
        health.status = exit_no_primary;
    };
    const Answer &cluster = view.cluster, &members = view.members;
    bool primary = false;
    for (std::size_t row = 0; row < members.rows(); row++) {
        const std::string name = members.text(row, "name"), liveness = members.text(row, "liveness");
        const bool is_primary = members.is_true(row, "is_primary");
        primary = primary || (is_primary && liveness == "alive");
        if (liveness != "alive")
            degraded(name + " is " + (liveness.empty() ? "not known to be alive" : liveness));
        else if (members.text(row, "kind") != "witness" && !is_primary && !members.is_true(row, "streaming"))
            degraded(name + " does not stream");
    }
    if (!primary)
        headless("no primary is known to " + view.asked);
    if (!cluster.is_true(0, "quorum"))
        headless(view.asked + " does not hear a majority of the voters");
    if (cluster.get(0, "lease_left") == "00:00:00")
        headless("the primary's lease has run out: it acknowledges nothing");
    if (!cluster.is_true(0, "failover_possible")) {
        const std::string why = cluster.text(0, "failover_reason");
        degraded("a failover is not possible" + (why.empty() ? "" : ": " + why));
    }
    return health;
}

const char *word_for(ExitStatus health) {
    switch (health) {
    case exit_done: return "healthy";
    case exit_failed: return "degraded";
    default: return "no primary";
    }
}

std::string format_status(const View &view, const Health &health) {
    const Answer &c = view.cluster;
    std::string text = std::string(word_for(health.status)) + ": primary " +
                       c.get(0, "primary_name").value_or("unknown") + ", term " + c.text(0, "term") + ", " +
                       c.text(0, "voters") + " voters, " + c.text(0, "members") + " members, write quorum " +
                       c.get(0, "write_quorum").value_or("unknown") + " of " + c.get(0, "sync_set").value_or("unknown") +
                       " (asked " + view.asked + ")\n";
    for (const std::string &problem : health.problems)
        text += "  ! " + problem + "\n";
    text += "\n" + format_members(view.members);
    if (const std::string details = format_details(view.members); !details.empty())
        text += "\n" + details;
    return text;
}

std::string format_json(const View &view, const Health &health) {
    std::string problems;
    for (const std::string &problem : health.problems)
        problems += (problems.empty() ? "" : ", ") + quote_json(problem);
    return "{\"health\": \"" + std::string(word_for(health.status)) + "\", \"asked\": " + quote_json(view.asked) +
           ", \"problems\": [" + problems + "], \"cluster\": " + view.cluster_json + ", \"members\": " +
           view.members_json + "}\n";
}

// A cut-off member answers, too; so the others are asked as long as nobody knows of a primary.
View look(const Conninfo &conninfo) {
    std::optional<View> best;
    std::string why, hint;
    for (const Conninfo &one : conninfo.single_hosts()) {
        try {
            View view = look_at_one(one);
            const bool good = judge(view).status != exit_no_primary;
            if (good || !best)
                best = std::move(view);
            if (good)
                return *best;
        } catch (const Failure &failure) {
            rejoin::leave_if_stopped();
            if (!why.empty())
                why += "\n";
            why += failure.what();
            hint = failure.hint();
        }
    }
    if (!best)
        throw Failure(why, hint, exit_unreachable);
    return *best;
}

int run_status(const StatusOptions &options) {
    const View view = look(options.conninfo);
    const Health health = judge(view);
    write_out(options.json ? format_json(view, health) : format_status(view, health));
    return health.status;
}

int run_watch(const StatusOptions &options) {
    const bool screen = ::isatty(STDOUT_FILENO) && !options.json;
    int status = exit_done;
    try {
        for (unsigned round = 1;; round++) {
            const std::string text = round_of_watch(options, status);
            if (options.json)
                write_out(text);
            else
                write_out((screen ? "\033[H\033[2J" : "") + now_text() + "  " + text + (screen ? "" : "\n"));
            if (round == options.count)
                return status;
            pause(options.interval);
        }
    } catch (const rejoin::Stopped &) {
        return status;
    }
}

} // namespace pg_ha::cli
