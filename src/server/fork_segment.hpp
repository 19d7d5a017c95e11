// SPDX-License-Identifier: PostgreSQL
//
// The segment in which a timeline begins, made of what lies here already: fork_segment.cpp.
#pragma once

extern "C" {
#include "postgres.h"
#include "access/xlogdefs.h"
}

namespace pg_ha {

// Before WAL of this timeline is streamed from `start` on: the part before its fork is here, under its name.
// May ereport(ERROR).
void make_fork_segments(TimeLineID timeline, XLogRecPtr start);

} // namespace pg_ha
