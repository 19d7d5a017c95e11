// SPDX-License-Identifier: PostgreSQL
//
// Who this server is.  A state that is missing, unreadable, an old copy, beside an old or foreign data directory, older
// than the WAL or of another cluster never votes: the server gets a new identity, joins as a learner, and the primary
// retires the old one.  A state
// under another node name is an operator's mix-up: the server stays passive until it is resolved.
#include "identity.hpp"
#include "backend.hpp"
#include "net/addresses.hpp"
#include "timeline_files.hpp"

#include "guc.hpp"

extern "C" {
#include "access/xlog.h"
#include "catalog/pg_control.h"
#include "common/controldata_utils.h"
#include "miscadmin.h"
#include "access/twophase.h"
#include "postmaster/postmaster.h"
#include "replication/walsender.h"
#include "storage/lock.h"
}

#include <algorithm>
#include <stdexcept>

namespace pg_ha {

using std::chrono::milliseconds;

namespace {

std::vector<std::string> listen_addresses() { return split_list(guc_listen_addresses); }

std::string advertised_host() {
    if (guc_advertise_address[0] != '\0')
        return guc_advertise_address;
    const std::vector<std::string> addresses = listen_addresses();
    const bool nameless = addresses.empty() || addresses[0] == "*" || addresses[0] == "0.0.0.0" || addresses[0] == "::";
    return nameless ? "localhost" : addresses[0];
}

DurableState fresh_state() {
    DurableState state;
    state.self = static_cast<NodeId>(strong_random());
    state.node_name = guc_node_name;
    return state;
}

// As the control file has it: of the newest checkpoint, or of WAL replayed or written after it.
Timeline timeline_of_wal() {
    TimeLineID timeline = 0;
    guarded([&timeline] {
        bool checksum_ok = false;
        const ControlFileData *control = get_controlfile(DataDir, &checksum_ok);
        timeline = Max(control->checkPointCopy.ThisTimeLineID, control->minRecoveryPointTLI);
    });
    return static_cast<Timeline>(timeline);
}

// Empty: the loaded state belongs here.
std::string why_foreign(const DurableState &state, const ClusterSecret &secret, const Settings &settings) {
    const Configuration &configuration = state.configuration;
    if (configuration.cluster == no_cluster)
        return "";
    if (configuration.cluster != secret.cluster)
        return "it belongs to cluster " + to_string(configuration.cluster) + ", the secret to cluster " +
               to_string(secret.cluster);
    if (configuration.system_identifier != settings.system_identifier)
        return "it belongs to system " + std::to_string(configuration.system_identifier) + ", the data directory to " +
               std::to_string(settings.system_identifier);
    return "";
}

Identity replaced_state(StateFile &file, const std::string &why, const char *hint = nullptr) {
    ereport(LOG, (errmsg("pg_ha: the state in \"%s\" is not usable: %s", state_directory(), why.c_str()),
                  errdetail("It is kept aside there. This server goes on under a new identity, without a vote, until the "
                            "primary admits it."),
                  hint ? errhint("%s", hint) : 0));
    file.set_aside();
    return {fresh_state(), why};
}

} // namespace

std::uint64_t strong_random() {
    std::uint64_t number = 0;
    while (number == 0)
        if (!pg_strong_random(&number, sizeof(number)))
            throw std::runtime_error("no random numbers from the kernel");
    return number;
}

Settings make_settings(const ClusterSecret &secret) {
    Settings settings;
    settings.cluster = secret.cluster;
    settings.system_identifier = GetSystemIdentifier();
    settings.node_name = guc_node_name;
    settings.peer = {advertised_host(), static_cast<std::uint16_t>(guc_port)};
    settings.postgres = {advertised_host(), static_cast<std::uint16_t>(PostPortNumber)};
    // The default may be too slow for a short lease; see check_heartbeat_interval() in guc.cpp.
    settings.heartbeat_interval = milliseconds(std::min(guc_heartbeat_interval_ms, guc_lease_duration_ms / 3));
    settings.lease_duration = milliseconds(guc_lease_duration_ms);
    settings.synchronous = guc_synchronous;
    settings.min_sync_standbys = static_cast<unsigned>(guc_min_sync_standbys);
    settings.max_lag_on_failover = static_cast<std::uint64_t>(guc_max_lag_on_failover_kb) * 1024;
    settings.priority = static_cast<std::uint16_t>(guc_failover_priority);
    settings.parameters = {static_cast<std::uint32_t>(MaxConnections), static_cast<std::uint32_t>(max_worker_processes),
                           static_cast<std::uint32_t>(max_wal_senders), static_cast<std::uint32_t>(max_prepared_xacts),
                           static_cast<std::uint32_t>(max_locks_per_xact)};
    settings.tracing = guc_trace;
    return settings;
}

NetOptions make_net_options(const ClusterSecret &secret, const Settings &settings, NodeId self) {
    NetOptions options;
    options.secret = secret;
    options.listen_addresses = listen_addresses();
    options.port = static_cast<std::uint16_t>(guc_port);
    options.seeds = parse_peers(guc_peers, 7432).value_or(std::vector<Endpoint>{});
    std::erase(options.seeds, settings.peer); // the same list may be used on every server
    options.self = self;
    options.node_name = settings.node_name;
    options.system_identifier = settings.system_identifier;
    options.heartbeat_interval = settings.heartbeat_interval;
    return options;
}

Identity choose_identity(StateFile &file, const ClusterSecret &secret, const Settings &settings) {
    if (file.condition() == StateCondition::missing)
        return {fresh_state(), ""};
    if (file.condition() != StateCondition::valid)
        return replaced_state(file, describe(file.condition()), advice(file.condition()));
    const DurableState &loaded = file.loaded();
    // A voter stores a term before its server gets on that term's timeline.  A newer timeline was made behind
    // our back, by a promotion by hand, or the state is an old copy.  Such WAL would outrank that of the
    // elected primary in the next election, so it must not come with a vote.
    if (loaded.configuration.is_voter(loaded.self) && raw(newest_timeline()) > raw(loaded.term)) {
        Identity fresh = replaced_state(file, "it knows terms up to " + std::to_string(raw(loaded.term)) +
                                                  ", but the server is on timeline " +
                                                  std::to_string(raw(newest_timeline())));
        if (raw(timeline_of_wal()) > raw(loaded.term)) // not the mere history of somebody else's
            fresh.state.by_hand = static_cast<Timeline>(raw(loaded.term) + 1);
        return fresh;
    }
    if (const std::string why = why_foreign(loaded, secret, settings); !why.empty())
        return replaced_state(file, why);
    if (loaded.node_name != settings.node_name)
        throw std::runtime_error("the state directory belongs to node \"" + loaded.node_name +
                                 "\", but pg_ha.node_name is \"" + settings.node_name +
                                 "\": set the old name again, or give this server a state directory of its own");
    return {loaded, ""};
}

} // namespace pg_ha
