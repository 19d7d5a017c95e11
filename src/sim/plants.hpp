// SPDX-License-Identifier: PostgreSQL
//
// The defects that can be switched on by name: those of the fakes in every build, those of core and
// agent (core/planted.hpp) in sim_planted only.  Each has to be caught, or a checker is blind.
#pragma once

#include "options.hpp"

#include <string>
#include <vector>

namespace pg_ha::sim {

struct Plant {
    const char *name = "none";
    Sabotage sabotage = Sabotage::none;
    Bug bug = Bug::none;
    bool any() const { return sabotage != Sabotage::none || bug != Bug::none; }
};

const std::vector<Plant> &plants();             // as far as this build has them
const Plant &find_plant(const std::string &name); // throws std::invalid_argument
const Plant &plant_of(const Options &options);
// For the core, on this thread, from now on.
void plant(Bug bug);

} // namespace pg_ha::sim
