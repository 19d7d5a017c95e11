// SPDX-License-Identifier: PostgreSQL
//
// What this node knows of the others: the newest report of each, when it was last heard directly,
// and when news of it last came through others.  A member is suspect after missed exchanges of our
// own, and unreachable only if nobody else brings news of it either.
#pragma once

#include "settings.hpp"
#include "status.hpp"

#include <map>

namespace pg_ha {

class MemberTable {
public:
    struct Row {
        MemberReport report;
        Instant heard = long_ago;   // directly
        Instant news = long_ago;    // report grew newer, directly or through another member
        Duration rtt{0};
        std::uint32_t missed = 0;
    };

    // A message from `id` itself.  False: its incarnation is older than one already seen.
    bool heard(NodeId id, Incarnation incarnation, Instant now);
    void learn(const MemberReport &report, Instant now);
    void answered(NodeId id, Duration rtt);
    void asked(NodeId id) { ++rows_[id].missed; }
    void forget_except(const Configuration &configuration);

    const Row *find(NodeId id) const;
    Liveness liveness(NodeId id, const Settings &settings, Instant now) const;
    // The next few rows to pass on, in turn, without those of `except` and `self`.
    std::vector<MemberReport> some_rows(NodeId self, NodeId except, std::size_t count);
    std::vector<LinkReport> links(const Configuration &configuration, NodeId self, Instant now) const;

private:
    std::map<NodeId, Row> rows_;
    std::size_t turn_ = 0;
};

} // namespace pg_ha
