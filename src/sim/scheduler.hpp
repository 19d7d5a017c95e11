// SPDX-License-Identifier: PostgreSQL
//
// Virtual time: a priority queue of callbacks with a stable tie-break (order of scheduling).  A
// callback belongs to a lane of a host, so that the world can hold it back while that host is frozen
// and drop it once the processes that it belongs to are gone.  Callbacks capture plain values only:
// no allocation per event, and nothing that could dangle.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <new>
#include <type_traits>
#include <vector>

namespace pg_ha::sim {

using Time = std::int64_t; // nanoseconds of virtual time
inline constexpr Time microsecond = 1000;
inline constexpr Time millisecond = 1000 * microsecond;
inline constexpr Time second = 1000 * millisecond;

// Who runs a callback.
enum class Lane : std::uint8_t {
    world,   // networks, faults, operators: never held back
    worker,  // the node worker: one thread
    server,  // walsenders, walreceiver, startup process
    backend, // client sessions
};
inline constexpr int lane_count = 4;

struct Callback {
    alignas(8) unsigned char data[64];
    void (*invoke)(void *) = nullptr;
    std::int16_t host = -1;
    Lane lane = Lane::world;
    std::uint32_t epoch = 0;
    void operator()() { invoke(data); }
};

class Scheduler {
public:
    using Slot = std::uint32_t;

    Time now() const { return now_; }
    bool empty() const { return heap_.empty(); }
    Time next_time() const { return heap_.front().when; }

    template <class F> void add(Time when, int host, Lane lane, std::uint32_t epoch, F f) {
        static_assert(std::is_trivially_copyable_v<F> && sizeof(F) <= sizeof(Callback::data));
        const Slot slot = take_slot();
        Callback &callback = slots_[slot];
        ::new (callback.data) F(f);
        callback.invoke = [](void *p) { (*static_cast<F *>(p))(); };
        callback.host = static_cast<std::int16_t>(host);
        callback.lane = lane;
        callback.epoch = epoch;
        push(when, slot);
    }
    // Puts a slot that pop() returned back into the queue.
    void push(Time when, Slot slot) {
        heap_.push_back({std::max(when, now_), sequence_++, slot});
        std::push_heap(heap_.begin(), heap_.end(), later);
    }
    // Moves time on.  The caller invokes and releases the slot, or keeps it for later.
    Slot pop() {
        std::pop_heap(heap_.begin(), heap_.end(), later);
        const Entry entry = heap_.back();
        heap_.pop_back();
        now_ = entry.when;
        return entry.slot;
    }
    Callback &callback(Slot slot) { return slots_[slot]; }
    void release(Slot slot) { free_.push_back(slot); }

private:
    struct Entry {
        Time when;
        std::uint64_t sequence;
        Slot slot;
    };
    static bool later(const Entry &a, const Entry &b) {
        return a.when != b.when ? a.when > b.when : a.sequence > b.sequence;
    }
    Slot take_slot() {
        if (free_.empty()) {
            slots_.emplace_back();
            return static_cast<Slot>(slots_.size() - 1);
        }
        const Slot slot = free_.back();
        free_.pop_back();
        return slot;
    }

    Time now_ = 0;
    std::uint64_t sequence_ = 0;
    std::vector<Entry> heap_;
    std::vector<Callback> slots_;
    std::vector<Slot> free_;
};

} // namespace pg_ha::sim
