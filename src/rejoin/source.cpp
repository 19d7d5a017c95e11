// SPDX-License-Identifier: PostgreSQL
#include "source.hpp"

#include "conninfo.hpp"
#include "files.hpp"
#include "process.hpp"

#include <libpq-fe.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <optional>
#include <poll.h>
#include <stdexcept>

namespace pg_ha::rejoin {

namespace {

constexpr int checkpoint_patience = 300; // seconds; a big server's checkpoint takes its time
constexpr std::chrono::seconds standbys_patience{2}; // the primary may be waiting for this very server
constexpr std::chrono::seconds answer_patience{310}; // more than statement_timeout: a frozen server does not keep that
constexpr int look_every_ms = 20;

using Result = std::unique_ptr<PGresult, void (*)(PGresult *)>;

class Session {
public:
    explicit Session(const std::string &conninfo, bool replication = false)
        : connection_(::PQconnectdb(with_keepalives(conninfo).c_str()), ::PQfinish) {
        if (::PQstatus(connection_.get()) != CONNECTION_OK)
            throw std::runtime_error(last_lines(::PQerrorMessage(connection_.get())));
        if (replication)
            return;
        // Nobody else's functions may answer; and a server that hangs must not hold us for ever.
        value("SELECT pg_catalog.set_config('search_path', '', false)");
        value("SELECT pg_catalog.set_config('statement_timeout', '300s', false)");
    }
    Result rows(const std::string &query, std::chrono::seconds patience = answer_patience) {
        Result result = answer_to(query, patience);
        if (::PQresultStatus(result.get()) != PGRES_TUPLES_OK)
            throw std::runtime_error(last_lines(::PQerrorMessage(connection_.get())));
        return result;
    }
    std::string value(const std::string &query, std::chrono::seconds patience = answer_patience) {
        const Result result = rows(query, patience);
        return ::PQntuples(result.get()) == 1 ? ::PQgetvalue(result.get(), 0, 0) : "";
    }
    bool writable() const {
        const char *standby = ::PQparameterStatus(connection_.get(), "in_hot_standby");
        return standby && std::string(standby) == "off";
    }
    bool command(const std::string &text) {
        return ::PQresultStatus(answer_to(text, answer_patience).get()) == PGRES_COMMAND_OK;
    }

    // Without waiting for the answer; while one is still missing, nothing.
    void mention(const std::string &query) {
        if (::PQconsumeInput(connection_.get()) != 1)
            return;
        while (::PQisBusy(connection_.get()) == 0) {
            PGresult *answer = ::PQgetResult(connection_.get());
            if (!answer) {
                ::PQsendQuery(connection_.get(), query.c_str());
                return;
            }
            ::PQclear(answer);
        }
    }

private:
    // PQexec() would neither end at a stop nor leave a server that hangs.
    Result answer_to(const std::string &query, std::chrono::seconds patience);

