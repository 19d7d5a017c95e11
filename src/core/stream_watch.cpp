// SPDX-License-Identifier: PostgreSQL
#include "stream_watch.hpp"

#include <algorithm>

namespace pg_ha {

namespace {
constexpr unsigned longer_each_time = 4;
constexpr unsigned losses_counted = 3;  // so the wait ends at 16 times the patience
constexpr int forgotten_after = 64;     // times the patience, without a loss
} // namespace

void WalHistory::add(Lsn end, Instant now, Duration keep) {
    if (ends_.empty() || ends_.back().lsn != end)
        ends_.push_back({now, end});
    while (ends_.size() > 1 && ends_[1].at <= now - keep) // the one before says what was true then
        ends_.pop_front();
}

Lsn WalHistory::at(Instant then) const {
    Lsn end = Lsn::none;
    for (const End &e : ends_)
        if (e.at <= then || end == Lsn::none)
            end = e.lsn;
    return end;
}

void StreamWatch::report(bool streams, bool near, Lsn lsn, Lsn primary, Instant heard, Duration patience) {
    if (heard <= heard_)
        return;
    heard_ = heard;
    const bool well = streams && (lsn > lsn_ || lsn >= primary);
    streams_ = streams;
    lsn_ = lsn;
    if (well) {
        if (lost_ || heard - well_ >= patience)
            steady_since_ = heard;
        lost_ = false;
        well_ = std::max(well_, heard);
    }
    if (!streams || !near)
        steady_since_ = never;
    else if (well && steady_since_ == never)
        steady_since_ = heard;
}

bool StreamWatch::overdue(Instant since, Instant now, Duration patience) const {
    return now - std::max(well_, since) >= patience;
}

void StreamWatch::lose(Duration patience) {
    const bool forgiven = steady_since_ != never && well_ - steady_since_ >= forgotten_after * patience;
    losses_ = forgiven ? 1 : std::min(losses_ + 1, losses_counted);
    lost_ = true;
    steady_since_ = never;
}

bool StreamWatch::steady(Instant now, Duration patience) const {
    Duration wait{0};
    for (unsigned i = 0; i < losses_; ++i)
        wait = i == 0 ? patience : wait * longer_each_time;
    return !lost_ && steady_since_ != never && now - well_ < patience && now - steady_since_ >= wait;
}

} // namespace pg_ha
