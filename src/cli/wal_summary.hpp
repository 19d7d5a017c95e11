// SPDX-License-Identifier: PostgreSQL
//
// pg_waldump's lines counted: which kinds of records, which transactions ended how, which relations were
// touched.  Pure.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>

namespace pg_ha::cli {

struct RelationId {
    unsigned tablespace = 0, database = 0, file = 0;
    auto operator<=>(const RelationId &) const = default;
};
struct RelationChanges {
    std::uint64_t records = 0, inserted = 0, updated = 0, deleted = 0; // the last three in rows
};

struct WalSummary {
    std::uint64_t records = 0;
    std::map<std::string, std::uint64_t> kinds; // by resource manager
    std::uint64_t committed = 0, aborted = 0, prepared = 0;
    std::string first_commit, last_commit; // times as pg_waldump prints them
    std::set<unsigned> unfinished;         // transactions that neither committed nor aborted
    std::map<RelationId, RelationChanges> relations;

    void add(const std::string &line); // lines that are no records are left out

private:
    void end_transaction(unsigned transaction, const std::string &description);
    void touch(const std::string &kind, const std::string &description);
};

} // namespace pg_ha::cli
