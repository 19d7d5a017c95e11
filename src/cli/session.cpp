// SPDX-License-Identifier: PostgreSQL
#include "session.hpp"

#include "failure.hpp"

#include <libpq-fe.h>

#include <algorithm>
#include <cstdlib>

namespace pg_ha::cli {

namespace {

using Result = std::unique_ptr<PGresult, void (*)(PGresult *)>;

std::string trimmed(std::string text) {
    text.erase(text.find_last_not_of('\n') + 1);
    return text;
}

// What libpq's texts mean for somebody who sets up a cluster.
std::string hint_for(const std::string &error) {
    if (error.find("no pg_hba.conf entry") != std::string::npos || error.find("pg_hba.conf rejects") != std::string::npos)
        return "Add a line for this host, role and database (\"replication\" for streaming) to pg_hba.conf there, and "
               "reload that server.";
    if (error.find("password") != std::string::npos)
        return "Put the password into a file that \"passfile\" in the connection string names, mode 0600.";
    if (error.find("must be superuser or replication role") != std::string::npos)
        return "Give the role the right: ALTER ROLE ... REPLICATION.";
    return "";
}

} // namespace

Answer::Answer(pg_result *result) {
    const int columns = ::PQnfields(result), rows = ::PQntuples(result);
    for (int column = 0; column < columns; column++)
        columns_.emplace_back(::PQfname(result, column));
    for (int row = 0; row < rows; row++) {
        rows_.emplace_back();
        for (int column = 0; column < columns; column++)
            rows_.back().push_back(::PQgetisnull(result, row, column)
                                       ? std::nullopt
                                       : std::optional<std::string>(::PQgetvalue(result, row, column)));
    }
}

std::optional<std::string> Answer::get(std::size_t row, const std::string &column) const {
    const auto found = std::find(columns_.begin(), columns_.end(), column);
    if (row >= rows_.size() || found == columns_.end())
        return std::nullopt;
    return rows_[row][static_cast<std::size_t>(found - columns_.begin())];
}

Session::Session(Conninfo conninfo, Kind kind) : conninfo_(std::move(conninfo)), connection_(nullptr, ::PQfinish) {
    if (!std::getenv("PGCONNECT_TIMEOUT"))
        conninfo_.set_default("connect_timeout", "5");
    conninfo_.set_default("application_name", "pg_hactl");
    if (kind == Kind::replication)
        conninfo_.set("replication", "true");
    else
        conninfo_.set_default("dbname", "postgres");
    connection_.reset(::PQconnectdb(conninfo_.text().c_str()));
    if (::PQstatus(connection_.get()) != CONNECTION_OK) {
        const std::string why = trimmed(::PQerrorMessage(connection_.get()));
        throw Failure(why, hint_for(why), exit_unreachable);
    }
    // A server that becomes a standby ends sessions with a WARNING of a crash; what concerns us comes as an error.
    ::PQsetNoticeProcessor(connection_.get(), [](void *, const char *) {}, nullptr);
    conninfo_.set_server(::PQhost(connection_.get()), ::PQport(connection_.get()));
    if (kind == Kind::replication)
        return;
    // Nobody else's functions may answer; and a server that hangs must not hold us for ever.
    value("SELECT pg_catalog.set_config('search_path', '', false)");
    value("SELECT pg_catalog.set_config('statement_timeout', '300s', false)");
}

Session::~Session() = default;

Answer Session::ask(const std::string &query, const std::vector<std::string> &parameters) {
    std::vector<const char *> values;
    for (const std::string &parameter : parameters)
        values.push_back(parameter.c_str());
    const Result result(::PQexecParams(connection_.get(), query.c_str(), static_cast<int>(values.size()), nullptr,
                                       values.data(), nullptr, nullptr, 0),
                        ::PQclear);
    if (::PQresultStatus(result.get()) == PGRES_TUPLES_OK)
        return Answer(result.get());
    if (::PQstatus(connection_.get()) != CONNECTION_OK)
        throw Failure(server() + ": " + trimmed(::PQerrorMessage(connection_.get())), "", exit_unreachable);
    const auto field = [&result](int code) {
        const char *text = ::PQresultErrorField(result.get(), code);
        return std::string(text ? text : "");
    };
    const std::string detail = field(PG_DIAG_MESSAGE_DETAIL);
    throw Failure(server() + ": " + field(PG_DIAG_MESSAGE_PRIMARY) + (detail.empty() ? "" : "\nDETAIL:  " + detail),
                  field(PG_DIAG_MESSAGE_HINT));
}

std::optional<Answer> Session::try_ask(const std::string &query, const std::vector<std::string> &parameters) {
    try {
        return ask(query, parameters);
    } catch (const Failure &failure) {
        if (failure.status() == exit_unreachable)
            throw;
        return std::nullopt;
    }
}

std::string Session::value(const std::string &query, const std::vector<std::string> &parameters) {
    const Answer answer = ask(query, parameters);
    return answer.rows() == 1 ? answer.text(0, answer.columns()[0]) : "";
}

Answer Session::command(const std::string &replication_command) {
    const Result result(::PQexec(connection_.get(), replication_command.c_str()), ::PQclear);
    if (::PQresultStatus(result.get()) != PGRES_TUPLES_OK)
        throw Failure(server() + ": " + trimmed(::PQerrorMessage(connection_.get())));
    return Answer(result.get());
}

int Session::version() const { return ::PQserverVersion(connection_.get()); }

std::string Session::server() const { return conninfo_.get("host") + ":" + conninfo_.get("port"); }

std::optional<std::string> Session::schema() {
    const Answer answer = ask("SELECT pg_catalog.quote_ident(n.nspname) || '.' AS schema FROM pg_catalog.pg_extension e "
                              "JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'pg_ha'");
    return answer.get(0, "schema");
}

std::string Session::required_schema() {
    if (const auto found = schema())
        return *found;
    throw Failure("database \"" + value("SELECT pg_catalog.current_database()") + "\" of " + server() + " has no extension pg_ha",
                  "Name another database with dbname=, or run CREATE EXTENSION pg_ha there.", exit_unreachable);
}

} // namespace pg_ha::cli
