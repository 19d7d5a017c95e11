// SPDX-License-Identifier: PostgreSQL
//
// What a clone and a restored directory have in common: a member that is to be, checked against the
// cluster, given its settings, and handed over to whoever starts it.
#pragma once

#include "clone.hpp"
#include "clone_source.hpp"
#include "server_settings.hpp"

namespace pg_ha::cli {

inline constexpr std::uint64_t wal_allowance = 96u << 20; // that comes along with a copy

struct NewServer {
    NewServer(const CloneOptions &o, CloneSource s)
        : options(o), source(std::move(s)), settings(o, *source.session) {}

    const CloneOptions &options;
    CloneSource source;
    NewSettings settings;
    std::map<std::string, std::string> to_write; // filled by check_new_server()
};

int local_version();             // 150020; throws Failure if PostgreSQL's programs are not beside us

void check_new_server(NewServer &server); // throws Failure
// postgresql.auto.conf and standby.signal in a directory that no server has opened yet.
void write_settings(const std::string &directory, const NewServer &server);
void tell_what_is_next(NewServer &server);

} // namespace pg_ha::cli
