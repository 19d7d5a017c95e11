// SPDX-License-Identifier: PostgreSQL
//
// Bad luck: each kind of fault comes on its own clock, with the rate that the seed drew.  Faults know
// nothing of the protocol; they only never destroy more identities than a cluster can lose (a majority
// of lost state directories is beyond any promise).
#pragma once

#include "options.hpp"

#include <vector>

namespace pg_ha::sim {

class Host;
class World;

class Faults {
public:
    explicit Faults(World &world) : world_(world) {}

    void begin();
    void end();                     // heal everything; what is down is started
    void restart_later(Host &host); // after a drawn time

private:
    struct Cut {
        std::int8_t from, to, plane;
    };

    void next(Fault fault);
    void strike(Fault fault);
    void strike_process(Fault fault, Host &host);
    void cut_streams(Host &host);
    void strike_network(Fault fault, Host &host);
    void lose_state(Host &host);
    void stop_flow(int from, int to, Time duration, int planes);
    Host &victim();
    Time duration(); // around the lease, where it hurts
    void cut_until(Time end, const Cut &cut);

    World &world_;
    std::vector<Cut> cuts_;
};

} // namespace pg_ha::sim
