// SPDX-License-Identifier: PostgreSQL
//
// One PostgreSQL server as far as failover can see it: a WAL, a walreceiver behind the gate, walsenders
// that count acknowledgements, sessions that commit.  It does what stock PostgreSQL does and no more:
// in particular it lets a diverged standby connect and believes its flush position (postgres-facts,
// part 3).  Only the core's decisions may keep the cluster safe.
#pragma once

#include "agent/ports.hpp"
#include "agent/state_echo.hpp"
#include "options.hpp"
#include "wal.hpp"

#include <array>
#include <optional>
#include <vector>

namespace pg_ha::sim {

class Host;
class World;

// synchronous_standby_names: how many of these hosts must have flushed.
struct StandbyRule {
    unsigned hosts = 0;
    int needed = 0;
    bool operator==(const StandbyRule &) const = default;
};

class Postgres final : public PostgresControl {
public:
    explicit Postgres(Host &host) : host_(host) {}

    // -- ports
    LocalState close_gate() override;
    Sampled sample() override { return {local_state(), lineage(), confirmed(), foreign_}; }
    void open_gate(const OpenGate &upstream) override;
    void set_lease(Instant until) override;
    void settled() override;
    void promote(Term term) override;
    void demote(const std::string &reason) override;
    void rejoin(const Rejoin &rejoin) override;
    void apply_sync(const ApplySync &sync) override;
    void note(const Note &note) override;
    void trace(const std::string &line) override;

    // -- data directory
    WalPoint wal;           // end of what is flushed
    std::optional<Echo> echo; // pg_ha.echo
    StandbyRule saved_rule; // postgresql.auto.conf
    bool half_rewound() const { return rewind_ && rewind_->reached.branch != no_branch; }
    bool rewinding() const { return server_alive_ && rewind_; }
    void run_helper(); // in place of recovery: the server is up for nobody meanwhile

    // -- processes
    bool postmaster = false; // accepts connections, will restart children
    bool in_recovery = true;
    bool alive() const { return server_alive_ || backends_alive_; }
    bool writable() const { return backends_alive_ && !in_recovery && !stopping_; }
    bool lease_holds() const;
    bool opening() const { return in_recovery && promoting_; } // told to leave recovery
    bool streaming() const { return receiver_.connected; }
    int upstream() const { return receiver_.upstream; }
    Term gate_term() const { return receiver_.gate ? receiver_.term : Term::none; } // none: shut
    bool promote_by_hand(); // false: it cannot be, now
    void start(bool as_standby);
    void kill();        // every process, at once
    void end_streams(); // walsenders, walreceiver and startup process
    void stop_clean();
    void watch_stream(); // now and then: is the other end still there?
    LocalState local_state() const;
    Lineage lineage() const;
    Lsn confirmed() const;
    Time last_streamed = 0;    // when WAL or an acknowledgement of it last moved here, as a standby
    Time last_acknowledged = 0; // virtual time of the newest commit a client got success for here

    void begin_sessions();
    void freeze_in_commit(int step, Time duration); // the machine, as soon as a session has taken that step
    Time longest_wait() const; // of a commit for the standbys, while the lease runs
    const SyncRule &wanted_rule() const { return wanted_.rule; }
    void upstream_closed(int up, std::uint32_t connection);

private:
    struct Receiver {
        bool gate = false;
        bool connected = false;
        Term term = Term::none;
        int upstream = -1;
        std::uint32_t number = 0;     // of the attempt or stream; others are void
        std::uint32_t connection = 0; // the upstream's number
        std::uint32_t upstream_epoch = 0;
        Time silent_since = 0;
    };
    struct Sender { // a walsender for one standby
        bool connected = false;
        bool busy = false;        // a chunk is under way
        bool finishing = false;   // end of COPY once everything is sent,
        std::uint64_t last = 0;   // ... which on a standby that was promoted is the old timeline
        bool false_claim = false; // serves a standby that has other WAL
        std::uint32_t connection = 0;
        std::uint64_t sent = 0;
        std::uint64_t flushed = 0; // as the standby says
        Time acknowledgement_fifo = 0;
    };
    struct Waiter {
        int session;
        std::uint64_t lsn;
        Time since;
    };
    struct Chunk {
        std::int8_t upstream, standby;
        std::uint32_t connection, number;
        WalPoint end;
    };

    struct Rewind { // journal of the helper, beside the data directory
        int source = -1;
        Timeline timeline = Timeline::none;
        WalPoint reached; // files of the source up to there lie among our own; no_branch: nothing touched yet
    };

    World &world() const;
    // rewind.cpp
    Host *rewind_source() const;
    void begin_rewind();
    void finish_rewind();
    void correct_state(const Host &source);
    // stream.cpp
    void connect_later(Time delay);
    void try_connect(std::uint32_t number);
    void connect_failed(bool refused);
    bool looks_alike(WalPoint theirs) const;
    void accept(int standby);
    void claim_falsely();
    void pump(int standby);
    void pump_all();
    void arrived(Chunk chunk);
    void flushed(Chunk chunk);
    void acknowledge(std::uint64_t lsn);
    void acknowledged(int standby, std::uint32_t connection, std::uint64_t lsn);
    void drop_receiver();
    bool receives_from(int up, std::uint32_t connection) const;
    void stream_ended(bool finished);
    void finish_senders();
    void end_of_copy(int standby);
    void disconnected(int standby, std::uint32_t connection);
    // postgres_fake.cpp
    void finish_promotion(Term term);
    void finish_stop();
    void rule_begins(std::uint32_t version);
    void rule_done(std::uint32_t version);
    void forget_shared_memory();
    // sessions.cpp
    void write(int session);
    void insert(int session);
    void flush_commit(int session, std::uint64_t lsn);
    void last_check(int session, std::uint64_t lsn);
    void answer(int session, WalPoint commit);
    void next_write(int session, Time delay);
    void took_step(int step);
    void read();
    bool released(std::uint64_t lsn) const;
    int flushed_by(const StandbyRule &rule, std::uint64_t lsn) const;
    void release(std::uint64_t lsn, const StandbyRule &rule);
    void release_waiters();

    Host &host_;
    bool server_alive_ = false, backends_alive_ = false;
    bool stopping_ = false, promoting_ = false;
    bool position_known_ = false;
    Timeline foreign_ = Timeline::none; // shared memory: the primary has other WAL of that number
    Instant lease_{};                // shared memory
    Time leased_since_ = 0;          // without a gap
    std::uint64_t inserted_ = 0;     // end of WAL in memory, a primary's
    std::uint64_t released_ = 0;     // WalSndCtl->lsn
    bool settled_ = false;           // shared memory: sessions are let in
    std::uint64_t visible_ = 0;      // what a session sees: recovered here, or released by the standbys
    std::vector<StandbyRule> rules_; // in use; several while a change spreads
    ApplySync wanted_;
    std::uint32_t wanted_version_ = 0;
    std::optional<Rewind> rewind_;
    Receiver receiver_;
    std::array<Sender, hosts_max> senders_;
    std::vector<Waiter> waiters_;
    int freeze_step_ = -1;
    Time freeze_for_ = 0;
};

} // namespace pg_ha::sim
