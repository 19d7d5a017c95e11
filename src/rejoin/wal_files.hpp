// SPDX-License-Identifier: PostgreSQL
//
// WAL segments by their names.
#pragma once

#include "core/types.hpp"

#include <optional>
#include <string>
#include <vector>

namespace pg_ha::rejoin {

struct Segment {
    Timeline timeline;
    std::uint64_t number; // of the 2^64 bytes of WAL, whatever the timeline
};

std::optional<Segment> parse_segment(const std::string &file, std::uint64_t segment_bytes);
std::string segment_name(Segment segment, std::uint64_t segment_bytes);
bool is_history_file(const std::string &file);

struct WalFile {
    std::string name;
    std::uint64_t bytes;
};
std::vector<WalFile> wal_files_in(const std::string &directory); // the segments there, in order
// Which of them contains that position, on its very timeline?  Null: none.
const WalFile *file_with(Position position, const std::vector<WalFile> &files);

std::optional<Lsn> parse_lsn(const std::string &text); // "0/1A2B3C40"

} // namespace pg_ha::rejoin
