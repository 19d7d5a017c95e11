// SPDX-License-Identifier: PostgreSQL
//
// Which settings go together.
#include "settings.hpp"

#include <algorithm>

namespace pg_ha {

using std::chrono::milliseconds;
using std::chrono::seconds;

bool valid_node_name(const std::string &name) {
    auto plain = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); };
    if (name.empty() || name.size() > 63 || !plain(name[0]))
        return false;
    return std::all_of(name.begin(), name.end(), [&](char c) { return plain(c) || c == '_' || c == '-'; });
}

std::vector<SettingError> validate(const Settings &settings) {
    std::vector<SettingError> errors;
    if (!valid_node_name(settings.node_name))
        errors.push_back({"node name \"" + settings.node_name + "\" is not usable",
                          "Use 1 to 63 of a-z, 0-9, _ and -, starting with a letter or digit."});
    if (settings.lease_duration < milliseconds(300) || settings.lease_duration > seconds(60))
        errors.push_back({"lease duration is out of range", "Use 300ms to 60s."});
    if (settings.heartbeat_interval < milliseconds(10))
        errors.push_back({"heartbeat interval is too short", "Use at least 10ms."});
    if (settings.heartbeat_interval * 3 > settings.lease_duration)
        errors.push_back({"heartbeat interval is too long for the lease",
                          "Three heartbeats must fit into one lease, or a single lost one ends it."});
    return errors;
}

} // namespace pg_ha
