// SPDX-License-Identifier: PostgreSQL
//
// The only chance in a simulation.  Everything that happens in a seed is drawn from one of these,
// in the order of virtual time, so the same seed gives the same run bit for bit.  It must never be
// seeded from, or mixed with, anything outside (clock, address, thread).
#pragma once

#include <cmath>
#include <cstdint>

namespace pg_ha::sim {

class Random {
public:
    explicit Random(std::uint64_t seed) : state_(seed * 0x9E3779B97F4A7C15ull + 0xD1B54A32D192ED03ull) {}

    // splitmix64
    std::uint64_t next() {
        std::uint64_t z = (state_ += 0x9E3779B97F4A7C15ull);
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
        return z ^ (z >> 31);
    }
    double unit() { return static_cast<double>(next() >> 11) * 0x1.0p-53; } // [0, 1)
    bool chance(double probability) { return probability > 0 && unit() < probability; }
    // [0, bound); 0 if the bound is 0
    std::int64_t below(std::int64_t bound) {
        return bound <= 0 ? 0 : static_cast<std::int64_t>(next() % static_cast<std::uint64_t>(bound));
    }
    std::int64_t between(std::int64_t low, std::int64_t high) { return low + below(high - low + 1); }
    std::int64_t exponential(std::int64_t mean) {
        return static_cast<std::int64_t>(-std::log(1.0 - unit()) * static_cast<double>(mean));
    }
    // Spread evenly over the orders of magnitude between low and high; for swarm-drawn settings.
    std::int64_t magnitude(std::int64_t low, std::int64_t high) {
        const double a = std::log(static_cast<double>(low)), b = std::log(static_cast<double>(high));
        return static_cast<std::int64_t>(std::exp(a + (b - a) * unit()));
    }

private:
    std::uint64_t state_;
};

} // namespace pg_ha::sim
