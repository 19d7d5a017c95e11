// SPDX-License-Identifier: PostgreSQL
//
// New sessions: a server that can do nothing for an application at this moment says so with 57P03,
// which makes libpq and the drivers built on it go on to the next host of their list.
//
// Turned away, after a short wait for better times, is who comes to
//  - a primary that is fenced or deposed: it could only refuse his writes and show him old rows;
//  - a standby that was elected and is not open for writes yet: he would be told "read-only" and miss the
//    primary that this server is about to be;
//  - an old primary whose WAL nobody has compared yet, or which has diverged: he would read rows that
//    were never committed anywhere else.
// Every other standby takes everybody, with a primary or without: reading must stay possible when the
// cluster has no quorum.  So does a server that is no member.
//
// Always let in: whoever streams WAL, superusers, and members of pg_monitor, who look for the reason.
// A session that is open already is not touched.
#include "admission.hpp"

#include "guc.hpp"
#include "refusal.hpp"
#include "shmem.hpp"
#include "verification.hpp"

extern "C" {
#include "access/xlog.h"
#include "catalog/pg_authid.h"
#undef ENABLE_GSS // libpq/auth.h would need the Kerberos headers for one pointer that is not used here
#include "libpq/auth.h"
#include "miscadmin.h"
#include "replication/walsender.h"
#include "utils/acl.h"
}

namespace pg_ha {

namespace {

constexpr int wait_ms_max = 1000;

ClientAuthentication_hook_type earlier_hook = nullptr;

// ---- the reasons, in the order in which they are told ----------------------------------------------------

struct Reason {
    bool (*holds)();
    const char *(*text)(const Snapshot *seen);
};

bool is_promoting() {
    if (!RecoveryInProgress())
        return false;
    Snapshot *seen = static_cast<Snapshot *>(palloc0(sizeof(Snapshot)));
    bool promoting = read_snapshot_head(seen) && strcmp(seen->role, "promoting") == 0;
    pfree(seen);
    return promoting;
}

const char *why_promoting(const Snapshot *) {
    return "this server has been elected and is not open for writes yet";
}

bool is_fenced() {
    return !lease_holds() && !RecoveryInProgress();
}

bool may_have_diverged() {
    return RecoveryInProgress() && is_unverified();
}

const char *why_may_have_diverged(const Snapshot *) {
    return "this server was a primary, and may hold rows that no other server has";
}

constexpr Reason reasons[] = {
    {is_promoting, why_promoting},
    {is_fenced, why_fenced},
    {may_have_diverged, why_may_have_diverged},
};

const Reason *first_reason() {
    for (const Reason &reason : reasons)
        if (reason.holds())
            return &reason;
    return nullptr;
}

bool is_open() {
    return first_reason() == nullptr;
}

// ---- the door -----------------------------------------------------------------------------------------------

// A superuser is a member of every role.
bool always_let_in(const Port *port) {
    if (am_walsender)
        return true;
    Oid role = get_role_oid(port->user_name, true);
    return !OidIsValid(role) || is_member_of_role(role, ROLE_PG_MONITOR);
}

void authentication(Port *port, int status) {
    if (earlier_hook)
        earlier_hook(port, status);
    if (status != STATUS_OK || !shared || pg_atomic_read_u32(&shared->armed) == 0 || is_open() || always_let_in(port))
        return;
    Snapshot *seen = static_cast<Snapshot *>(palloc0(sizeof(Snapshot)));
    bool open = wait_until(is_open, Min(guc_fence_wait_ms, wait_ms_max), seen);
    const Reason *reason = open ? nullptr : first_reason();
    if (reason)
        ereport(FATAL, (errcode(ERRCODE_CANNOT_CONNECT_NOW),
                        errmsg("sessions are not accepted now: %s", reason->text(seen)), detail_role(seen),
                        hint_primary(seen)));
    pfree(seen);
}

} // namespace

void admission_install() {
    earlier_hook = ClientAuthentication_hook;
    ClientAuthentication_hook = authentication;
}

} // namespace pg_ha
