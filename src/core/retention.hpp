// SPDX-License-Identifier: PostgreSQL
//
// How much WAL one server keeps for each of the others: which physical slots should exist here, at which
// position, and who has been away for too long or is too far behind.  Every data node decides for itself by
// the same rule, so whoever becomes primary has kept what the others need.
//
// Must never: keep WAL without a limit, because a full disk stops the whole cluster and a member that has
// to be cloned again stops nobody; or give up a slot for want of knowledge, as after a restart.
#pragma once

#include "configuration.hpp"

#include <map>
#include <optional>

namespace pg_ha {

struct RetentionLimits {
    std::uint64_t bytes = 0;        // 0: keep no slots
    Duration time = Duration::max(); // of absence
};

// Another data node of the configuration.
struct RetainedMember {
    NodeId id = NodeId::none;
    std::string name;
    bool present = false;             // heard, and it streams or is the primary
    std::optional<Position> position; // the end of its WAL, as it last said
};

struct HeldSlot {
    NodeId member = NodeId::none;
    Lsn lsn = Lsn::none; // none: PostgreSQL has given it up, it keeps nothing
};

// What one server sees.
struct RetentionSight {
    std::vector<RetainedMember> members;
    std::vector<HeldSlot> slots;
    Position own;                  // the end of the WAL here
    Lineage lineage;               // of that WAL, as in a heartbeat of the primary
    Lsn oldest = Lsn::none;        // the first WAL that is still here
    std::uint64_t segment_bytes = 1;
    std::uint64_t free_bytes = 0;  // on the file system of the WAL
    RetentionLimits limits;
    Instant now{};
};

enum class Retention : std::uint8_t {
    following, // its slot follows it
    holding,   // it is away, or not streaming: its slot stays where it was
    dropped,   // beyond a limit: its slot was dropped, and it has to be cloned again
    none,      // no slot, for another reason
};
const char *to_string(Retention state);

struct RetentionStep {
    NodeId member = NodeId::none;
    Lsn hold = Lsn::none; // make the slot keep WAL from here on, and exist; none: drop it
    std::string event;    // what people have to be told once it is done; empty: nothing
};

struct RetentionRow {
    NodeId id = NodeId::none;
    std::string name;
    Retention state = Retention::none;
    Lsn from = Lsn::none;          // what the slot keeps, or would have to
    std::uint64_t bytes = 0;       // from there to the end
    std::uint64_t limit_bytes = 0; // what holds now, of setting and disk
    Instant away_since = never;    // never: present
    std::string reason;
};

struct RetentionDecision {
    std::vector<RetentionStep> steps; // in this order
    std::vector<RetentionRow> rows;   // as it is after them
};

// Remembers since when somebody is away, nothing else.
class RetentionRule {
public:
    RetentionDecision decide(const RetentionSight &sight);

private:
    void judge(const RetainedMember &member, const RetentionSight &sight, RetentionDecision &decision);

    std::map<NodeId, Instant> away_since_;
};

} // namespace pg_ha
