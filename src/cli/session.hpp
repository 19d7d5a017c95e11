// SPDX-License-Identifier: PostgreSQL
//
// A session with one server, and answers whose columns are asked by name, so that a column which an older
// or newer server has not is simply absent.
#pragma once

#include "conninfo.hpp"

#include <memory>
#include <optional>
#include <string>
#include <vector>

struct pg_conn;
struct pg_result;

namespace pg_ha::cli {

class Answer {
public:
    explicit Answer(pg_result *result);
    Answer(std::vector<std::string> columns, std::vector<std::vector<std::optional<std::string>>> rows)
        : columns_(std::move(columns)), rows_(std::move(rows)) {}

    std::size_t rows() const { return rows_.size(); }
    const std::vector<std::string> &columns() const { return columns_; }
    std::optional<std::string> get(std::size_t row, const std::string &column) const; // null and no such column
    std::string text(std::size_t row, const std::string &column) const { return get(row, column).value_or(""); }
    bool is_true(std::size_t row, const std::string &column) const { return get(row, column) == "t"; }

private:
    std::vector<std::string> columns_;
    std::vector<std::vector<std::optional<std::string>>> rows_;
};

class Session {
public:
    // Both throw Failure with status exit_unreachable.  A session for replication takes replication
    // commands instead of SQL.
    enum class Kind { sql, replication };
    explicit Session(Conninfo conninfo, Kind kind = Kind::sql);
    ~Session();
    Session(const Session &) = delete;
    Session &operator=(const Session &) = delete;

    Answer ask(const std::string &query, const std::vector<std::string> &parameters = {}); // throws Failure
    // Nothing if the server refuses: no such function, no right.
    std::optional<Answer> try_ask(const std::string &query, const std::vector<std::string> &parameters = {});
    std::string value(const std::string &query, const std::vector<std::string> &parameters = {}); // of one row
    Answer command(const std::string &replication_command); // throws Failure

    const Conninfo &conninfo() const { return conninfo_; } // of this very server
    int version() const;                                   // 150020
    std::string server() const;                            // "db1:5432", for people
    // pg_ha's schema, quoted and with a dot; nothing if this database has no extension pg_ha.
    std::optional<std::string> schema();
    std::string required_schema(); // throws Failure with exit_unreachable

private:
    Conninfo conninfo_;
    std::unique_ptr<pg_conn, void (*)(pg_conn *)> connection_;
};

} // namespace pg_ha::cli
