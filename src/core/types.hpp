// SPDX-License-Identifier: PostgreSQL
//
// The words of the protocol as types.  Ids, terms and LSNs never mix by accident, and an Instant
// cannot be read from a clock here: BootTime has no now().  Adapters read CLOCK_BOOTTIME and pass
// the value in.
#pragma once

#include <chrono>
#include <compare>
#include <cstdint>
#include <string>

namespace pg_ha {

// A clock that only the adapters can read: counts suspended time, unaffected by wall-clock jumps.
struct BootTime {
    using duration = std::chrono::nanoseconds;
    using rep = duration::rep;
    using period = duration::period;
    using time_point = std::chrono::time_point<BootTime>;
    static constexpr bool is_steady = true;
};
using Instant = BootTime::time_point;
using Duration = BootTime::duration;

// An Instant that lies before every real one: "never", "expired".
inline constexpr Instant long_ago{};
inline constexpr Instant never = Instant::max();

enum class NodeId : std::uint64_t { none = 0 };   // random, made when a state directory is created
enum class Term : std::uint32_t { none = 0 };     // number of an election; the timeline it creates
enum class Timeline : std::uint32_t { none = 0 }; // PostgreSQL's TimeLineID
enum class Lsn : std::uint64_t { none = 0 };      // byte position in the WAL (XLogRecPtr)
enum class Incarnation : std::uint64_t { none = 0 }; // number of the save with which a node's worker started
enum class Instance : std::uint32_t { none = 0 };    // random, of one run of a worker: a clone has another

constexpr std::uint64_t raw(NodeId v) { return static_cast<std::uint64_t>(v); }
constexpr std::uint32_t raw(Term v) { return static_cast<std::uint32_t>(v); }
constexpr std::uint32_t raw(Timeline v) { return static_cast<std::uint32_t>(v); }
constexpr std::uint64_t raw(Lsn v) { return static_cast<std::uint64_t>(v); }
constexpr std::uint64_t raw(Incarnation v) { return static_cast<std::uint64_t>(v); }
constexpr std::uint32_t raw(Instance v) { return static_cast<std::uint32_t>(v); }
constexpr Term next(Term t) { return static_cast<Term>(raw(t) + 1); }
constexpr Timeline timeline_of(Term t) { return static_cast<Timeline>(raw(t)); }

// End of a node's WAL.  Ordered by the timeline of the last byte first: with timeline = term this
// is Raft's comparison of logs (Raft paper, section 5.4.1).
struct Position {
    Timeline timeline = Timeline::none;
    Lsn lsn = Lsn::none;
    auto operator<=>(const Position &) const = default;
};

// Which cluster a frame or a state file belongs to.  128 random bits, made by ha_bootstrap().
struct ClusterId {
    std::uint64_t high = 0;
    std::uint64_t low = 0;
    auto operator<=>(const ClusterId &) const = default;
};
inline constexpr ClusterId no_cluster{};

std::string to_string(Position position); // "5/1A2B3C40": timeline, then the LSN, both as PostgreSQL prints them
std::string to_string(Lsn lsn);           // "0/1A2B3C40"
std::string to_string(ClusterId id);      // 32 hexadecimal digits

} // namespace pg_ha
