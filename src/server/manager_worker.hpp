// SPDX-License-Identifier: PostgreSQL
//
// The manager worker: slow work that needs a database connection.  See manager_worker.cpp.
#pragma once

extern "C" {
#include "postgres.h"
}

extern "C" PGDLLEXPORT void pg_ha_manager_main(Datum argument);
