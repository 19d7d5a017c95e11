// SPDX-License-Identifier: PostgreSQL
#include "room.hpp"

#include "files.hpp"

#include <cerrno>
#include <sys/stat.h>
#include <system_error>

namespace pg_ha::rejoin {

void RoomNeeded::add(const std::string &place, std::uint64_t bytes) {
    const std::string there = existing_part_of(place);
    struct stat info;
    if (::stat(there.c_str(), &info) != 0)
        throw std::system_error(errno, std::generic_category(), "could not look at \"" + there + "\"");
    Need &need = needs_[info.st_dev];
    if (need.place.empty())
        need.place = there;
    need.bytes += bytes;
}

std::optional<Shortage> RoomNeeded::shortage(unsigned spare_percent) const {
    for (const auto &[device, need] : needs_) {
        const std::uint64_t wanted = need.bytes + need.bytes / 100 * spare_percent, free = free_bytes(need.place);
        if (free < wanted)
            return Shortage{need.place, wanted, free};
    }
    return std::nullopt;
}

} // namespace pg_ha::rejoin
