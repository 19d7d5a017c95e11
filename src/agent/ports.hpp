// SPDX-License-Identifier: PostgreSQL
//
// What the agent needs from the world, as narrow as the need.  Real ones: src/server, src/net,
// state_file.hpp.  Fakes: src/sim.
#pragma once

#include "core/event.hpp"
#include "core/status.hpp"

namespace pg_ha {

class Clock {
public:
    virtual ~Clock() = default;
    virtual Instant now() = 0; // CLOCK_BOOTTIME
};

class StateStore {
public:
    virtual ~StateStore() = default;
    // Durable when true comes back (fdatasync).  False: nothing may be assumed stored.
    virtual bool save(const DurableState &state) = 0;
};

class Transport {
public:
    virtual ~Transport() = default;
    // Best effort, in order per peer, never blocks.  Unknown or unconnected peers: dropped.
    virtual void send(const Message &message) = 0;
    // Hold a link to each of these, besides the seeds.
    virtual void set_peers(const std::vector<Member> &members) = 0;
};

class PostgresControl {
public:
    virtual ~PostgresControl() = default;
    // Shut the WAL gate, wait for an acknowledgement under way, read the position.  Microseconds.
    virtual LocalState close_gate() = 0;
    // PostgreSQL as it is now, from shared memory only; asked before decisions that compare positions.
    virtual Sampled sample() = 0;
    virtual void open_gate(const OpenGate &upstream) = 0;
    virtual void set_lease(Instant until) = 0;
    virtual void settled() = 0; // sessions need not be held any more
    virtual void promote(Term term) = 0;              // answer comes as an event
    // Fence, write standby.signal, provoke the crash-restart cycle.  May end this process.
    virtual void demote(const std::string &reason) = 0;
    // Have PostgreSQL rewound to this primary's history before it starts again.  May end this process.
    virtual void rejoin(const Rejoin &rejoin) = 0;
    virtual void apply_sync(const ApplySync &sync) = 0; // answer comes as an event
    virtual void note(const Note &note) = 0;
    virtual void trace(const std::string &line) = 0;
};

struct Ports {
    Clock &clock;
    StateStore &store;
    Transport &transport;
    PostgresControl &postgres;
};

} // namespace pg_ha
