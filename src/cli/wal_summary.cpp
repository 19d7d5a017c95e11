// SPDX-License-Identifier: PostgreSQL
#include "wal_summary.hpp"

#include <cstdio>
#include <cstdlib>

namespace pg_ha::cli {

namespace {

std::string word_at(const std::string &line, std::size_t begin) {
    begin = line.find_first_not_of(' ', begin);
    return begin == std::string::npos ? "" : line.substr(begin, line.find_first_of(" ,", begin) - begin);
}

} // namespace

void WalSummary::add(const std::string &line) {
    const std::size_t description = line.find(", desc: "), transaction = line.find(", tx:");
    if (!line.starts_with("rmgr: ") || description == std::string::npos || transaction == std::string::npos)
        return;
    const std::string kind = word_at(line, 6), what = line.substr(description + 8);
    const auto number = static_cast<unsigned>(std::strtoul(line.c_str() + transaction + 5, nullptr, 10));
    ++records;
    ++kinds[kind];
    if (kind == "Transaction")
        end_transaction(number, what);
    else if (number != 0)
        unfinished.insert(number);
    touch(kind, what);
}

void WalSummary::end_transaction(unsigned transaction, const std::string &description) {
    const std::string verb = word_at(description, 0);
    // Of a prepared transaction the record is another's; its own number follows the verb.
    if (verb.ends_with("_PREPARED"))
        transaction = static_cast<unsigned>(std::strtoul(description.c_str() + verb.size(), nullptr, 10));
    if (verb.starts_with("COMMIT")) {
        ++committed;
        const std::size_t begin = verb == "COMMIT" ? verb.size() + 1 : description.find(": ") + 2;
        last_commit = description.substr(begin, description.find(';', begin) - begin);
        if (first_commit.empty())
            first_commit = last_commit;
    } else if (verb.starts_with("ABORT")) {
        ++aborted;
    } else if (verb == "PREPARE") {
        ++prepared;
        return;
    } else {
        return;
    }
    unfinished.erase(transaction);
}

void WalSummary::touch(const std::string &kind, const std::string &description) {
    const std::string verb = word_at(description, 0);
    std::set<RelationId> touched;
    for (std::size_t at = 0; (at = description.find(": rel ", at)) != std::string::npos; at += 6) {
        RelationId id;
        if (std::sscanf(description.c_str() + at, ": rel %u/%u/%u", &id.tablespace, &id.database, &id.file) == 3)
            touched.insert(id);
    }
    for (const RelationId &id : touched) {
        RelationChanges &changes = relations[id];
        ++changes.records;
        if (kind == "Heap" && verb.starts_with("INSERT"))
            ++changes.inserted;
        else if (kind == "Heap2" && verb.starts_with("MULTI_INSERT"))
            changes.inserted += std::strtoull(description.c_str() + verb.size(), nullptr, 10);
        else if (kind == "Heap" && (verb.starts_with("UPDATE") || verb.starts_with("HOT_UPDATE")))
            ++changes.updated;
        else if (kind == "Heap" && verb.starts_with("DELETE"))
            ++changes.deleted;
    }
}

} // namespace pg_ha::cli
