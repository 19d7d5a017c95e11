// SPDX-License-Identifier: PostgreSQL
//
// Names for the files that WAL speaks of, asked of a server of the cluster.  A relation that was made in
// the diverged WAL itself, or rewritten since, has none: its numbers are shown.
#pragma once

#include "conninfo.hpp"
#include "wal_summary.hpp"

#include <map>
#include <string>

namespace pg_ha::cli {

class RelationNames {
public:
    void look_up(const std::map<RelationId, RelationChanges> &relations, const Conninfo &server); // throws Failure
    std::string name_of(const RelationId &id) const; // "postgres: public.filler", or "1663/5/16384"

private:
    void look_up_in(const std::string &database, const std::string &default_tablespace, unsigned oid,
                    const std::map<RelationId, RelationChanges> &relations, Conninfo server);

    std::map<RelationId, std::string> names_;
};

} // namespace pg_ha::cli
