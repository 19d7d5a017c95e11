// SPDX-License-Identifier: PostgreSQL
//
// What a primary has seen of one standby's stream: is the standby lost to the sync set, and may it come
// back?  Only reports count, never silence of another kind, and never a position on another timeline.
//
// A standby is well while its reports say that it streams and either has all WAL or has more than before.
// One that streams slowly is therefore not lost; one whose connection hangs is.  Who was lost has to be
// well for a while before it is counted again, each time longer: with a link that flaps, S would
// otherwise cost a stall of the commits each time it breaks.
#pragma once

#include "types.hpp"

#include <deque>

namespace pg_ha {

// Where the primary's WAL ended a while ago.
class WalHistory {
public:
    void add(Lsn end, Instant now, Duration keep);
    Lsn at(Instant then) const; // as far back as is known
    void clear() { ends_.clear(); }

private:
    struct End { Instant at; Lsn lsn; };
    std::deque<End> ends_;
};

class StreamWatch {
public:
    // A report, heard then.  `streams`: from this primary, on its timeline.  `near`: it has the newest WAL, but for that
    // of the last moment, so that commits which are made to wait for it do not wait long.
    void report(bool streams, bool near, Lsn lsn, Lsn primary, Instant heard, Duration patience);
    // Not well for so long?  Nobody can be well before `since`: the primary itself did not listen.
    bool overdue(Instant since, Instant now, Duration patience) const;
    // Counted as lost; from now on it has to be well for a while.
    void lose(Duration patience);
    bool lost() const { return lost_; }
    // Streams, is near the end, and has been so for as long as its past demands.
    bool steady(Instant now, Duration patience) const;
    Instant heard() const { return heard_; } // the newest report
    bool streams() const { return streams_; }

private:
    Instant heard_ = long_ago;
    Instant well_ = long_ago;
    Instant steady_since_ = never;
    Lsn lsn_ = Lsn::none;
    bool streams_ = false;
    bool lost_ = false;
    unsigned losses_ = 0;
};

} // namespace pg_ha
