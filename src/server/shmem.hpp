// SPDX-License-Identifier: PostgreSQL
//
// The one struct in shared memory.  Every field names its writer and its rule; there is no lock that
// could wait, so status is readable whatever else is stuck.  Wiped at every (crash) restart: zero
// must mean "fenced, gate shut, nothing known".
#pragma once

extern "C" {
#include "postgres.h"
#include "port/atomics.h"
#include "storage/latch.h"
}

#include <type_traits>

namespace pg_ha {

inline constexpr int ha_name_bytes = 64;
inline constexpr int ha_host_bytes = 128;
inline constexpr int ha_text_bytes = 256;
inline constexpr int ha_members_max = 32;
inline constexpr int ha_events_max = 256;
inline constexpr int ha_manager_notes_max = 8;
inline constexpr int ha_sync_names_bytes = ha_members_max * (ha_name_bytes + 2) + 32; // every member, quoted, after "ANY n ("

// ---- status snapshot: plain data, strings always terminated -------------------------------------

struct MemberRow {
    uint64 id;
    uint64 incarnation;
    char name[ha_name_bytes];
    char kind[16];       // data | witness
    char role[16];       // to_string(Role)
    char liveness[16];   // alive | suspect | unreachable
    char peer_host[ha_host_bytes];
    char postgres_host[ha_host_bytes];
    int32 peer_port, postgres_port, priority;
    bool voter, self, is_primary, in_sync_set, streaming, position_known, in_recovery;
    uint32 term, timeline;
    uint64 lsn, replayed_lsn;
    int64 lag_bytes;     // -1 unknown
    int64 lag_ms;        // replay delay; -1 unknown
    int64 last_heard_ms; // -1 never, 0 self
    char reason[ha_text_bytes];
};

struct LinkRow {
    int16 from, to;      // index into members
    int32 rtt_us;        // -1 unknown
    int64 last_heard_ms; // -1 never
    int32 missed;
};

struct Snapshot {
    bool valid;              // false until the node worker has written one
    char node_name[ha_name_bytes];
    char cluster_id[40];     // empty: no cluster
    uint64 system_identifier;
    char role[16];
    uint32 term;
    char primary_name[ha_name_bytes]; // empty: unknown
    char primary_host[ha_host_bytes];
    int32 primary_port;
    bool quorum, synchronous, failover_possible, configuration_in_force, paused, handing_over, order_holds;
    uint32 config_term;
    uint64 config_index;
    int32 voters, write_quorum;
    uint64 lease_until_ns;   // BOOTTIME; 0 none
    uint64 taken_ns;         // BOOTTIME of the snapshot: readers add its age to ages
    char failover_reason[ha_text_bytes];
    char reason[ha_text_bytes];
    char order_ended[ha_text_bytes];  // see OrderStatus
    char order_ahead[ha_name_bytes];
    int32 member_count, link_count;
    MemberRow members[ha_members_max];
    LinkRow links[ha_members_max * ha_members_max];
};
static_assert(std::is_trivially_copyable_v<Snapshot>);

// ---- what WAL is kept for whom ------------------------------------------------------------------

struct SlotRow {
    uint64 member;        // its id, which names its slot
    char name[ha_name_bytes];
    char state[16];       // to_string(Retention)
    uint64 lsn;           // 0: nothing is kept
    uint64 bytes, limit_bytes;
    uint64 away_since_ns; // BOOTTIME; 0: it is here
    char reason[ha_text_bytes];
};

struct SlotTable {
    char alarm[ha_text_bytes]; // what keeps this server from keeping WAL; empty: nothing
    int32 count;
    SlotRow rows[ha_members_max];
};
static_assert(std::is_trivially_copyable_v<SlotTable>);

struct EventRow {
    uint64 number;       // 1, 2, ...; 0: slot unused
    int64 at;            // TimestampTz
    char from_role[16], to_role[16];
    uint32 term, timeline;
    uint64 lsn;
    char reason[ha_text_bytes];
};

// ---- members that are being rewound or cloned ------------------------------------------------------

inline constexpr int rejoin_rows_max = 4;

struct RejoinRow {
    uint64 member;
    uint32 percent, total_mb, clone;
};

struct RejoinTable {
    int32 count;
    RejoinRow rows[rejoin_rows_max];
};
static_assert(std::is_trivially_copyable_v<RejoinTable>);

// ---- the struct -----------------------------------------------------------------------------------

// A session that got `busy` writes target and request (16 * its ticket + what), sets node_latch and polls for an
// answer to its ticket.  The node worker takes the request back to 0, writes the texts, then the answer.
struct OperatorDesk {
    pg_atomic_uint32 busy, tickets, request, answer;
    char target[ha_name_bytes];
    char detail[ha_text_bytes];
    char text[1024];
};

struct Shared {
    // -- fence.  Writer: node worker; its signal handlers may only write 0 to lease_until_ns.
    // Reader: every backend at every commit.
    pg_atomic_uint64 lease_until_ns; // CLOCK_BOOTTIME; commits may be acknowledged before it
    pg_atomic_uint32 armed;          // 1: member of a cluster, so the fence applies.  Set in the postmaster
                                     // when a cluster's state exists, or by bootstrap; never cleared.

    // 1: what sessions see on this server, once it is writable, is on the sync set and can't vanish.  Writer:
    // node worker, once; 0 again only by wiping, at each (crash) restart.  It means nothing in recovery or
    // while not armed.  Reader: backends, which hold ordinary sessions of a writable, armed server until it is 1.
    pg_atomic_uint32 settled;

    // 1: this standby went down as a primary, or has WAL that its primary does not have, and nobody may read
    // here before that is settled.  Writer: postmaster before recovery, then node worker (verification.cpp).
    // Reader: backends, which let no ordinary session in meanwhile.
    pg_atomic_uint32 unverified;

