// SPDX-License-Identifier: PostgreSQL
#include "relation_names.hpp"

#include "session.hpp"

#include <cstdlib>
#include <set>

namespace pg_ha::cli {

namespace {

constexpr const char *question =
    "SELECT r::pg_catalog.regclass::text ||"
    " CASE WHEN i.indrelid IS NOT NULL THEN ' (index of ' || i.indrelid::pg_catalog.regclass || ')'"
    "      WHEN t.oid IS NOT NULL THEN ' (TOAST of ' || t.oid::pg_catalog.regclass || ')' ELSE '' END AS name"
    " FROM (SELECT pg_catalog.pg_filenode_relation($1::oid, $2::oid) AS r) AS found"
    " LEFT JOIN pg_catalog.pg_index i ON i.indexrelid = r LEFT JOIN pg_catalog.pg_class t ON t.reltoastrelid = r"
    " WHERE r IS NOT NULL";

} // namespace

std::string RelationNames::name_of(const RelationId &id) const {
    const auto found = names_.find(id);
    if (found != names_.end())
        return found->second;
    return std::to_string(id.tablespace) + "/" + std::to_string(id.database) + "/" + std::to_string(id.file);
}

void RelationNames::look_up_in(const std::string &database, const std::string &default_tablespace, unsigned oid,
                               const std::map<RelationId, RelationChanges> &relations, Conninfo server) {
    server.set("dbname", database);
    Session session(server);
    for (const auto &[id, changes] : relations) {
        if (id.database != oid && id.database != 0)
            continue;
        const std::string tablespace = std::to_string(id.tablespace);
        const Answer answer =
            session.ask(question, {tablespace == default_tablespace ? "0" : tablespace, std::to_string(id.file)});
        if (const auto name = answer.get(0, "name"))
            names_[id] = (id.database == 0 ? "" : database + ": ") + *name;
    }
}

// Shared relations (database 0) are known in every database.
void RelationNames::look_up(const std::map<RelationId, RelationChanges> &relations, const Conninfo &server) {
    std::set<unsigned> wanted;
    for (const auto &[id, changes] : relations)
        wanted.insert(id.database);
    Session session(server);
    const Answer databases = session.ask("SELECT oid, datname, dattablespace FROM pg_catalog.pg_database WHERE datallowconn");
    for (std::size_t row = 0; row < databases.rows(); row++) {
        const auto oid = static_cast<unsigned>(std::strtoul(databases.text(row, "oid").c_str(), nullptr, 10));
        if (wanted.contains(oid))
            look_up_in(databases.text(row, "datname"), databases.text(row, "dattablespace"), oid, relations, session.conninfo());
    }
}

} // namespace pg_ha::cli
