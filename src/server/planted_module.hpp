// SPDX-License-Identifier: PostgreSQL
//
// The module of the negative controls (make planted-module): which defects it has, it takes from its
// environment when it is loaded.  The module that is installed has none of this.
#pragma once

#ifdef PG_HA_PLANTED
namespace pg_ha {

void plant_from_environment(); // PG_HA_PLANTED_BUG=name,name

} // namespace pg_ha
#endif
