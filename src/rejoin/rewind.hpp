// SPDX-License-Identifier: PostgreSQL
//
// The steps of a rejoin, each of which may be cut off and done again.
#pragma once

#include "agent/rejoin_journal.hpp"

namespace pg_ha::rejoin {

enum class Outcome { done, given_up };

// Goes on where the journal stands.  Returns when PostgreSQL may open the data directory: rewound, or as
// it was.  Throws what only a person, or time, can help with; the directory must not be opened then.
Outcome carry_out(const std::string &state_directory);

} // namespace pg_ha::rejoin
