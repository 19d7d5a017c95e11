// SPDX-License-Identifier: PostgreSQL
//
// What an operator may choose.  Nothing here can break safety; validate() refuses timing that
// would make the cluster nervous or deaf, and names every violated rule at once.
#pragma once

#include "configuration.hpp"
#include "recovery_parameters.hpp"

namespace pg_ha {

struct Settings {
    ClusterId cluster;                   // from the secret
    std::uint64_t system_identifier = 0; // of the local data directory; 0 on a witness
    std::string node_name;
    Endpoint peer;               // advertised
    Endpoint postgres;           // advertised
    MemberKind kind = MemberKind::data;
    Duration heartbeat_interval = std::chrono::milliseconds(200);
    Duration lease_duration = std::chrono::seconds(2);
    bool synchronous = true;
    unsigned min_sync_standbys = 0;               // a commit waits for at least so many, whatever is lost
    Duration standby_patience = std::chrono::seconds(2); // so long not well: lost to the sync set
    std::uint64_t max_lag_on_failover = 16 << 20; // bytes; asynchronous mode only
    std::uint16_t priority = 100;                 // 0 = primary only as stand-in (see stands_in)
    std::size_t members_max = pg_ha::members_max; // only the simulator goes beyond
    RecoveryParameters parameters{};              // of PostgreSQL, since its start
    bool tracing = false;
};

// The part of the lease that is not used, so that clocks running up to 5 % fast or slow against
// each other cannot make a voter's promise end before the primary's lease.
constexpr Duration drift_margin(Duration lease) { return lease / 10; }

struct SettingError {
    std::string message;
    std::string hint;
};
std::vector<SettingError> validate(const Settings &settings);

// node_name: 1 to 63 of [a-z0-9_-], starting with a letter or digit: safe in
// synchronous_standby_names, in file names and in labels.
bool valid_node_name(const std::string &name);

} // namespace pg_ha
