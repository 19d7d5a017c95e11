// SPDX-License-Identifier: PostgreSQL
//
// Delivery, breaking and reconnecting of peer links.
#include "network.hpp"
#include "agent/codec.hpp"
#include "world.hpp"

namespace pg_ha::sim {

namespace {
constexpr std::size_t held_max = 200; // then the sender's kernel or queue gives up
}

Time Network::latency(int from, int to) {
    Random &random = world_.random;
    const Options &o = world_.options;
    Time t = o.delay + random.below(o.jitter) + extra_[from][to];
    if (world_.faults_on && random.chance(o.spike_chance))
        t += random.exponential(o.heartbeat);
    return t;
}

std::uint32_t Network::take(const Message &message) {
    std::uint32_t slot;
    if (free_.empty()) {
        slot = static_cast<std::uint32_t>(messages_.size());
        messages_.emplace_back(Received{message});
        return slot;
    }
    slot = free_.back();
    free_.pop_back();
    std::get<Received>(messages_[slot]).message = message;
    return slot;
}

void Network::send(int from, const Message &message, Time held_back) {
    const int hosts = world_.options.hosts;
    for (int to = 0; to < hosts; to++)
        if (Link &l = link(from, to); l.up && l.acceptor_id == message.to)
            return transmit(
                {take(message), static_cast<std::int8_t>(from), static_cast<std::int8_t>(to), true, l.generation},
                held_back);
    for (int to = 0; to < hosts; to++)
        if (Link &l = link(to, from);
            l.up && l.dialler_id == message.to && l.acceptor_epoch == world_.host(from).epoch(Lane::worker))
            return transmit(
                {take(message), static_cast<std::int8_t>(to), static_cast<std::int8_t>(from), false, l.generation},
                held_back);
}

void Network::transmit(Flight flight, Time held_back) {
    if (world_.faults_on && world_.random.chance(world_.options.loss)) {
        release(flight.slot);
        break_link(flight.dialler, flight.acceptor);
        return;
    }
    if (world_.options.through_codec) {
        Message &message = std::get<Received>(messages_[flight.slot]).message;
        std::string bytes = encode(message);
        if (world_.host(flight.forward ? flight.dialler : flight.acceptor).newer)
            bytes += "\xC2\x3E\x03new"; // field 1000, of a version to come
        std::optional<Message> decoded = decode_message(bytes);
        if (!decoded || bytes.size() > frame_bytes_max)
            world_.violation(Outcome::crashed, "the codec does not take back what it wrote");
        else
            message = std::move(*decoded);
    }
    const int from = flight.forward ? flight.dialler : flight.acceptor;
    const int to = flight.forward ? flight.acceptor : flight.dialler;
    const Time arrival = world_.now() + held_back + latency(from, to);
    const auto arrives = [&](Flight what, Time when) { world_.at(when, [&net = *this, what] { net.arrive(what); }); };
    if (happens(world_.options.doubled)) {
        Flight again = flight;
        again.slot = take(std::get<Received>(messages_[flight.slot]).message);
        arrives(again, arrival + world_.random.below(2 * world_.options.heartbeat));
    }
    if (happens(world_.options.reordered))
        return arrives(flight, arrival + world_.random.below(world_.options.heartbeat));
    Time &fifo = link(flight.dialler, flight.acceptor).fifo[flight.forward ? 0 : 1];
    fifo = std::max(fifo + 1, arrival);
    arrives(flight, fifo);
}

// What TCP never does, but a protocol should survive.
bool Network::happens(double chance) { return world_.faults_on && chance > 0 && world_.random.chance(chance); }

void Network::arrive(Flight flight) {
    Link &l = link(flight.dialler, flight.acceptor);
    if (flight.generation != l.generation)
        return release(flight.slot);
    const int from = flight.forward ? flight.dialler : flight.acceptor;
    const int to = flight.forward ? flight.acceptor : flight.dialler;
    std::vector<std::uint32_t> &held = l.held[flight.forward ? 0 : 1];
    if (!open(Plane::peers, from, to) || !held.empty()) {
        held.push_back(flight.slot);
        if (held.size() > held_max)
            break_link(flight.dialler, flight.acceptor);
        return;
    }
    Host &target = world_.host(to);
    if (!target.powered)
        return release(flight.slot);
    const std::uint32_t accepted_by = flight.forward ? l.acceptor_epoch : l.dialler_epoch;
    if (!target.agent() || accepted_by != target.epoch(Lane::worker)) {
        release(flight.slot);
        if (flight.forward) // the kernel there answers that nobody is listening to this connection
            world_.at(world_.now() + latency(to, from), [&net = *this, flight] {
                if (net.open(Plane::peers, flight.acceptor, flight.dialler))
                    net.reset_link(flight.dialler, flight.acceptor);
            });
        return;
    }
    target.receive(&messages_[flight.slot], [&net = *this, slot = flight.slot] { net.release(slot); });
}

void Network::uncut(Plane plane, int from, int to) {
    if (--cuts_[index(plane)][from][to] == 0 && plane == Plane::peers)
        release_held(from, to);
}

// Data that was held back by a cut: mostly it arrives late, sometimes the connection has broken.
void Network::release_held(int from, int to) {
    for (const bool forward : {true, false}) {
        const int dialler = forward ? from : to, acceptor = forward ? to : from;
        if (link(dialler, acceptor).held[forward ? 0 : 1].empty())
            continue;
        if (world_.random.chance(0.4)) {
            break_link(dialler, acceptor);
            continue;
        }
        const Time retransmit = world_.random.below(world_.options.heartbeat);
        world_.at(world_.now() + retransmit,
                  [&net = *this, dialler, acceptor, forward] { net.flush_held(dialler, acceptor, forward); });
    }
}

void Network::flush_held(int dialler, int acceptor, bool forward) {
    Link &l = link(dialler, acceptor);
    if (!open(Plane::peers, forward ? dialler : acceptor, forward ? acceptor : dialler))
        return;
    std::vector<std::uint32_t> held;
    held.swap(l.held[forward ? 0 : 1]);
    for (const std::uint32_t slot : held)
        arrive({slot, static_cast<std::int8_t>(dialler), static_cast<std::int8_t>(acceptor), forward, l.generation});
}

// ---- connections -----------------------------------------------------------------------------------

void Network::break_link(int dialler, int acceptor) {
    Link &l = link(dialler, acceptor);
    l.generation++;
    for (std::vector<std::uint32_t> &held : l.held) {
        for (const std::uint32_t slot : held)
            release(slot);
        held.clear();
    }
    if (!l.up)
        return;
    l.up = false;
    l.reset = world_.random.chance(0.5);
    dial(dialler, acceptor, world_.random.below(world_.options.heartbeat));
}

void Network::reset_link(int dialler, int acceptor) {
    Link &l = link(dialler, acceptor);
    if (!l.up || (world_.host(acceptor).agent() && l.acceptor_epoch == world_.host(acceptor).epoch(Lane::worker)))
        return;
    l.up = false;
    l.reset = true;
    dial(dialler, acceptor, 0);
}

void Network::worker_died(int host) {
    for (int other = 0; other < world_.options.hosts; other++) {
        if (Link &l = link(other, host); l.up)
            world_.at(world_.now() + latency(host, other), [&net = *this, other, host] {
                if (net.open(Plane::peers, host, other) && net.world_.host(host).powered)
                    net.reset_link(other, host);
            });
        Link &own = link(host, other);
        own.up = own.wanted = own.reset = false;
    }
}

void Network::powered_off(int host) {
    for (int other = 0; other < world_.options.hosts; other++) {
        Link &own = link(host, other);
        own.up = own.wanted = own.reset = false;
    }
}

// The kernel is back and does not know the old connections: it answers the next byte with a reset.
void Network::powered_on(int host) {
    for (int other = 0; other < world_.options.hosts; other++)
        if (link(other, host).up)
            world_.at(world_.now() + world_.random.below(world_.options.heartbeat), [&net = *this, other, host] {
                if (net.open_both(Plane::peers, host, other) && net.world_.host(host).powered)
                    net.reset_link(other, host);
            });
}

void Network::want(int from, unsigned hosts) {
    for (int to = 0; to < world_.options.hosts; to++) {
        Link &l = link(from, to);
        const bool wanted = to != from && (hosts >> to & 1u);
        if (wanted && !l.wanted) {
            l.wanted = true;
            dial(from, to, 0);
        } else if (!wanted && l.wanted) {
            l.wanted = l.up = l.reset = false;
        }
    }
}

// Attempts run in the dialler's worker: a frozen one dials later, a dead one never.
void Network::dial(int dialler, int acceptor, Time delay) {
    const std::uint32_t number = ++link(dialler, acceptor).attempt;
    world_.on(world_.host(dialler), Lane::worker, delay + latency(dialler, acceptor),
              [&net = *this, dialler, acceptor, number] { net.attempt(dialler, acceptor, number); });
}

void Network::attempt(int dialler, int acceptor, std::uint32_t number) {
    Link &l = link(dialler, acceptor);
    if (number != l.attempt || l.up || !l.wanted)
        return;
    Host &target = world_.host(acceptor);
    const Time pause = world_.options.heartbeat / 2 + world_.random.below(world_.options.heartbeat);
    if (!open_both(Plane::peers, dialler, acceptor) || !target.powered)
        return dial(dialler, acceptor, pause);
    if (!target.agent()) { // refused
        if (l.reset) {
            l.reset = false;
            const NodeId peer = l.acceptor_id;
            world_.on(world_.host(dialler), Lane::worker, latency(acceptor, dialler),
                      [&world = world_, dialler, peer] { world.host(dialler).handle(PeerGone{peer}); });
        }
        return dial(dialler, acceptor, pause);
    }
    if (target.blocked(Lane::worker)) // accepted by the kernel, but nobody answers the handshake
        return dial(dialler, acceptor, pause);
    const Time handshake = 2 * (latency(dialler, acceptor) + latency(acceptor, dialler));
    world_.on(world_.host(dialler), Lane::worker, handshake,
              [&net = *this, dialler, acceptor, number] { net.established(dialler, acceptor, number); });
}

void Network::established(int dialler, int acceptor, std::uint32_t number) {
    Link &l = link(dialler, acceptor);
    if (number != l.attempt || l.up || !l.wanted)
        return;
    Host &target = world_.host(acceptor);
    if (!open_both(Plane::peers, dialler, acceptor) || !target.powered || !target.agent())
        return dial(dialler, acceptor, world_.random.below(world_.options.heartbeat));
    l.up = true;
    l.reset = false;
    l.dialler_id = world_.host(dialler).id();
    l.acceptor_id = target.id();
    l.dialler_epoch = world_.host(dialler).epoch(Lane::worker);
    l.acceptor_epoch = target.epoch(Lane::worker);
    world_.host(dialler).handle(LinkUp{l.acceptor_id});
}

void Network::worker_started(int host) {
    for (int other = 0; other < world_.options.hosts; other++)
        if (Link &l = link(host, other); l.wanted && !l.up)
            dial(host, other, 0);
}

} // namespace pg_ha::sim