    std::unique_ptr<PGconn, void (*)(PGconn *)> connection_;
};

Result Session::answer_to(const std::string &query, std::chrono::seconds patience) {
    const auto end = std::chrono::steady_clock::now() + patience;
    PGconn *connection = connection_.get();
    Result last(nullptr, ::PQclear); // none: an error, as PQresultStatus() takes it
    bool alive = ::PQsendQuery(connection, query.c_str()) == 1;
    while (alive) {
        leave_if_stopped();
        if (::PQisBusy(connection) == 0) {
            PGresult *next = ::PQgetResult(connection);
            if (!next)
                return last;
            last.reset(next);
            continue;
        }
        if (std::chrono::steady_clock::now() > end)
            throw std::runtime_error("no answer within " + std::to_string(patience.count()) + " s");
        pollfd wait{::PQsocket(connection), POLLIN, 0};
        ::poll(&wait, 1, look_every_ms);
        alive = ::PQconsumeInput(connection) == 1;
    }
    return {nullptr, ::PQclear};
}

// The primary checkpoints by itself after its promotion; a right to ask for it only saves time.
void await_checkpoint(Session &source, const RejoinJournal &journal) {
    const std::string wanted = std::to_string(raw(journal.timeline));
    const std::string question = "SELECT timeline_id FROM pg_catalog.pg_control_checkpoint()";
    if (source.value(question) == wanted)
        return;
    source.command("CHECKPOINT");
    for (int waited = 0; source.value(question) != wanted; waited++) {
        if (waited >= checkpoint_patience)
            throw std::runtime_error(journal.leader + " has not finished a checkpoint on timeline " + wanted);
        wait_a_second();
    }
}

void check_rights(Session &source, const RejoinJournal &journal) {
    const std::string missing = source.value(
        "SELECT pg_catalog.string_agg(f, ', ') FROM (VALUES ('pg_ls_dir(text,boolean,boolean)'),"
        " ('pg_stat_file(text,boolean)'), ('pg_read_binary_file(text)'),"
        " ('pg_read_binary_file(text,bigint,bigint,boolean)')) AS needed(f)"
        " WHERE NOT pg_catalog.has_function_privilege('pg_catalog.' || f, 'EXECUTE')");
    if (!missing.empty())
        throw CannotRewind("role \"" + source.value("SELECT current_user") + "\" of pg_ha.replication_conninfo may not "
                            "execute " + missing + " on " + journal.leader);
}

void check_parameters(Session &source, const RejoinJournal &journal) {
    for (const auto &[name, own] : journal.parameters) {
        const std::string theirs = source.value("SHOW " + name);
        if (std::atoll(theirs.c_str()) > std::atoll(own.c_str()))
            throw std::runtime_error(name + " is " + own + " here and " + theirs + " on " + journal.leader +
                                ": a standby must not have less than its primary; raise it and restart this server");
    }
}

// Those that lie elsewhere; pg_tablespace_size() fails without these rights.
std::vector<Tablespace> ask_tablespaces(Session &session) {
    const auto found = session.rows(
        "SELECT oid, pg_catalog.pg_tablespace_location(oid),"
        " CASE WHEN pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE') OR"
        " pg_catalog.has_tablespace_privilege(oid, 'CREATE') THEN pg_catalog.pg_tablespace_size(oid) END"
        " FROM pg_catalog.pg_tablespace WHERE pg_catalog.pg_tablespace_location(oid) LIKE '/%'");
    std::vector<Tablespace> tablespaces;
    for (int row = 0; row < ::PQntuples(found.get()); row++) {
        const auto text = [&](int column) { return ::PQgetvalue(found.get(), row, column); };
        tablespaces.push_back({text(0), text(1), {}});
        if (::PQgetisnull(found.get(), row, 2) == 0)
            tablespaces.back().bytes = std::strtoull(text(2), nullptr, 10);
    }
    return tablespaces;
}

std::string with_limits(const RejoinJournal &journal) {
    return journal.conninfo + " dbname=postgres connect_timeout=5 application_name=" + rejoin_application_name;
}

} // namespace

void check_source(const RejoinJournal &journal) {
    Session source(with_limits(journal));
    if (source.value("SELECT system_identifier FROM pg_catalog.pg_control_system()") !=
        std::to_string(journal.system_identifier))
        throw std::runtime_error(journal.leader + " is another database system");
    if (source.value("SELECT pg_catalog.pg_is_in_recovery()") != "f")
        throw std::runtime_error(journal.leader + " is not the primary any more");
    const std::string timeline = source.value(
        "SELECT ('x' || substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 1, 8))::pg_catalog.bit(32)::int");
    if (timeline != std::to_string(raw(journal.timeline)))
        throw std::runtime_error(journal.leader + " is on timeline " + timeline + ", not " +
                             std::to_string(raw(journal.timeline)));
    check_rights(source, journal);
    check_parameters(source, journal);
    await_checkpoint(source, journal);
}

void write_a_record(const RejoinJournal &journal) {
    Session source(with_limits(journal));
    source.value("SELECT pg_catalog.pg_current_xact_id()"); // its commit record is flushed when its time comes
    source.value("SELECT pg_catalog.set_config('synchronous_commit', 'on', false)");
    // statement_timeout does not end a commit's wait for standbys.
    source.value("SELECT pg_catalog.pg_logical_emit_message(true, 'pg_ha', 'rewound')", standbys_patience);
}

// Null: it is not there, no primary, or of an older term.
static std::optional<CloneSource> ask_candidate(const RejoinJournal &journal, const std::string &name, const std::string &conninfo,
                                               std::string &why) {
    try {
        Session session(conninfo + " replication=true connect_timeout=5 application_name=" + rejoin_application_name, true);
        const auto found = session.rows("IDENTIFY_SYSTEM");
        if (::PQntuples(found.get()) != 1 || !session.writable())
            return std::nullopt;
        if (::PQgetvalue(found.get(), 0, 0) != std::to_string(journal.system_identifier))
            throw std::runtime_error("another database system answers where " + name + " should be");
        check_parameters(session, journal);
        return CloneSource{conninfo + " application_name=" + rejoin_application_name,
                           static_cast<Timeline>(std::strtoul(::PQgetvalue(found.get(), 0, 1), nullptr, 10)), {}};
    } catch (const std::runtime_error &error) {
        why = error.what();
        return std::nullopt;
    }
}

CloneSource find_clone_source(const RejoinJournal &journal) {
    std::optional<CloneSource> best;
    std::string why = "no member is a primary on timeline " + std::to_string(raw(journal.timeline)) + " or later";
    for (const auto &[name, conninfo] : journal.candidates) {
        const auto found = ask_candidate(journal, name, conninfo, why);
        if (found && found->timeline >= journal.timeline && (!best || found->timeline > best->timeline))
            best = found;
    }
    if (!best)
        throw std::runtime_error(why);
    try {
        Session session(best->conninfo + " dbname=postgres connect_timeout=5");
        best->tablespaces = ask_tablespaces(session);
    } catch (const std::runtime_error &) {
        // pg_basebackup says so itself if there are any and their directories are not empty
    }
    return *best;
}

std::function<void(const Amount &)> tell_primary(const RejoinJournal &journal, const std::string &conninfo, bool clone) {
    std::shared_ptr<Session> session;
    try {
        session = std::make_shared<Session>(conninfo + " dbname=postgres connect_timeout=5 application_name=" +
                                            rejoin_application_name);
    } catch (const std::runtime_error &) {
        return {};
    }
    const auto tell = [session, clone, self = journal.self](const Amount &amount) {
        char text[128];
        std::snprintf(text, sizeof text, rejoin_progress_format, static_cast<unsigned long long>(raw(self)), clone ? 1u : 0u,
                      amount.percent(), static_cast<unsigned>(amount.total_kb >> 10));
        session->mention(text);
    };
    tell({});
    return tell;
}

void make_tablespace_directories(const RejoinJournal &journal, const std::string &links) {
    Session source(with_limits(journal));
    for (const Tablespace &tablespace : ask_tablespaces(source))
        if (!exists(links + "/" + tablespace.oid) && !exists(tablespace.location)) {
            say("creating the directory of a tablespace, " + tablespace.location);
            make_directory(tablespace.location, 0700);
        }
}

} // namespace pg_ha::rejoin
