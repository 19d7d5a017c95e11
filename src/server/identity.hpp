// SPDX-License-Identifier: PostgreSQL
//
// Who this server is: settings for core and network, and its durable state.
#pragma once

#include "agent/state_file.hpp"
#include "core/settings.hpp"
#include "net/runtime.hpp"

namespace pg_ha {

// From the GUCs; also after a reload.
Settings make_settings(const ClusterSecret &secret);
NetOptions make_net_options(const ClusterSecret &secret, const Settings &settings, NodeId self);

// The state this server goes on with: what the file says, or a new identity.  Throws
// std::runtime_error with the reason if it must stay passive.
struct Identity {
    DurableState state;
    std::string why_new; // empty: the state that was found goes on
};
Identity choose_identity(StateFile &file, const ClusterSecret &secret, const Settings &settings);

std::uint64_t strong_random(); // never 0

} // namespace pg_ha
