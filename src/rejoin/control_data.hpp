// SPDX-License-Identifier: PostgreSQL
//
// A data directory's control file, as pg_controldata tells it.
#pragma once

#include "core/types.hpp"

#include <string>

namespace pg_ha::rejoin {

struct ControlData {
    std::uint64_t system_identifier = 0;
    std::string state;
    std::uint64_t segment_bytes = 0;
    Timeline recovery_timeline = Timeline::none; // that crash recovery would read to its end
    Lsn end = Lsn::none; // of the WAL that the data files need at least
    bool shut_down() const { return state == "shut down"; }
};

ControlData read_control_data(const std::string &program_directory, const std::string &data_directory);

} // namespace pg_ha::rejoin
