// SPDX-License-Identifier: PostgreSQL
//
// The member to clone from: found, asked, and tried with the same role and the same protocol that the copy
// will use.  Nothing is written anywhere.
#pragma once

#include "clone.hpp"
#include "server_settings.hpp"
#include "session.hpp"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace pg_ha::cli {

struct Tablespace {
    std::string name, location;
    std::uint64_t bytes = 0;
    bool size_known = false;
};

struct CloneSource {
    std::unique_ptr<Session> session;
    std::string system_identifier, timeline; // as IDENTIFY_SYSTEM tells them
    std::vector<MemberInfo> members; // empty: the role may not read ha_members
    std::uint64_t bytes = 0;         // of all databases, those in tablespaces included
    std::vector<Tablespace> tablespaces;
};

// Throws Failure.
CloneSource open_source(const CloneOptions &options, int local_version);
// Two walsenders and a slot for the copy.  Throws Failure.
void check_room_on_source(CloneSource &source);
// Can the new server stream from each member that may be primary?  Throws Failure for the present primary;
// returns a line for each other one.
std::vector<std::string> check_streaming(const CloneSource &source, const std::string &replication_conninfo);

std::vector<MemberInfo> members_of(const Answer &ha_members); // pure

} // namespace pg_ha::cli
