// SPDX-License-Identifier: PostgreSQL
#include "control_data.hpp"

#include "process.hpp"
#include "wal_files.hpp"

#include <algorithm>
#include <cstdlib>
#include <stdexcept>

namespace pg_ha::rejoin {

namespace {

std::string field(const std::string &output, const std::string &name) {
    const std::size_t begin = output.find(name + ":");
    if (begin == std::string::npos)
        throw std::runtime_error("pg_controldata does not tell \"" + name + "\"");
    const std::size_t value = output.find_first_not_of(' ', begin + name.size() + 1);
    return output.substr(value, output.find('\n', value) - value);
}

} // namespace

ControlData read_control_data(const std::string &program_directory, const std::string &data_directory) {
    const Ran ran = run({program_directory + "/pg_controldata", "-D", data_directory}, Echo::off);
    if (ran.status != 0)
        throw std::runtime_error("pg_controldata failed: " + last_lines(ran.output));
    ControlData data;
    data.system_identifier = std::strtoull(field(ran.output, "Database system identifier").c_str(), nullptr, 10);
    data.state = field(ran.output, "Database cluster state");
    data.segment_bytes = std::strtoull(field(ran.output, "Bytes per WAL segment").c_str(), nullptr, 10);
    const auto number = [&](const char *name) { return std::strtoul(field(ran.output, name).c_str(), nullptr, 10); };
    data.recovery_timeline = static_cast<Timeline>(
        std::max(number("Latest checkpoint's TimeLineID"), number("Min recovery ending loc's timeline")));
    for (const char *name : {"Latest checkpoint location", "Minimum recovery ending location"})
        data.end = std::max(data.end, parse_lsn(field(ran.output, name)).value_or(Lsn::none));
    if (data.segment_bytes == 0)
        throw std::runtime_error("pg_controldata does not tell the size of WAL segments");
    return data;
}

} // namespace pg_ha::rejoin
