// SPDX-License-Identifier: PostgreSQL
//
// Look-ups in the configuration, and the lineage rule.
#include "configuration.hpp"

#include <algorithm>

namespace pg_ha {

const Member *Configuration::find(NodeId id) const {
    auto it = std::lower_bound(members.begin(), members.end(), id, [](const Member &m, NodeId wanted) { return m.id < wanted; });
    return it == members.end() || it->id != id ? nullptr : &*it;
}

const Member *Configuration::find(const std::string &name) const {
    auto it = std::find_if(members.begin(), members.end(), [&](const Member &m) { return m.name == name; });
    return it == members.end() ? nullptr : &*it;
}

bool Configuration::is_voter(NodeId id) const {
    const Member *member = find(id);
    return member && member->voter;
}

std::size_t Configuration::voter_count() const {
    return static_cast<std::size_t>(
        std::count_if(members.begin(), members.end(), [](const Member &m) { return m.voter; }));
}

bool descends_from(Position position, const Lineage &lineage) {
    for (const TimelineEnd &entry : lineage)
        if (entry.timeline == position.timeline)
            return entry.end == Lsn::none || position.lsn <= entry.end;
    return false;
}

Position fork_of(Position position, const Lineage &lineage) {
    for (const TimelineEnd &entry : lineage)
        if (entry.timeline == position.timeline)
            return {entry.timeline, entry.end};
    return {};
}

} // namespace pg_ha
