// SPDX-License-Identifier: PostgreSQL
#include "operator.hpp"

#include "failure.hpp"
#include "rejoin/process.hpp"
#include "session.hpp"

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <optional>
#include <unistd.h>
#include <vector>

namespace pg_ha::cli {

namespace {

using Clock = std::chrono::steady_clock;

constexpr auto successor_within = std::chrono::seconds(60);

struct Primary {
    std::unique_ptr<Session> session;
    std::string schema, name;
};

// What everybody may ask.
std::optional<Primary> primary_at(const Conninfo &conninfo, std::optional<Conninfo> *says = nullptr) {
    auto session = std::make_unique<Session>(conninfo);
    const std::string schema = session->required_schema();
    const Answer answer = session->ask("SELECT " + schema + "ha_is_primary() AS here, name, host, port FROM " + schema + "ha_primary()");
    if (answer.is_true(0, "here"))
        return Primary{std::move(session), schema, answer.text(0, "name")};
    if (says && answer.get(0, "host")) {
        *says = conninfo;
        (*says)->set_server(answer.text(0, "host"), answer.text(0, "port"));
    }
    return std::nullopt;
}

// Through any member: it is the primary, or says who is.
Primary find_primary(const Conninfo &conninfo) {
    std::string why, hint;
    bool answered = false;
    const auto failed = [&](const Failure &failure) {
        rejoin::leave_if_stopped();
        why += (why.empty() ? "" : "\n") + std::string(failure.what());
        hint = failure.hint();
    };
    for (const Conninfo &one : conninfo.single_hosts()) {
        std::optional<Conninfo> says;
        try {
            if (auto primary = primary_at(one, &says))
                return std::move(*primary);
            answered = true;
            if (says)
                if (auto primary = primary_at(*says))
                    return std::move(*primary);
        } catch (const Failure &failure) {
            failed(failure);
        }
    }
    if (!answered)
        throw Failure(why, hint, exit_unreachable);
    throw Failure("no primary can be asked" + (why.empty() ? "" : ":\n" + why),
                  hint.empty() ? "\"pg_hactl status\" shows whether there is one, and what an election waits for." : hint, exit_no_primary);
}

// Who may know the successor: every server that is named, or that the primary knows.  Not all may let us in.
std::vector<Conninfo> servers_of(const Conninfo &conninfo, Primary &primary) {
    std::vector<Conninfo> servers = conninfo.single_hosts();
    if (const auto members = primary.session->try_ask("SELECT postgres_host, postgres_port FROM " + primary.schema +
                                                      "ha_members WHERE kind = 'data' AND liveness = 'alive'"))
        for (std::size_t row = 0; row < members->rows(); row++) {
            servers.push_back(conninfo);
            servers.back().set_server(members->text(row, "postgres_host"), members->text(row, "postgres_port"));
        }
    for (Conninfo &server : servers)
        server.set("connect_timeout", "2"); // one that hangs must not hide the successor for long
    return servers;
}

struct Successor {
    std::string name, term; // term: empty where the role may not see it
};

std::uint64_t number(const std::string &text) { return std::strtoull(text.c_str(), nullptr, 10); }

std::string term_of(Session &session, const std::string &schema) {
    const auto cluster = session.try_ask("SELECT term FROM " + schema + "ha_cluster");
    return cluster ? cluster->text(0, "term") : "";
}

// A primary of a later term that is open, as this server knows it; whoever may see no terms asks each whether it is one.
std::optional<Successor> successor_known_to(const Conninfo &conninfo, const Successor &before) {
    Session session(conninfo);
    const std::string schema = session.required_schema();
    const auto told = session.try_ask("SELECT name, term FROM " + schema +
                                      "ha_members WHERE is_primary AND role = 'primary' AND liveness = 'alive'");
    if (told && !before.term.empty()) {
        if (told->rows() == 1 && number(told->text(0, "term")) > number(before.term))
            return Successor{told->text(0, "name"), told->text(0, "term")};
        return std::nullopt;
    }
    const Answer answer = session.ask("SELECT name FROM " + schema + "ha_primary() WHERE " + schema + "ha_is_primary()");
    if (answer.rows() == 1 && answer.text(0, "name") != before.name)
        return Successor{answer.text(0, "name"), ""};
    return std::nullopt;
}

std::optional<Successor> wait_for_successor(const std::vector<Conninfo> &servers, const Successor &before, Clock::time_point end) {
    while (Clock::now() < end) {
        for (const Conninfo &server : servers) {
            rejoin::leave_if_stopped();
            try {
                if (auto successor = successor_known_to(server, before))
                    return successor;
            } catch (const Failure &) {
                // it restarts as a standby, is not open yet, or lets us not in
            }
        }
        ::usleep(20000);
    }
    return std::nullopt;
}

// True: it has handed over; false: no answer came, for the server may have become a standby before that had left.
bool ask_to_hand_over(Primary &primary, const std::string &to) {
    try {
        if (to.empty())
            primary.session->ask("SELECT " + primary.schema + "ha_switchover()");
        else
            primary.session->ask("SELECT " + primary.schema + "ha_switchover($1)", {to});
        return true;
    } catch (const Failure &failure) {
        if (failure.status() != exit_unreachable)
            throw;
        return false;
    }
}

int switch_over(Primary primary, const OrderOptions &options) {
    const std::vector<Conninfo> servers = servers_of(options.conninfo, primary);
    const Successor before{primary.name, term_of(*primary.session, primary.schema)};
    const auto begun = Clock::now();
    const bool answered = ask_to_hand_over(primary, options.name);
    const auto after = wait_for_successor(servers, before, begun + successor_within);
    const std::chrono::duration<double> took = Clock::now() - begun;
    if (!after)
        throw Failure(before.name + (answered ? " has handed over, but no server that can be asked knows a new primary after 60 s"
                                              : " was asked to hand over and did not answer, and no other primary was found within 60 s"),
                      "\"pg_hactl status\" shows who is the primary, or what an election waits for.", exit_no_primary);
    if (after->name == before.name)
        throw Failure("no switchover: " + before.name + " is the primary again", "SELECT * FROM ha_events on it shows each step.");
    char seconds[32];
    std::snprintf(seconds, sizeof seconds, "%.2f s", took.count());
    std::cout << after->name << " is the primary" << (after->term.empty() ? "" : " of term " + after->term) << ", after " << before.name
              << "; the switchover took " << seconds << "\n";
    if (!options.name.empty() && after->name != options.name)
        throw Failure(after->name + " was elected instead of " + options.name, "SELECT * FROM ha_events there shows why.");
    return exit_done;
}

int call(Primary &primary, const std::string &function, const std::vector<std::string> &parameters) {
    std::cout << primary.session->value("SELECT " + primary.schema + function, parameters) << "\n";
    return exit_done;
}

// With fewer voters a failover may not be possible any more.
int remove(Primary &primary, const std::string &name) {
    call(primary, "ha_remove_member($1)", {name});
    const auto cluster = primary.session->try_ask("SELECT failover_possible, failover_reason FROM " + primary.schema + "ha_cluster");
    if (cluster && !cluster->is_true(0, "failover_possible"))
        std::cerr << "WARNING:  a failover is not possible: " << cluster->text(0, "failover_reason") << "\n";
    return exit_done;
}

} // namespace

int run_order(const OrderOptions &options) {
    Primary primary = find_primary(options.conninfo);
    switch (options.order) {
    case Order::switchover: return switch_over(std::move(primary), options);
    case Order::pause: return call(primary, "ha_pause()", {});
    case Order::resume: return call(primary, "ha_resume()", {});
    case Order::remove: return remove(primary, options.name);
    }
    return exit_failed;
}

} // namespace pg_ha::cli
