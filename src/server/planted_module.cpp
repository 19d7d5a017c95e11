// SPDX-License-Identifier: PostgreSQL
//
// Names of the defects that make sense in a real server, and the choice among them.  A name that is not
// known ends the server: a control that plants nothing would prove nothing.
#include "planted_module.hpp"

#ifdef PG_HA_PLANTED
#include "core/planted.hpp"

extern "C" {
#include "postgres.h"
}

#include <cstdlib>
#include <cstring>

namespace pg_ha {

namespace {

struct Name {
    const char *text;
    Bug bug;
};

constexpr Name names[] = {
    {"lease_not_checked", Bug::lease_not_checked}, {"last_check_off", Bug::last_check_off},
    {"sync_not_waited", Bug::sync_not_waited},     {"gate_not_shut", Bug::gate_not_shut},
    {"fork_segment_streamed", Bug::fork_segment_streamed},
    {"diverged_streams", Bug::diverged_streams},   {"restarted_believed", Bug::restarted_believed},
    {"restarted_votes_at_once", Bug::restarted_votes_at_once},
    {"priority_beats_lsn", Bug::priority_beats_lsn}, {"start_gate_open", Bug::start_gate_open},
    {"unflushed_not_counted", Bug::unflushed_not_counted},
    {"next_segment_asked", Bug::next_segment_asked}, {"no_stand_in", Bug::no_stand_in},
    {"echo_ignored", Bug::echo_ignored},           {"settled_at_once", Bug::settled_at_once},
    {"lag_ignored", Bug::lag_ignored},
};

} // namespace

void plant_from_environment() {
    const char *wanted = getenv("PG_HA_PLANTED_BUG");
    char list[256];
    strlcpy(list, wanted ? wanted : "", sizeof(list));
    char *rest = nullptr;
    for (char *text = strtok_r(list, ",", &rest); text; text = strtok_r(nullptr, ",", &rest)) {
        Bug bug = Bug::none;
        for (const Name &name : names)
            if (strcmp(name.text, text) == 0)
                bug = name.bug;
        if (bug == Bug::none)
            ereport(FATAL, (errmsg("no defect is called \"%s\"", text)));
        planted_bugs |= bit_of(bug);
    }
    ereport(LOG, (errmsg("pg_ha: planted defects: %s", wanted && *wanted ? wanted : "none")));
}

} // namespace pg_ha
#endif
