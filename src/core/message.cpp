// SPDX-License-Identifier: PostgreSQL
//
// The words that people read in status, log and trace.
#include "message.hpp"
#include "status.hpp"

namespace pg_ha {

const char *to_string(Role role) {
    switch (role) {
    case Role::passive: return "passive";
    case Role::joining: return "joining";
    case Role::standby: return "standby";
    case Role::candidate: return "candidate";
    case Role::promoting: return "promoting";
    case Role::primary: return "primary";
    case Role::deposed: return "deposed";
    case Role::stopping: return "stopping";
    }
    return "unknown";
}

const char *to_string(Refusal refusal) {
    switch (refusal) {
    case Refusal::none: return "none";
    case Refusal::stale_term: return "knows a higher term";
    case Refusal::already_voted: return "voted for another in this term";
    case Refusal::promised: return "its promise to the primary has not run out";
    case Refusal::position_behind: return "its WAL is ahead";
    case Refusal::position_unknown: return "has not read its own WAL to the end";
    case Refusal::not_eligible: return "candidate may not become primary";
    case Refusal::not_voter: return "does not vote";
    case Refusal::just_restarted: return "restarted less than one lease ago";
    case Refusal::storage_failed: return "cannot store its vote";
    }
    return "unknown";
}

const char *to_string(Rejection rejection) {
    switch (rejection) {
    case Rejection::name_in_use: return "another living member has this pg_ha.node_name";
    case Rejection::wrong_system: return "its data directory is not a clone of this cluster (system identifier differs)";
    case Rejection::stale_incarnation: return "its state directory is an old copy";
    case Rejection::cloned_identity: return "another server runs with the same identity";
    case Rejection::not_member: return "it is not a member";
    case Rejection::cluster_full: return "the cluster has its greatest number of members";
    }
    return "unknown";
}

const char *to_string(Liveness liveness) {
    switch (liveness) {
    case Liveness::alive: return "alive";
    case Liveness::suspect: return "suspect";
    case Liveness::unreachable: return "unreachable";
    }
    return "unknown";
}

} // namespace pg_ha
