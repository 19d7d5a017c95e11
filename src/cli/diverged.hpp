// SPDX-License-Identifier: PostgreSQL
//
// pg_hactl diverged: the WAL that pg_ha_rejoin set aside, which this server had and its cluster has not.
// What it contained is read with pg_waldump; names of tables are asked of a server.  Reads only.
#pragma once

#include "conninfo.hpp"
#include "core/types.hpp"
#include "rejoin/wal_files.hpp"

#include <optional>
#include <string>
#include <vector>

namespace pg_ha::cli {

struct DivergedOptions {
    std::string data_directory, state_directory, name;
    std::optional<Conninfo> conninfo;
    bool show = false, records = false, json = false;
};
int run_diverged(const DivergedOptions &options); // throws Failure

// range.txt of a kept directory.
struct KeptRange {
    std::string primary; // "rome, timeline 3"
    Timeline timeline = Timeline::none;
    std::optional<Lsn> from; // nothing: it is not known where the histories parted
    Lsn to = Lsn::none;
};
std::optional<KeptRange> parse_range(const std::string &text);

// The range, by timelines: what a server wrote on each, given the history file of the last.
struct WalPiece {
    Timeline timeline;
    Lsn from, to;
    bool operator==(const WalPiece &) const = default;
};
std::vector<WalPiece> pieces_of(const KeptRange &range, const std::string &history);

// As much of a piece as there are segments for, one after the other.
struct Stretch {
    std::string first, last; // segments; empty: not even the beginning is there
    Lsn end = Lsn::none;
    std::string missing; // empty: nothing
};
Stretch stretch_of(const WalPiece &piece, const std::vector<rejoin::WalFile> &files);

} // namespace pg_ha::cli
