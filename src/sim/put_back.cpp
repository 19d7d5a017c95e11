// SPDX-License-Identifier: PostgreSQL
//
// Machines that are put back to an earlier time, in whole or in part.  Only where somebody can tell: by the
// echo, or, of a whole machine, while every other worker remembers (docs/protocol.md, I2).  Beyond that
// nothing is promised, so a worker that starts while a whole copy is at large takes the copy away.
#include "faults.hpp"
#include "world.hpp"

namespace pg_ha::sim {

// First a copy is made; a later strike at the same host puts it back.
void Faults::put_back(Fault fault, Host &host) {
    std::optional<Copy> &copy = copies_[static_cast<std::size_t>(host.index)];
    const DurableState *present = host.disk.usable();
    if (!present || host.impostor != NodeId::none)
        return;
    if (!copy || copy->state.self != present->self || world_.random.chance(0.3)) {
        copy = Copy{*present, host.postgres.echo, host.postgres.wal, host.postgres.saved_rule};
        return;
    }
    if (!world_.can_lose_identity(host) || !told(fault, host, *copy))
        return;
    host.kill_all();
    world_.trace(host, std::string("an older copy is put back: ") + to_string(fault));
    world_.election.identity_lost();
    host.disk.note_lost();
    host.impostor = present->self;
    host.known_by_peers_only = fault == Fault::machine_put_back;
    host.impostor_started = false;
    if (fault != Fault::data_put_back)
        host.disk.put_back(copy->state);
    if (fault != Fault::state_put_back) {
        host.postgres.echo = copy->echo;
        host.postgres.wal = copy->wal;
        host.postgres.saved_rule = copy->rule;
    }
    restart_later(host);
}

bool Faults::told(Fault fault, Host &host, const Copy &copy) {
    if (fault == Fault::machine_put_back)
        return copy.state.configuration.voter_count() > 1 && remembered(host, copy.state);
    if (host.witness()) // has no echo
        return false;
    const StateCondition found = fault == Fault::state_put_back ? judge(copy.state, host.postgres.echo)
                                                                : judge(*host.disk.state(), copy.echo);
    return found != StateCondition::valid || world_.options.bug == Bug::echo_ignored;
}

bool Faults::remembered(const Host &host, const DurableState &copy) {
    for (int i = 0; i < world_.options.hosts; i++) {
        Host &other = world_.host(i);
        if (&other == &host)
            continue;
        if (!other.agent() || other.impostor != NodeId::none)
            return false;
        bool knows = false;
        for (const MemberStatus &member : other.agent()->status().members)
            knows |= member.member.id == copy.self && member.report.saves > copy.saves;
        if (!knows)
            return false;
    }
    return true;
}

void Faults::memory_lost(const Host &restarted) {
    for (int i = 0; i < world_.options.hosts; i++) {
        Host &host = world_.host(i);
        if (&host == &restarted || host.impostor == NodeId::none || !host.known_by_peers_only)
            continue;
        world_.trace(host, "not everybody remembers any more: the copy is taken away");
        host.kill_all();
        host.disk.lose();
        host.impostor = NodeId::none;
        restart_later(host);
    }
}

} // namespace pg_ha::sim
