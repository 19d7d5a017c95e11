// SPDX-License-Identifier: PostgreSQL
//
// The node worker's loop: network, latch, signals, postmaster death and one timer, in one thread,
// which is also the only one that calls PostgreSQL.  Handlers of the network run inside run_one();
// everything else happens in work(), between them.
//
// Before the server is a member the worker waits without opening a port and says in the status what
// it waits for.  Nothing here may block but the vote's fdatasync.
//
// Whatever goes wrong, the worker fences first: the lease is set to zero and the gate shut, then it
// exits with status 1 and the postmaster starts it again.  Never by a signal or another status,
// which would restart every session - except where that is the purpose (demotion, SIGQUIT).
#include "node_worker.hpp"
#include "core/invariants.hpp"
#include "entry.hpp"

#include "guc.hpp"
#include "rejoin.hpp"
#include "snapshot.hpp"
#include "start_gate.hpp"

extern "C" {
#include "access/xlog.h"
#include "miscadmin.h"
#include "postmaster/postmaster.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/guc.h"
#include "utils/memutils.h"
}

#include <algorithm>
#include <stdexcept>
#include <unistd.h>

namespace pg_ha {

using std::chrono::milliseconds;
using std::chrono::seconds;

namespace {

constexpr Duration retry_every = seconds(1);
constexpr Duration rejoin_retry = seconds(60);
constexpr Duration primary_patience = seconds(5);
constexpr Duration last_words = milliseconds(20);
constexpr int exit_again = 1;                       // the postmaster starts the worker again
constexpr int exit_crash = 2;                       // the postmaster restarts all processes

void fence_now() {
    pg_atomic_write_u64(&shared->lease_until_ns, 0);
    pg_atomic_write_u32(&shared->gate_term, 0);
}

void throw_invariant(const char *text) { throw std::logic_error(std::string("broken invariant: ") + text); }

int log_level(NetLogLevel level) { return level == NetLogLevel::debug ? DEBUG1 : LOG; }

// A latch set by another process raises SIGURG only for a latch that says it may be slept on.
void announce_sleep(bool sleeping) {
    MyLatch->maybe_sleeping = sleeping;
    pg_memory_barrier();
}

} // namespace

// ---- the loop ----------------------------------------------------------------------------------------

NodeWorker::NodeWorker(const WakeSources &sources)
    : sources_(sources), runtime_(callbacks()), snapshot_(std::make_unique<Snapshot>()) {
    runtime_.watch(sources_.latch, [this] { drain(sources_.latch); });
    runtime_.watch(sources_.signal, [this] {
        drain(sources_.signal);
        woken_ = true;
    });
    runtime_.watch(sources_.postmaster, [this] { postmaster_died_ = true; }); // nobody writes to that pipe
}

NetCallbacks NodeWorker::callbacks() {
    NetCallbacks calls;
    calls.received = [this](const Message &message) {
        if (agent())
            agent()->handle(Received{message});
    };
    calls.link_up = [this](NodeId peer, const std::string &) {
        if (agent())
            agent()->handle(LinkUp{peer});
    };
    calls.peer_gone = [this](NodeId peer) {
        if (agent())
            agent()->handle(PeerGone{peer});
    };
    calls.log = [](NetLogLevel level, const std::string &line) { // ereport below ERROR returns
        ereport(log_level(level), (errmsg("pg_ha: %s", line.c_str())));
    };
    return calls;
}

int NodeWorker::run() {
    for (;;) {
        if (postmaster_died_) {
            fence_now();
            shut_down(false);
            _exit(exit_again);
        }
        if (quit_requested()) {
            shut_down(false);
            _exit(exit_crash);
        }
        if (stop_requested()) {
            if (!postmaster_stops()) {
                ereport(LOG, (errmsg("pg_ha: node worker was terminated and will be started again")));
                return exit_again;
            }
            shut_down(true);
            return 0;
        }
        work();
        wait_once();
    }
}

void NodeWorker::wait_once() {
    Instant next = retry_due_;
    if (agent()) {
        next = std::min({agent()->next_deadline(), status_due_, membership_->control.next_poll()});
        if (!membership_->control.demotion().empty())
            next = std::min(next, retry_due_);
        if (membership_->control.wanted_rejoin())
            next = std::min(next, rejoin_due_);
    }
    if (next != armed_for_) {
        armed_for_ = next;
        runtime_.arm(next, [this] { armed_for_ = never; });
    }
    announce_sleep(true);
    if (!MyLatch->is_set)
        runtime_.run_one();
    announce_sleep(false);
    if (MyLatch->is_set) {
        ResetLatch(MyLatch);
        woken_ = true;
    }
}

void NodeWorker::work() {
    if (take_reload_request())
        reload();
    if (!agent()) {
        try_to_start();
        return;
    }
    Agent &node = *agent();
    const Instant now = runtime_.now();
    for (const Event &event : membership_->control.poll(now))
        node.handle(event);
    if (woken_) {
        woken_ = false;
        node.handle(membership_->control.sample());
    }
    answer_operator();
    take_manager_notes();
    const bool ticks = node.next_deadline() <= runtime_.now();
    if (ticks) {
        node.tick(); // samples as well
        look_for_missing_wal();
    }
    keep_network_current();
    if (bootstrap_)
        finish_bootstrap();
    // A status goes with the heartbeat; it has a time of its own only where nothing ticks.
    if (membership_ && (membership_->control.take_changed() || ticks || now >= status_due_))
        write_status();
    demote_if_asked();
    rejoin_if_asked();
}

// What the manager worker did on its own, among this server's other decisions.
void NodeWorker::take_manager_notes() {
    char text[ha_text_bytes];
    while (take_manager_note(&text)) {
        const Status status = agent()->status();
        membership_->control.note(Note{status.role, status.role, status.term, membership_->control.sample().local.position, text});
    }
}

namespace {

// What the core does not know of; only this server shows it.
void add_to_reason(Status &status, const std::string &what) {
    if (what.empty())
        return;
    status.reason += (status.reason.empty() ? "" : "; ") + what;
    for (MemberStatus &member : status.members)
        if (member.self)
            member.report.reason += (member.report.reason.empty() ? "" : "; ") + what;
}

bool somebody_is_away(const Status &status) {
    return std::any_of(status.members.begin(), status.members.end(), [](const MemberStatus &row) {
        return row.member.kind == MemberKind::data && !row.self && row.liveness != Liveness::alive;
    });
}

} // namespace

void NodeWorker::write_status() {
    const Instant now = runtime_.now();
    if (agent()) {
        Status status = agent()->status();
        char alarm[ha_text_bytes];
        read_slots_alarm(&alarm);
        add_to_reason(status, alarm);
        add_to_reason(status, missing_wal_);
        look_for_rejoins(somebody_is_away(status));
        raise_alarm(status.alarm);
        if (const std::string &why = membership_->identity.why_new; status.role == Role::joining && !why.empty())
            status.reason += "; its state was not usable: " + why;
        fill_snapshot(status, now, snapshot_.get());
        if (snapshot_->node_name[0] == '\0') // not admitted yet
            strlcpy(snapshot_->node_name, guc_node_name, sizeof(snapshot_->node_name));
        status_due_ = now + 2 * membership_->settings.heartbeat_interval;
    } else {
        fill_passive_snapshot(guc_node_name, GetSystemIdentifier(), passive_reason_, snapshot_.get());
    }
    write_snapshot(snapshot_.get());
}

// A manager worker that has nothing else to do is woken when there is something to look for.
void NodeWorker::look_for_rejoins(bool away) {
    if (pg_atomic_exchange_u32(&shared->members_away, away) == (away ? 1u : 0u))
        return;
    if (Latch *latch = shared->manager_latch)
        SetLatch(latch);
}

// While there is still time.
void NodeWorker::raise_alarm(const std::string &alarm) {
    if (alarm == alarm_)
        return;
    alarm_ = alarm;
    if (alarm.empty())
        ereport(LOG, (errmsg("pg_ha: this server can follow every other again")));
    else
        ereport(WARNING, (errmsg("pg_ha: this server %s", alarm.c_str()),
                          errdetail("PostgreSQL stops recovery on a server where this is lower than on its primary.")));
}

void NodeWorker::reload() {
    guarded([] { ProcessConfigFile(PGC_SIGHUP); });
    if (!agent())
        return;
    Membership &m = *membership_;
    m.settings = make_settings(m.secret);
    agent()->reconfigure(m.settings);
    keep_network_current();
}

// Other seeds, or another identity because the primary has voided the old one: greet everybody anew.
void NodeWorker::keep_network_current() {
    Membership &m = *membership_;
    const DurableState &state = agent()->durable();
    if (m.peers == guc_peers && m.opened_as == state.self)
        return;
    m.peers = guc_peers;
    m.opened_as = state.self;
    runtime_.close();
    runtime_.open(make_net_options(m.secret, m.settings, state.self));
    runtime_.set_peers(state.configuration.members);
}

// Tells the peers.  A clean stop lets the server end the WAL stream itself, after the last byte.
void NodeWorker::shut_down(bool clean) {
    if (!agent())
        return;
    agent()->handle(ShuttingDown{clean});
    write_status();
    runtime_.flush(last_words);
    if (DurableState last = agent()->durable(); clean)
        save_apart(last, membership_->file); // copies of the directories made until now are told from them
}

// As a standby this server would stop at the first record of the new primary, and could not be started again.  Fenced
// as it is, it can be read.  Who is primary now may not be known yet.
bool NodeWorker::must_not_demote() {
    const Status status = agent()->status();
    const Instant now = runtime_.now();
    demotion_since_ = std::min(demotion_since_, now);
    const bool unknown = status.primary == NodeId::none && now - demotion_since_ < primary_patience;
    if (status.alarm.empty() || !(status.cannot_follow || unknown))
        return false;
    if (status.cannot_follow && !demotion_refused_)
        ereport(WARNING, (errmsg("pg_ha: this server is fenced, but does not become a standby: it %s", status.alarm.c_str()),
                          errdetail("No commit is acknowledged here."),
                          errhint("Raise the setting and restart this server: it starts as a standby.")));
    demotion_refused_ = status.cannot_follow;
    retry_due_ = now + retry_every;
    return true;
}

void NodeWorker::demote_if_asked() {
    if (!agent() || membership_->control.demotion().empty() || runtime_.now() < retry_due_)
        return;
    fence_now();
    runtime_.flush(last_words);
    if (must_not_demote())
        return;
    const char *error = write_standby_signal();
    if (error != nullptr) {
        ereport(LOG, (errmsg("pg_ha: cannot become a standby: %s: %m", error),
                      errdetail("No commit is acknowledged here. It is tried again.")));
        retry_due_ = runtime_.now() + retry_every;
        return;
    }
    ereport(LOG, (errmsg("pg_ha: restarting as a standby: %s", membership_->control.demotion().c_str()),
                  restart_after_crash ? 0 : errhint("restart_after_crash is off, so this server ends now. Start it: it starts as a standby.")));
    _exit(exit_crash);
}

// The cycle that follows runs the helper before recovery begins (rejoin_postmaster.cpp).
void NodeWorker::rejoin_if_asked() {
    if (!agent() || !(membership_->control.wanted_rejoin() || clone_))
        return;
    const Instant now = runtime_.now();
    if (rejoin_due_ != never && now < rejoin_due_)
        return;
    rejoin_due_ = now + retry_every;
    if (clone_has_to_wait())
        return;
    const bool rewind = membership_->control.wanted_rejoin().has_value();
    const Rejoin &wanted = rewind ? *membership_->control.wanted_rejoin() : *clone_;
    const std::string clone = !rewind ? clone_because_ : wanted.data_ahead ? "its data files need WAL that was lost with a primary" : "";
    const std::string what = clone.empty() ? "to be rewound to the history of " + wanted.leader_name : "to be cloned anew: " + clone;
    try {
        const Duration pause = rejoin_pause(!rewind);
        rejoin_due_ = now + std::max<Duration>(pause, retry_every);
        if (pause > Duration{0})
            return;
        rejoin_request(wanted, agent()->durable().configuration, agent()->durable().self, clone);
    } catch (const std::runtime_error &error) {
        ereport(LOG, (errmsg("pg_ha: cannot be %s: %s", clone.empty() ? "rewound" : "cloned anew", error.what())));
        rejoin_due_ = now + rejoin_retry;
        return;
    }
    if (!restart_after_crash) {
        ereport(LOG, (errmsg("pg_ha: this server has %s", what.c_str()),
                      errhint("restart_after_crash is off, so restart the server: it is done before recovery begins.")));
        rejoin_due_ = now + rejoin_retry;
        return;
    }
    ereport(LOG, (errmsg("pg_ha: restarting in place %s", what.c_str())));
    fence_now();
    runtime_.flush(last_words);
    _exit(exit_crash);
}

// Once, by the first worker after it.
void NodeWorker::report_rejoin() {
    try {
        const std::string report = rejoin_take_report();
        Membership &m = *membership_;
        if (!report.empty())
            m.control.note(Note{Role::standby, Role::standby, m.identity.state.term, m.control.sample().local.position, report});
    } catch (const std::runtime_error &error) { // no reason not to take part
        ereport(LOG, (errmsg("pg_ha: cannot tell what became of the rejoin: %s", error.what())));
    }
}

} // namespace pg_ha

namespace {

void leave(int, Datum) { pg_ha::shared->node_latch = nullptr; }

} // namespace

void pg_ha_node_main(Datum) {
    using namespace pg_ha;
    MemoryContextSwitchTo(AllocSetContextCreate(TopMemoryContext, "pg_ha node", ALLOCSET_DEFAULT_SIZES));
    before_shmem_exit(leave, 0);
    shared->node_latch = MyLatch;
    int status = exit_again;
    const Failure failure = run_cpp([&status] {
        set_invariant_handler(throw_invariant);
        NodeWorker worker(install_wake_sources());
        status = worker.run();
    });
    if (failure.failed) {
        fence_now();
        ereport(LOG, (errmsg("pg_ha: node worker stops: %s", failure.text),
                      errdetail("No commit is acknowledged here until it has started again.")));
    }
    proc_exit(status);
}
