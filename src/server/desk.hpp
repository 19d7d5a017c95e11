// SPDX-License-Identifier: PostgreSQL
//
// Where sessions ask the node worker for what operators want, and wait for its answer: one session at a
// time, one request at a time.  A request that nobody waits for any more is not carried out.
#pragma once

#include "shmem.hpp"

namespace pg_ha {

enum class Ask : uint32 { nothing = 0, price = 1, forced_failover = 2, switchover = 3, pause = 4, resume = 5, removal = 6, stand = 7 };
enum class Said : uint32 { pending = 0, begun = 1, refused = 2, priced = 3 };

// Texts are palloc'ed.
struct Reply {
    Said said;
    char *detail;
    char *text;
    uint64 asked_ns; // BOOTTIME; snapshots taken later know of what was begun
};

// desk.cpp, in a session.  Errors out if another session asks at this moment, or the worker is silent for 10 s.
Reply ask_node_worker(Ask what, const char *target);
void pause_briefly();  // 10 ms, or until the latch; interruptible
// A copy of the snapshot, palloc'ed; not valid if there is none.
Snapshot *look_at_snapshot();
const MemberRow *member_called(const Snapshot *snapshot, const char *name); // null: nobody
// Errors out where pg_ha is not loaded or this server is no member.
const Snapshot *require_membership();

// desk.cpp, in the node worker.
struct Asked {
    Ask what;
    uint32 ticket;
    char target[ha_name_bytes];
};
Asked take_request();
void answer_request(uint32 ticket, Said said, const char *detail, const char *text);

} // namespace pg_ha
