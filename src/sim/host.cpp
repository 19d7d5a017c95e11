// SPDX-License-Identifier: PostgreSQL
//
// The agent inside its host: clock, timer, ports, and standing still.
#include "host.hpp"
#include "world.hpp"

namespace pg_ha::sim {

Host::Host(World &w, int i)
    : world(w), index(i), name("n" + std::to_string(i + 1)), disk(*this), postgres(*this), no_server_(postgres) {}

bool Host::witness() const { return index >= world.options.hosts - world.options.witnesses; }

// ---- clock -----------------------------------------------------------------------------------------

Instant Host::local_time(Time t) const {
    const auto i = static_cast<std::size_t>(index);
    const std::int64_t drift = t / 1'000'000 * world.options.clock_ppm[i];
    return Instant{Duration{world.options.clock_offset[i] - clock_stood_ + t + drift}};
}

// The first moment at which local_time() is not before `local`.
Time Host::world_time(Instant local) const {
    const auto i = static_cast<std::size_t>(index);
    const std::int64_t elapsed = local.time_since_epoch().count() - world.options.clock_offset[i] + clock_stood_;
    Time t = static_cast<Time>(static_cast<double>(elapsed) /
                               (1.0 + static_cast<double>(world.options.clock_ppm[i]) * 1e-6));
    while (local_time(t) < local)
        t += 10 * microsecond;
    return t;
}

Instant Host::now() {
    return local_time(world.now());
}

// ---- standing still ----------------------------------------------------------------------------------

bool Host::blocked(Lane lane) const {
    return frozen || (lane == Lane::worker && (paused || world.now() < stalled_until_));
}

void Host::freeze(Time duration) {
    if (frozen || !powered)
        return;
    frozen = true;
    world.trace(*this, "machine stands still for " + std::to_string(duration / millisecond) + " ms");
    const Time clock_stands = world.options.clocks_stop && world.random.chance(0.5) ? duration : 0;
    world.after(duration, [this, clock_stands] {
        frozen = false;
        clock_stood_ += clock_stands;
        world.trace(*this, clock_stands ? "machine goes on; its clock stood still, too" : "machine goes on");
        release_deferred();
    });
}

void Host::pause_worker(Time duration) {
    if (paused)
        return;
    paused = true;
    world.trace(*this, "worker stands still for " + std::to_string(duration / millisecond) + " ms");
    world.after(duration, [this] {
        paused = false;
        world.trace(*this, "worker goes on");
        release_deferred();
    });
}

void Host::stall(Time duration) {
    stalled_until_ = std::max(stalled_until_, world.now() + duration);
    world.after(stalled_until_ - world.now(), [this] { release_deferred(); });
}

// Everything that waited runs now.  Processes wake in any order; within one, order is kept.
void Host::release_deferred() {
    if (frozen)
        return;
    const Time worker = world.random.below(2 * millisecond), server = world.random.below(2 * millisecond);
    std::vector<Scheduler::Slot> slots;
    slots.swap(deferred_);
    for (const Scheduler::Slot slot : slots) {
        const Lane lane = world.scheduler.callback(slot).lane;
        const Time offset = lane == Lane::worker   ? worker
                            : lane == Lane::server ? server
                                                   : world.random.below(2 * millisecond);
        world.scheduler.push(world.now() + offset, slot);
    }
}

// ---- steps -------------------------------------------------------------------------------------------

Time Host::wake_time() {
    Time t = world.random.below(2 * world.options.wake);
    if (world.faults_on && world.random.chance(world.options.late_chance))
        t += world.random.exponential(world.options.lease / 20);
    inbox_fifo_ = std::max(inbox_fifo_ + 1, world.now() + t);
    return inbox_fifo_ - world.now();
}

void Host::handle(const Event &event) {
    if (!agent_ || in_step_)
        return;
    in_step_ = true;
    agent_->handle(event);
    in_step_ = false;
    if (const Received *received = std::get_if<Received>(&event); received && !world.options.synchronous)
        world.checkers.received(*this, received->message);
    after_step();
}

void Host::after_step() {
    if (doom_ != Doom::none) {
        const Doom how = doom_;
        doom_ = Doom::none;
        if (how == Doom::demote)
            return crash_restart(false, true);
        if (how == Doom::rejoin)
            return rejoin();
        world.trace(*this, "dies in the middle of a step");
        kill_all();
        world.faults.restart_later(*this);
        return;
    }
    if (agent_->durable().self != handshake_id_) { // a new identity: the server opens its links anew
        handshake_id_ = agent_->durable().self;
        impostor = NodeId::none;
        for (int other = 0; other < world.options.hosts; other++)
            if (other != index) {
                world.network.break_link(index, other);
                world.network.break_link(other, index);
            }
    }
    arm();
}

void Host::arm() {
    const Instant deadline = agent_->next_deadline();
    if (deadline == never)
        return;
    const Time at = std::max(world.now() + 1, world_time(deadline));
    if (timer_at_ != 0 && timer_at_ <= at)
        return;
    timer_at_ = at;
    const Time late = world.random.below(world.options.wake);
    world.on(*this, Lane::worker, at - world.now() + late, [this, at] { on_timer(at); });
}

void Host::on_timer(Time armed_for) {
    if (timer_at_ != armed_for)
        return; // an earlier timer took over
    timer_at_ = 0;
    if (agent_->next_deadline() <= now())
        handle(Tick{});
    else
        arm();
}

void Host::sample() {
    if (!agent_)
        return;
    world.on(*this, Lane::worker, wake_time(), [this] { handle(control().sample()); });
}

// ---- ports -------------------------------------------------------------------------------------------

void Host::send(const Message &message) {
    if (doomed())
        return;
    world.checkers.sent(*this, message);
    world.election.sent(*this, message);
    world.trace_message(*this, message);
    const Time held_back = std::max<Time>(0, stalled_until_ - world.now());
    world.network.send(index, message, held_back);
}

void Host::set_peers(const std::vector<Member> &members) {
    if (doomed())
        return;
    unsigned hosts = world.options.all_seeds ? (1u << hosts_max) - 1 : 3u;
    for (const Member &member : members)
        hosts |= 1u << (member.peer.port - peer_port_base);
    world.network.want(index, hosts);
}

} // namespace pg_ha::sim
