// SPDX-License-Identifier: PostgreSQL
#include "wal_files.hpp"

#include "files.hpp"

#include <cstdio>
#include <cstring>

namespace pg_ha::rejoin {

std::optional<Segment> parse_segment(const std::string &file, std::uint64_t segment_bytes) {
    unsigned timeline, high, low;
    if (file.size() != 24 || segment_bytes == 0 || std::strspn(file.c_str(), "0123456789ABCDEF") != 24 ||
        std::sscanf(file.c_str(), "%8X%8X%8X", &timeline, &high, &low) != 3)
        return std::nullopt;
    return Segment{static_cast<Timeline>(timeline), high * (0x100000000ull / segment_bytes) + low};
}

std::string segment_name(Segment segment, std::uint64_t segment_bytes) {
    const std::uint64_t per_high = 0x100000000ull / segment_bytes;
    char name[32];
    std::snprintf(name, sizeof name, "%08X%08X%08X", raw(segment.timeline),
                  static_cast<unsigned>(segment.number / per_high), static_cast<unsigned>(segment.number % per_high));
    return name;
}

bool is_history_file(const std::string &file) {
    return file.size() == 16 && file.ends_with(".history") && std::strspn(file.c_str(), "0123456789ABCDEF") == 8;
}

std::vector<WalFile> wal_files_in(const std::string &directory) {
    std::vector<WalFile> files;
    for (const std::string &name : entries(directory)) {
        const std::uint64_t bytes = name.size() == 24 ? size_of(directory + "/" + name) : 0;
        if (parse_segment(name, bytes))
            files.push_back({name, bytes});
    }
    return files;
}

const WalFile *file_with(Position position, const std::vector<WalFile> &files) {
    for (const WalFile &file : files)
        if (const auto segment = parse_segment(file.name, file.bytes);
            segment && segment->timeline == position.timeline && segment->number == raw(position.lsn) / file.bytes)
            return &file;
    return nullptr;
}

std::optional<Lsn> parse_lsn(const std::string &text) {
    unsigned high, low;
    if (std::sscanf(text.c_str(), "%X/%X", &high, &low) != 2)
        return std::nullopt;
    return static_cast<Lsn>(static_cast<std::uint64_t>(high) << 32 | low);
}

} // namespace pg_ha::rejoin
