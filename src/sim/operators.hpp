// SPDX-License-Identifier: PostgreSQL
//
// The people (or scripts) beside the cluster.  They see it from outside: start what is down, restart a
// server that stays writable although it was deposed, and clone a server anew that has WAL the primary
// does not have.  They are slow, and they only ever copy from the acting primary.
#pragma once

#include "options.hpp"

#include <array>

namespace pg_ha::sim {

class Host;
class World;

class Operators {
public:
    explicit Operators(World &world) : world_(world) {}
    void begin();
    void finish_clone(Host &host); // pg_basebackup from the acting primary, then start

private:
    void look(int index);
    void clone(Host &host);
    bool has_other_wal(Host &host);
    bool may_keep_identity(Host &host, Host &source);

    World &world_;
    std::array<Time, hosts_max> unwell_since_{};
};

} // namespace pg_ha::sim
