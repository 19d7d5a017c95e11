// SPDX-License-Identifier: PostgreSQL
//
// The commit fence: no session may acknowledge a commit without the lease.  See fence.cpp.
#pragma once

namespace pg_ha {

void fence_install(); // from _PG_init

} // namespace pg_ha
