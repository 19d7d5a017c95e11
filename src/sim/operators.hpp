// SPDX-License-Identifier: PostgreSQL
//
// The people (or scripts) beside the cluster.  They switch over, pause elections and remove members, at any
// moment; but when the faults are over, a pause ends.  They see it from outside: start what is down, restart a
// server that stays writable although it was deposed, and clone a server anew that has WAL the primary
// does not have.  They are slow, and they only ever copy from the acting primary.
#pragma once

#include "options.hpp"

#include "core/event.hpp"

#include <array>

namespace pg_ha::sim {

class Host;
class World;

class Operators {
public:
    explicit Operators(World &world);
    void begin();
    void join(Host &host); // pg_basebackup from the acting primary, then the first start

private:
    void look(int index);
    void command();
    void give(Host &host, const Command &command);
    void end_pause(Host &standby);
    void clone(Host &host);
    void swap(Host &host);
    void copy(Host &host, Host &source);
    Host *source_for(Host &host);
    bool usable(Host &host) const;
    bool has_other_wal(Host &host);

    World &world_;
    Random commands_;
    std::array<Time, hosts_max> unwell_since_{};
};

} // namespace pg_ha::sim
