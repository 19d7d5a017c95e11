// SPDX-License-Identifier: PostgreSQL
//
// Is there room for what is to be written?  PGDATA and tablespaces may lie on one file system or on several: what goes
// to one is counted together, wherever below it.  Only looks; what others write meanwhile it cannot know.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <sys/types.h>

namespace pg_ha::rejoin {

struct Shortage {
    std::string place; // a directory of the file system that is too small
    std::uint64_t needed = 0, free = 0;
};

class RoomNeeded {
public:
    // The place, or parents of it, may not be there yet.
    void add(const std::string &place, std::uint64_t bytes);
    // A file system that has less free than is needed there and that many percent of it more.
    std::optional<Shortage> shortage(unsigned spare_percent) const;

private:
    struct Need {
        std::string place;
        std::uint64_t bytes = 0;
    };
    std::map<dev_t, Need> needs_;
};

} // namespace pg_ha::rejoin
