// SPDX-License-Identifier: PostgreSQL
//
// The echo: which save of whose state a data directory has seen last.  The state file lies outside PGDATA
// and the echo inside, so a copy of either one that is put back is told from its partner: a state older
// than its echo has forgotten votes, a data directory older than its state lacks WAL that this voter has
// acknowledged, and a cloned or rewound one is another server's.  None of them may vote.
//
// One save of difference is what a crash between the two writes leaves; everything else is refused.
// Both copied together are not told here: the peers remember (docs/protocol.md, I2).
#pragma once

#include "core/event.hpp"

#include <optional>

namespace pg_ha {

// In the data directory.  What replaces or rewinds that directory and wants to keep the node's identity
// has to put this file back as it was.
inline constexpr const char *echo_file_name = "pg_ha.echo";

struct Echo {
    NodeId node = NodeId::none;
    std::uint64_t saves = 0; // of the newest state that was saved beside this directory
    bool operator==(const Echo &) const = default;
};

enum class StateCondition {
    valid,
    missing,
    corrupt,
    foreign_data, // the data directory has no echo, or another node's: it was cloned, restored or rewound
    old_state,    // the state directory is an old copy
    old_data,     // the data directory is an old copy
};
// What is wrong, and what to do about it; for a log line.
const char *describe(StateCondition condition);
const char *advice(StateCondition condition);

// Of a state that is readable.
StateCondition judge(const DurableState &state, const std::optional<Echo> &echo);

// Nothing if the file is missing or does not pass its checksum.  Throws std::system_error if it can't be read.
std::optional<Echo> read_echo(const std::string &path);
bool write_echo(const std::string &path, const Echo &echo); // durable when true comes back

} // namespace pg_ha
