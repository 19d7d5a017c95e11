// SPDX-License-Identifier: PostgreSQL
//
// A standby that was away for too long: its primary no longer has the WAL that it needs next.  The gate
// notices the primary's refusals (gate.cpp); here the node worker decides what follows from them.  It says so, and
// clones itself anew by the way of a rejoin, as a server does that cannot be rewound.
//
// Must never do that where somebody is better off with the server as it is: while the primary's majority
// needs its vote, while it belongs to the sync set, or while an archive may still have what it needs.
#include "node_worker.hpp"

extern "C" {
#include "access/xlogrecovery.h"
}

#include <algorithm>

namespace pg_ha {

namespace {

// Without a byte of progress.
constexpr Duration patience = std::chrono::seconds(20);
constexpr std::uint32_t refusals_that_count = 2;

// A clone takes long, and gets a new identity at its end: can the others do without this one?
bool majority_without_self(const Status &status) {
    const auto counts = [&status](const MemberStatus &m) {
        return m.member.voter && !m.self && m.liveness == Liveness::alive;
    };
    const auto others = std::count_if(status.members.begin(), status.members.end(), counts);
    return 2 * static_cast<std::size_t>(others) > status.configuration.voter_count();
}

std::string why_not_cloned(const Status &status) {
    const auto self = std::find_if(status.members.begin(), status.members.end(), [](const MemberStatus &m) { return m.self; });
    if (recoveryRestoreCommand != nullptr && recoveryRestoreCommand[0] != '\0')
        return "restore_command is set";
    if (self != status.members.end() && self->in_sync_set)
        return "it belongs to the sync set";
    if (!majority_without_self(status))
        return "the others are no majority without it";
    return "";
}

} // namespace

// One whose data files need WAL that was lost with a primary is of no use but for its vote.
bool NodeWorker::clone_has_to_wait() {
    const std::optional<Rejoin> &wanted = membership_->control.wanted_rejoin();
    return wanted && wanted->data_ahead && !majority_without_self(agent()->status());
}

// Once per heartbeat.
void NodeWorker::look_for_missing_wal() {
    missing_wal_.clear();
    clone_.reset();
    const std::uint32_t refusals = pg_atomic_read_u32(&shared->stream_lacks_wal);
    if (refusals == 0) {
        stuck_since_ = never;
        return;
    }
    const Instant now = runtime_.now();
    const Position position = membership_->control.sample().local.position;
    if (stuck_since_ == never || position != stuck_at_) {
        stuck_at_ = position;
        stuck_since_ = now;
        stuck_refusals_ = refusals;
    }
    if (now - stuck_since_ < patience || refusals - stuck_refusals_ < refusals_that_count)
        return;
    const Status status = agent()->status();
    const Member *primary = status.configuration.find(status.primary);
    if (primary == nullptr || status.role != Role::standby)
        return;
    clone_because_ = primary->name + " no longer has the WAL that this server needs from " + to_string(position) + " on";
    const std::string obstacle = why_not_cloned(status);
    if (obstacle.empty())
        clone_ = Rejoin{primary->id, primary->name, primary->postgres, status.term, timeline_of(status.term), position,
                        position};
    missing_wal_ = clone_because_ + (obstacle.empty() ? ": it is cloned anew"
                                                      : ": clone it again; it does not do so itself because " + obstacle);
}

} // namespace pg_ha
