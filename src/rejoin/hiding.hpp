// SPDX-License-Identifier: PostgreSQL
//
// Takes PostgreSQL's own directories out of the data directory, into one inside it, and puts them back.
// Settings, lock file, secret and standby.signal stay where they are: the server's programs still find
// the server they belong to, a start still loads pg_ha and so comes back to the helper, and pg_rewind, run
// on the inner directory, cannot overwrite what is this server's own.
//
// pg_wal goes first and comes back last, and PostgreSQL refuses a directory without it.  So a start at
// any moment, even without pg_ha, finds either the whole server or none.
#pragma once

#include <string>

namespace pg_ha::rejoin {

std::string hidden_directory(const std::string &data_directory);
// Both may be cut off anywhere and called again.
void hide(const std::string &data_directory);
void bring_back(const std::string &data_directory);

} // namespace pg_ha::rejoin
