// SPDX-License-Identifier: PostgreSQL
//
// Which value of synchronous_standby_names the processes that release waiting commits go by.
// See sync_rule.cpp.
#pragma once

extern "C" {
#include "postgres.h"
}

namespace pg_ha {

void sync_rule_install(); // from _PG_init, before workers are registered

// Manager worker only.
// Did the configuration files hold another value when this process last read them?
bool sync_rule_refused();
// Makes every walsender read its configuration file again, without waiting for the postmaster.
void sync_rule_signal_walsenders();
// Is `value` what counts for every commit from now on?  `since`: CLOCK_BOOTTIME; reports before it
// don't count.  If not, *waiting_for is the walsender that has to read it, or 0 for the checkpointer.
bool sync_rule_in_effect(const char *value, uint64 since, int *waiting_for);

} // namespace pg_ha
