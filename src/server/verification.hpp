// SPDX-License-Identifier: PostgreSQL
//
// May people read here?  An old primary that starts again may hold rows that were never committed anywhere
// else.  Until its WAL was found to be part of a primary's history, or it is the primary itself, they
// are not to be seen: new sessions are turned away (admission.cpp).
#pragma once

namespace pg_ha {

void verification_at_start();    // postmaster, before recovery
bool is_unverified();            // any process
void verification_needed();      // node worker: its WAL is no part of its primary's history
void verification_done();        // node worker

} // namespace pg_ha
