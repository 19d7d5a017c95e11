// SPDX-License-Identifier: PostgreSQL
//
// What is measured in a large cluster: the cost of a node at rest, false suspicions, how soon a dead member
// is noticed and a change is known everywhere.  The fakes are the business of cluster.hpp.
#pragma once

#include "cluster.hpp"

namespace pg_ha::gossip_scale {

struct Conditions {
    const char *name = "quiet";
    double loss = 0;       // of messages, each way
    double slow_share = 0; // of the members; never the primary
};

struct Plan {
    std::size_t members = 100;
    Conditions conditions;
    double watched_hours = 5;  // node-hours at rest
    std::size_t kills = 10;
    std::size_t changes = 10;
};

struct Spread { // seconds
    double median = 0;
    double worst = 0; // of few samples it is the 99th percentile as well
};

struct Figures {
    // per node and second
    double messages_mean = 0, messages_max = 0;
    double bytes_mean = 0, bytes_max = 0;
    std::size_t largest_heartbeat = 0;
    // per node-hour, of members that live
    double suspicions_raised = 0;  // by own probes
    double suspicions_of_sound = 0; // of these, of members that are not slow
    double unreachable = 0;        // members held to be dead, per observer
    double lease_held = 0;         // share of the time
    Spread first_suspects, all_suspect, first_unreachable, all_unreachable, all_know;
    std::size_t not_detected = 0, not_known = 0;
};

// Brings a new cluster to rest under these conditions and measures.
Figures measure(const Plan &plan, std::uint64_t seed);

} // namespace pg_ha::gossip_scale
