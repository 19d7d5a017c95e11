// SPDX-License-Identifier: PostgreSQL
//
// `ledger follow`: unique ids, one by one, by a client that follows the primary by itself: one connection per
// server, and standbys are asked every few milliseconds whether they have left recovery, so that the measured gap
// is the servers' and not the client's.
//
// An insert that stays without an answer is not given up: if its acknowledgement comes later, that is written
// down too, because a late acknowledgement of a deposed primary would be the very bug to catch.
#include "ledger.hpp"

#include <libpq-fe.h>
#include <poll.h>

#include <cstdlib>
#include <deque>

namespace ledger {

namespace {

constexpr Nanoseconds probe_every = 5 * millisecond;     // between two attempts on one server
constexpr Nanoseconds attempt_limit = 250 * millisecond; // for connecting and for "are you the primary?"
constexpr Nanoseconds stall_limit = 100 * millisecond;   // an insert silent for this long: look elsewhere as well
constexpr std::size_t max_hosts = 16;

// connecting -> asking (is it in recovery?) -> ready -> inserting -> ready ...; any failure: closed.
enum class Phase { closed, connecting, asking, standby, ready, inserting };

class Server {
public:
    Server(const std::string &address, const Options &options, File &file)
        : address_(address), conninfo_(conninfo_of(address, options)), options_(options), file_(file) {}
    ~Server() { close(); }
    Server(const Server &) = delete;
    Server &operator=(const Server &) = delete;

    Phase phase() const { return phase_; }
    Nanoseconds since() const { return since_; }
    int socket() const { return connection_ ? PQsocket(connection_) : -1; }
    short wanted() const { return events_; }

    // Look for a primary here: connect, or ask again.
    void probe() {
        if (phase_ == Phase::closed && now() - since_ >= probe_every)
            connect();
        else if (phase_ == Phase::standby && now() - since_ >= probe_every)
            ask();
        else if ((phase_ == Phase::connecting || phase_ == Phase::asking) && now() - since_ >= attempt_limit)
            close();
    }

    void insert(std::int64_t id) {
        id_ = id;
        enter(Phase::inserting);
        // Simple protocol: CommandComplete comes after the commit, never before it.
        if (!PQsendQuery(connection_, insert_of(id, options_).c_str()) || PQflush(connection_) != 0)
            close();
    }

    // Handle whatever arrived.  True: its insert was acknowledged just now.
    bool advance() {
        if (phase_ == Phase::connecting)
            return finish_connecting(), false;
        if (phase_ != Phase::asking && phase_ != Phase::inserting)
            return watch_idle(), false;
        if (!PQconsumeInput(connection_))
            return close(), false;
        while (!PQisBusy(connection_)) {
            PGresult *result = PQgetResult(connection_);
            if (!result)
                return PQstatus(connection_) == CONNECTION_OK ? finish_command() : (close(), false);
            read(result);
            PQclear(result);
        }
        return false;
    }

private:
    enum class Answer { refused, good };

    void enter(Phase phase) {
        phase_ = phase;
        since_ = now();
        events_ = POLLIN;
        answer_ = Answer::refused;
    }

    void close() {
        if (phase_ == Phase::inserting)
            file_.add(id_, address_, since_, 0, Outcome::unknown);
        if (connection_)
            PQfinish(connection_);
        connection_ = nullptr;
        enter(Phase::closed);
    }

    void connect() {
        connection_ = PQconnectStart(conninfo_.c_str());
        if (!connection_ || PQstatus(connection_) == CONNECTION_BAD)
            return close();
        PQsetnonblocking(connection_, 1);
        enter(Phase::connecting);
        events_ = POLLOUT;
    }

    void finish_connecting() {
        switch (PQconnectPoll(connection_)) {
        case PGRES_POLLING_READING: events_ = POLLIN; return;
        case PGRES_POLLING_WRITING: events_ = POLLOUT; return;
        case PGRES_POLLING_OK: return ask();
        default: return close();
        }
    }

    void ask() {
        enter(Phase::asking);
        if (!PQsendQuery(connection_, "SELECT pg_is_in_recovery()") || PQflush(connection_) != 0)
            close();
    }

    // Refused: in recovery, fenced, shutting down; it is asked again, or the connection ends.
    void read(const PGresult *result) {
        answer_ = Answer::refused;
        if (PQresultStatus(result) != PGRES_TUPLES_OK)
            return;
        const char *value = PQgetvalue(result, 0, 0);
        if (phase_ == Phase::inserting)
            timeline_ = std::strtoll(value, nullptr, 10);
        if (phase_ == Phase::inserting || value[0] == 'f')
            answer_ = Answer::good;
    }

    bool finish_command() {
        const bool good = answer_ == Answer::good;
        const bool acknowledged = good && phase_ == Phase::inserting;
        if (acknowledged)
            file_.add(id_, address_, since_, timeline_, Outcome::acknowledged);
        enter(good ? Phase::ready : Phase::standby);
        return acknowledged;
    }

    // Nothing is expected on an idle connection but its end.
    void watch_idle() {
        if (connection_ && (!PQconsumeInput(connection_) || PQstatus(connection_) != CONNECTION_OK))
            close();
    }

    const std::string address_, conninfo_;
    const Options &options_;
    File &file_;
    PGconn *connection_ = nullptr;
    Phase phase_ = Phase::closed;
    Answer answer_ = Answer::refused;
    short events_ = POLLIN;
    Nanoseconds since_ = 0;
    std::int64_t id_ = 0, timeline_ = 0;
};

class Follower {
public:
    Follower(const Options &options, File &file) : options_(options), file_(file), next_id_(options.first_id) {
        for (const std::string &host : options.hosts)
            servers_.emplace_back(host, options, file);
    }

    void run() {
        while (!stop_requested) {
            write_or_look();
            wait();
            file_.flush();
        }
    }

private:
    static bool writes_there(const Server *server) {
        return server && (server->phase() == Phase::ready || server->phase() == Phase::inserting);
    }

    // While the current server answers, write there.  While it is silent or gone, look everywhere.
    void write_or_look() {
        if (current_ && current_->phase() == Phase::ready && now() - acknowledged_ >= options_.pause_us * 1000)
            current_->insert(next_id_++);
        if (writes_there(current_) && now() - current_->since() < stall_limit)
            return;
        for (Server &server : servers_)
            server.probe();
        for (Server &server : servers_) {
            if (server.phase() != Phase::ready || &server == current_)
                continue;
            current_ = &server;
            server.insert(next_id_++);
            return;
        }
    }

    void wait() {
        pollfd descriptors[max_hosts];
        Server *owners[max_hosts];
        nfds_t count = 0;
        for (Server &server : servers_)
            if (server.socket() >= 0) {
                descriptors[count] = {server.socket(), server.wanted(), 0};
                owners[count++] = &server;
            }
        if (poll(descriptors, count, 1) <= 0)
            return;
        for (nfds_t i = 0; i < count; ++i)
            if (descriptors[i].revents && owners[i]->advance()) {
                acknowledged_ = now();
                // A server that acknowledges is where to write, unless another one took over since.
                if (!writes_there(current_))
                    current_ = owners[i];
            }
    }

    const Options &options_;
    File &file_;
    std::deque<Server> servers_; // they stay where they are
    Server *current_ = nullptr;
    std::int64_t next_id_;
    Nanoseconds acknowledged_ = 0;
};

} // namespace

int follow(const Options &options) {
    if (options.hosts.size() > max_hosts)
        fail("at most 16 servers");
    File file(options.files.front());
    Follower(options, file).run(); // what is under way at its end becomes unknown
    file.flush();
    return 0;
}

} // namespace ledger
