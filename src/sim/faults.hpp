// SPDX-License-Identifier: PostgreSQL
//
// Bad luck: each kind of fault comes on its own clock, with the rate that the seed drew.  Faults know
// nothing of the protocol; they only never destroy more identities than a cluster can lose (a majority
// of lost state directories is beyond any promise).
#pragma once

#include "options.hpp"
#include "postgres_fake.hpp"

#include <optional>
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
    void memory_lost(const Host &restarted); // its worker starts and knows nothing of the others' runs

private:
    struct Cut {
        std::int8_t from, to, plane;
    };

    struct Copy { // of the directories of a host, as they were at one time
        DurableState state;
        std::optional<Echo> echo;
        WalPoint wal;
        StandbyRule rule;
    };

    void next(Fault fault);
    void strike(Fault fault);
    void strike_process(Fault fault, Host &host);
    void cut_streams(Host &host);
    void strike_network(Fault fault, Host &host);
    void lose_state(Host &host);
    void tear_state(Host &host);
    void promote_by_hand(Host &host);
    void put_back(Fault fault, Host &host);
    bool told(Fault fault, Host &host, const Copy &copy);
    bool remembered(const Host &host, const DurableState &copy);
    void stop_flow(int from, int to, Time duration, int planes);
    Host &victim();
    Time duration(); // around the lease, where it hurts
    void cut_until(Time end, const Cut &cut);

    World &world_;
    std::vector<Cut> cuts_;
    std::array<std::optional<Copy>, hosts_max> copies_;
};

} // namespace pg_ha::sim
