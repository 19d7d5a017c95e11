// SPDX-License-Identifier: PostgreSQL
//
// `ledger run`: several sessions open to every server at once, each by the server's own address and none asking
// who is primary, insert unique ids through all of them.  So a server that acknowledges when it must not is
// noticed, wherever clients would be sent.
//
// In a pipeline only ReadyForQuery is an acknowledgement, because CommandComplete comes before the commit there.
#include "ledger.hpp"

#include <libpq-fe.h>
#include <poll.h>

#include <cstdio>
#include <cstdlib>
#include <deque>

namespace ledger {

namespace {

constexpr Nanoseconds retry_after = 10 * millisecond; // after a refusal or a lost connection
constexpr Nanoseconds connect_limit = 500 * millisecond;
constexpr int pipeline_depth = 4;
constexpr std::int64_t pause_us_default = 2000;

std::int64_t pause_us(const Options &options) { return options.pause_us < 0 ? pause_us_default : options.pause_us; }

struct Shared {
    const Options &options;
    File file;
    std::int64_t next_id;
    std::int64_t refused = 0;
};

// closed -> connecting -> open (idle, or with attempts under way) -> closed ...
class Session {
public:
    Session(const std::string &address, bool pipelined, Shared &shared)
        : address_(address), pipelined_(pipelined), shared_(shared) {
        // What standbys refuse many times per second is not to fill their logs.
        conninfo_ = conninfo_of(address, shared.options) +
                    " options='-c log_min_messages=log -c log_min_error_statement=panic -c synchronous_commit=" +
                    shared.options.synchronous_commit + "'";
    }
    ~Session() { close(); }
    Session(const Session &) = delete;
    Session &operator=(const Session &) = delete;

    int socket() const { return connection_ ? PQsocket(connection_) : -1; }
    short wanted() const { return events_; }
    bool busy() const { return !attempts_.empty(); }

    // Whatever is due by the clock.
    void act() {
        if (!connection_ && now() >= due_)
            connect();
        else if (connection_ && !open_ && now() >= give_up_)
            close();
        while (open_ && now() >= due_ && attempts_.size() < (pipelined_ ? pipeline_depth : 1) && !refused_)
            insert();
    }

    // Whatever has arrived.
    void advance() {
        if (!connection_)
            return;
        if (!open_)
            return finish_connecting();
        if (!PQconsumeInput(connection_))
            return close();
        flush();
        while (connection_ && busy() && !PQisBusy(connection_)) {
            PGresult *result = PQgetResult(connection_);
            const bool done = result ? read(result) : !pipelined_;
            if (!result && PQstatus(connection_) != CONNECTION_OK)
                break;
            PQclear(result);
            if (done)
                finish_attempt();
        }
        if (connection_ && PQstatus(connection_) != CONNECTION_OK)
            close();
    }

    void close() {
        for (const Attempt &attempt : attempts_)
            shared_.file.add(attempt.id, address_, attempt.begin, 0, Outcome::unknown);
        attempts_.clear();
        if (connection_)
            PQfinish(connection_);
        connection_ = nullptr;
        open_ = refused_ = false;
        due_ = now() + retry_after;
    }

private:
    struct Attempt {
        std::int64_t id;
        Nanoseconds begin;
        std::int64_t timeline = 0;
        bool inserted = false, failed = false;
    };

    void connect() {
        connection_ = PQconnectStart(conninfo_.c_str());
        if (!connection_ || PQstatus(connection_) == CONNECTION_BAD)
            return close();
        PQsetnonblocking(connection_, 1);
        events_ = POLLOUT;
        give_up_ = now() + connect_limit;
    }

    void finish_connecting() {
        switch (PQconnectPoll(connection_)) {
        case PGRES_POLLING_READING: events_ = POLLIN; return;
        case PGRES_POLLING_WRITING: events_ = POLLOUT; return;
        case PGRES_POLLING_OK: break;
        default: return close();
        }
        events_ = POLLIN;
        open_ = !pipelined_ || PQenterPipelineMode(connection_);
        due_ = now();
    }

    void insert() {
        const Attempt attempt{shared_.next_id++, now()};
        const std::string sql = insert_of(attempt.id, shared_.options);
        attempts_.push_back(attempt);
        due_ = now() + pause_us(shared_.options) * 1000;
        const bool sent = pipelined_ ? PQsendQueryParams(connection_, sql.c_str(), 0, nullptr, nullptr, nullptr, nullptr, 0) &&
                                           PQpipelineSync(connection_)
                                     : PQsendQuery(connection_, sql.c_str());
        if (!sent)
            return close();
        flush();
    }

    void flush() {
        const int left = PQflush(connection_);
        if (left < 0)
            return close();
        events_ = left > 0 ? POLLIN | POLLOUT : POLLIN;
    }

    // True: in a pipeline, the transaction of the oldest attempt has ended.
    bool read(const PGresult *result) {
        Attempt &attempt = attempts_.front();
        switch (PQresultStatus(result)) {
        case PGRES_TUPLES_OK:
            attempt.inserted = true;
            attempt.timeline = std::strtoll(PQgetvalue(result, 0, 0), nullptr, 10);
            return false;
        case PGRES_PIPELINE_SYNC: return true;
        default: attempt.failed = true; return false;
        }
    }

    // The server has finished with the oldest attempt, unless the connection was what ended it.
    void finish_attempt() {
        if (PQstatus(connection_) != CONNECTION_OK)
            return close();
        const Attempt attempt = attempts_.front();
        attempts_.pop_front();
        if (attempt.inserted && !attempt.failed) {
            shared_.file.add(attempt.id, address_, attempt.begin, attempt.timeline, Outcome::acknowledged);
        } else {
            ++shared_.refused;
            refused_ = true;
            due_ = now() + retry_after;
        }
        if (attempts_.empty())
            refused_ = false;
    }

    const std::string address_;
    const bool pipelined_;
    Shared &shared_;
    std::string conninfo_;
    PGconn *connection_ = nullptr;
    bool open_ = false;
    bool refused_ = false; // until the rest of the pipeline is through
    short events_ = POLLIN;
    Nanoseconds due_ = 0, give_up_ = 0;
    std::deque<Attempt> attempts_;
};

} // namespace

int run(const Options &options) {
    Shared shared{options, File(options.files.front()), options.first_id};
    std::deque<Session> sessions; // they stay where they are
    for (std::int64_t i = 0; i < options.sessions; ++i)
        for (const std::string &host : options.hosts)
            sessions.emplace_back(host, i < options.pipelined, shared);
    std::vector<pollfd> descriptors;
    std::vector<Session *> owners;
    while (!stop_requested) {
        descriptors.clear();
        owners.clear();
        for (Session &session : sessions) {
            session.act();
            if (session.socket() < 0)
                continue;
            descriptors.push_back({session.socket(), session.wanted(), 0});
            owners.push_back(&session);
        }
        if (poll(descriptors.data(), descriptors.size(), 1) > 0)
            for (std::size_t i = 0; i < owners.size(); ++i)
                if (descriptors[i].revents)
                    owners[i]->advance();
        shared.file.flush();
    }
    sessions.clear(); // what is under way becomes unknown
    shared.file.flush();
    std::printf("%lld attempts were refused\n", static_cast<long long>(shared.refused));
    return 0;
}

} // namespace ledger
