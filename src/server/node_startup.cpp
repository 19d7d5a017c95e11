// SPDX-License-Identifier: PostgreSQL
//
// How a server becomes a member: as a clone that finds the cluster's secret in its data directory,
// or by ha_bootstrap().  Until then the port is closed, and the status says what is waited for.
// Every obstacle is looked at again once a second, so removing it is enough.
//
// ha_bootstrap() is answered only when its session, and every other, can commit: the lease runs, and
// only then is the fence armed.  If that does not come about, everything is undone.
#include "node_worker.hpp"

#include "guc.hpp"
#include "rejoin.hpp"
#include "start_gate.hpp"

extern "C" {
#include "access/xlog.h"
#include "access/xlogrecovery.h"
#include "miscadmin.h"
}

#include <stdexcept>
#include <unistd.h>

namespace pg_ha {

using std::chrono::seconds;

namespace {

constexpr Duration retry_every = seconds(1);
constexpr Duration recovery_poll = std::chrono::milliseconds(10); // commits wait for us when it is over
constexpr Duration bootstrap_patience = seconds(8); // ha_bootstrap() itself waits a little longer

enum BootstrapResult : uint32 { bootstrap_done = 1, bootstrap_refused = 2 };

// Taken up: the session can no longer withdraw it and waits for the answer.
bool take_bootstrap_request() {
    uint32 requested = 1;
    return pg_atomic_compare_exchange_u32(&shared->bootstrap_requested, &requested, 0);
}

void answer_bootstrap(BootstrapResult result) { pg_atomic_write_u32(&shared->bootstrap_result, result); }

// This server replays its own crash and will then open for writes by itself: no time to take part.
bool in_crash_recovery() {
    return GetRecoveryState() == RECOVERY_STATE_CRASH && access(STANDBY_SIGNAL_FILE, F_OK) != 0;
}

void require_valid(const Settings &settings) {
    for (const SettingError &error : validate(settings))
        throw std::runtime_error(error.message + ": " + error.hint);
}

} // namespace

NodeWorker::Membership::Membership(const ClusterSecret &s)
    : secret(s), settings(make_settings(s)), file(state_directory(), echo_file_name), identity(choose_identity(file, s, settings)),
      control(settings.node_name), peers(guc_peers) {
    require_valid(settings);
}

// Empty: nothing keeps this server from taking part.
std::string NodeWorker::why_passive() const {
    if (guc_missing())
        return std::string(guc_missing()) + ": " + guc_missing_hint();
    if (in_crash_recovery())
        return "PostgreSQL replays its WAL after a crash";
    if (bootstrap_)
        return RecoveryInProgress() ? "a standby cannot start a cluster" : "";
    if (!start_gate_is_member())
        return "no cluster yet: run SELECT ha_bootstrap() here, or clone this server from a member with pg_basebackup";
    if (!RecoveryInProgress() && read_state(state_directory(), echo_file_name).condition != StateCondition::valid)
        return std::string("PostgreSQL is writable and has the secret of a cluster, but no valid state in \"") +
               state_directory() + "\": restart it, and it joins as a standby";
    return "";
}

void NodeWorker::try_to_start() {
    const Instant now = runtime_.now();
    bootstrap_ = take_bootstrap_request();
    if (now < retry_due_ && !woken_ && !bootstrap_)
        return;
    woken_ = false;
    retry_due_ = now + (in_crash_recovery() ? recovery_poll : retry_every);
    try {
        if (const std::string why = why_passive(); !why.empty())
            stay_passive(why);
        else
            start_membership();
    } catch (const std::runtime_error &error) {
        stay_passive(error.what());
    }
}

void NodeWorker::stay_passive(const std::string &why) {
    runtime_.close();
    membership_.reset();
    if (why != passive_reason_ || bootstrap_)
        ereport(LOG, (errmsg("pg_ha: %s: %s", bootstrap_ ? "cannot bootstrap" : "not taking part in a cluster", why.c_str())));
    passive_reason_ = why;
    write_status();
    if (bootstrap_)
        answer_bootstrap(bootstrap_refused);
    bootstrap_ = false;
}

void NodeWorker::start_membership() {
    membership_ = std::make_unique<Membership>(read_secret(secret_file()));
    Membership &m = *membership_;
    DurableState &state = m.identity.state;
    if (rejoin_was_done())
        state.by_hand = Timeline::none; // that WAL is gone
    if (!begin_run(state, m.file))
        throw std::runtime_error(std::string("could not write the state file in \"") + state_directory() +
                                 "\", or " + echo_file_name + " in the data directory");
    m.control.close_gate();
    runtime_.open(make_net_options(m.secret, m.settings, state.self));
    m.opened_as = state.self;
    m.agent.emplace(Ports{runtime_, m.file, runtime_, m.control}, m.settings, state, m.control.sample().local,
                    strong_random());
    m.agent->start();
    report_rejoin();
    passive_reason_.clear();
    if (bootstrap_) {
        bootstrap_deadline_ = runtime_.now() + bootstrap_patience;
        const Timeline timeline = m.control.sample().local.position.timeline;
        m.agent->handle(Bootstrap{m.secret.cluster, m.settings.system_identifier, timeline});
    }
}

void NodeWorker::finish_bootstrap() {
    const Instant now = runtime_.now();
    const Status status = agent()->status();
    if (status.role == Role::primary && boot_now_ns() < pg_atomic_read_u64(&shared->lease_until_ns)) {
        pg_atomic_write_u32(&shared->armed, 1);
        answer_bootstrap(bootstrap_done);
        bootstrap_ = false;
    } else if (now >= bootstrap_deadline_) {
        membership_->file.set_aside();
        stay_passive("the first term could not be started: " + status.reason);
    }
}

} // namespace pg_ha