    // The write quorum w that a commit has to meet at least.  Writer: node worker, which lowers it when the
    // record does and raises it when PostgreSQL waits by the new rule; 0: not known yet.  Reader: every
    // backend at every commit; 1: no standby has to confirm.
    pg_atomic_uint32 sync_quorum;
    // Commits by sessions that asked for less than the quorum.  Writer: every backend.
    pg_atomic_uint64 unprotected_commits;

    // -- gate.  Writer of gate_term: node worker (0 = shut).  Reader: walreceiver before each send,
    // receive and connect.  gate_sending: walreceiver sets 1, checks gate_term, sends, sets 0; the node
    // worker, after shutting, waits (bounded) until it is 0.
    pg_atomic_uint32 gate_term;
    pg_atomic_uint32 gate_sending;
    // Upstream for the walreceiver.  Writer: node worker, only while gate_term is 0 or before raising
    // upstream_version (odd while being written).  Reader: walreceiver in connect.
    pg_atomic_uint32 upstream_version;
    char upstream_conninfo[2048];
    // Writer: walreceiver, then sets the node worker's latch.  Reader: node worker compares with what it saw.
    pg_atomic_uint32 streams_started;
    pg_atomic_uint32 streams_failed;   // ended by error or refused connection
    pg_atomic_uint32 streams_finished; // ended by end of COPY (walrcv_receive returned -1)
    pg_atomic_uint32 foreign_timeline; // own timeline that the primary has with other WAL; 0: none was found
    pg_atomic_uint64 stream_heard_ns;  // BOOTTIME of the last byte from the primary
    // The upstream_version that the walreceiver's connection was made for (0: it has none and waits), and
    // whether WAL flows through it.  Writer: walreceiver.
    pg_atomic_uint32 gate_connected;
    pg_atomic_uint32 stream_active;
    // How many times in a row the primary had no more of the WAL that the stream should begin with.  Writer:
    // walreceiver; node worker, 0 when another primary is to be followed.
    pg_atomic_uint32 stream_lacks_wal;
    // 1: local WAL is replayed to its end and nothing was received since, so the replay position alone is
    // this node's position.  Writer: walreceiver, 1 when it is started, 0 before it starts streaming.
    pg_atomic_uint32 wal_settled;

    // -- node worker's latch.  Writer: node worker at start and exit (null).  Others: SetLatch only.
    Latch *volatile node_latch;
    Latch *volatile manager_latch;

    // -- synchronous_standby_names wanted.  Writer: node worker, version odd while writing.
    // Reader: manager worker, which answers by copying the version into sync_done when it is in effect.
    pg_atomic_uint32 sync_wanted_version;
    char sync_wanted[ha_sync_names_bytes];
    char sync_wanted_before[ha_sync_names_bytes]; // what was wanted before that
    pg_atomic_uint32 sync_done_version;

    // -- ha_bootstrap(): backend raises it after writing the secret, sets node_latch and polls armed.
    pg_atomic_uint32 bootstrap_requested;
    // Result for the waiting backend: 0 pending, 1 done, 2 failed (text in the log).
    pg_atomic_uint32 bootstrap_result;

    // -- what operators ask (desk.hpp).
    OperatorDesk desk;

    // -- rejoins.  Writer: manager worker (version odd while writing).  Reader: node worker, which says whether there
    // is anything to look for: 1 while a data member is not heard.
    pg_atomic_uint32 rejoins_version;
    RejoinTable rejoins;
    pg_atomic_uint32 members_away;

    // -- slots.  Writer: manager worker (version odd while writing).
    pg_atomic_uint32 slots_version;
    SlotTable slots;
    // What the manager worker wants in ha_events: a ring of texts.  Writer of `written` and the texts: manager
    // worker, which then sets node_latch; of `taken`: node worker.
    pg_atomic_uint32 manager_notes_written, manager_notes_taken;
    char manager_notes[ha_manager_notes_max][ha_text_bytes];

    // -- promotion failure or other text that the node worker reports: see snapshot.reason.

    // -- snapshot.  Writer: node worker (snapshot_version odd while writing).  Readers retry, bounded.
    pg_atomic_uint32 snapshot_version;
    Snapshot snapshot;

    // -- events: ring, writer: node worker; slot number written 0, then row, then number.
    pg_atomic_uint64 events_written;
    EventRow events[ha_events_max];
};

extern Shared *shared; // null when not preloaded

// shmem.cpp
void shmem_register_hooks();   // shmem_request_hook and shmem_startup_hook; from _PG_init
uint64 boot_now_ns();          // CLOCK_BOOTTIME, vDSO, ~25 ns
void make_readable(char *text); // bytes that are no character in this database's encoding become question marks
// Copies the snapshot consistently; false if none was ever written or the writer is stuck mid-write.
bool read_snapshot(Snapshot *out);
bool read_snapshot_head(Snapshot *out);                     // all but members and links: for those who wait
void write_snapshot(const Snapshot *in);                    // node worker only
bool read_slots(SlotTable *out);                            // false: none were ever written
void read_slots_alarm(char (*out)[ha_text_bytes]);
void write_slots(const SlotTable *in);                      // manager worker only
bool read_rejoins(RejoinTable *out);
void write_rejoins(const RejoinTable *in);                  // manager worker only
bool post_manager_note(const char *text);                   // manager worker only; false: no room
bool take_manager_note(char (*out)[ha_text_bytes]);         // node worker only
int read_events(EventRow *out, int max);                    // oldest first, returns count
void write_event(const EventRow *row);                      // node worker only; number and at are filled in
bool lease_holds();                                          // now < lease_until_ns, or not armed

} // namespace pg_ha
