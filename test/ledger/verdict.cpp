// SPDX-License-Identifier: PostgreSQL
//
// What the ledger's file says.  `ledger verify` compares it with what the last primary has: an acknowledged id
// that is missing is lost; an acknowledgement of an attempt that began after a later timeline had acknowledged
// already is a double one, and so is every second server that acknowledges in one timeline.
#include "ledger.hpp"

#include <libpq-fe.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <unordered_set>

namespace ledger {

namespace {

struct Entry {
    std::int64_t id;
    std::string address;
    Nanoseconds begin, end;
    std::int64_t timeline; // 0: not told
    char outcome;
};

std::vector<Entry> read_files(const Options &options) {
    std::vector<Entry> entries;
    for (const std::string &path : options.files) {
        std::ifstream in(path);
        if (!in)
            fail("cannot read " + path);
        for (Entry e; in >> e.id >> e.address >> e.begin >> e.end >> e.timeline >> e.outcome;)
            entries.push_back(e);
    }
    std::sort(entries.begin(), entries.end(), [](const Entry &a, const Entry &b) { return a.end < b.end; });
    return entries;
}

std::vector<Entry> acknowledged_only(std::vector<Entry> entries) {
    std::erase_if(entries, [](const Entry &e) { return e.outcome != static_cast<char>(Outcome::acknowledged); });
    return entries;
}

} // namespace

// From the last acknowledgement of the timelines there were at --after to the first of a later one:
// "ms, ms from --after to its end, servers before and behind".  "-1": no later timeline acknowledged.
int outage(const Options &options) {
    const auto entries = acknowledged_only(read_files(options));
    std::int64_t timeline = 0;
    for (const Entry &e : entries)
        if (e.end <= options.after)
            timeline = std::max(timeline, e.timeline);
    const auto first = std::find_if(entries.begin(), entries.end(), [&](const Entry &e) {
        return e.end > options.after && e.timeline > timeline;
    });
    if (timeline == 0 || first == entries.end()) {
        std::printf("-1\n");
        return 1;
    }
    const auto last = std::find_if(std::make_reverse_iterator(first), entries.rend(),
                                   [&](const Entry &e) { return e.timeline <= timeline; });
    const auto ms = [](Nanoseconds time) { return static_cast<double>(time) / millisecond; };
    std::printf("%.1f %.1f %s %s\n", ms(first->end - last->end), ms(first->end - options.after), last->address.c_str(),
                first->address.c_str());
    return 0;
}

// The longest time between two acknowledgements that ends behind --after, in ms; or until --after's now.
int gap(const Options &options) {
    const auto entries = acknowledged_only(read_files(options));
    Nanoseconds before = options.after, longest = 0;
    for (const Entry &e : entries) {
        if (e.end > options.after)
            longest = std::max(longest, e.end - before);
        before = std::max(before, e.end);
    }
    longest = std::max(longest, now() - before);
    std::printf("%.1f\n", static_cast<double>(longest) / millisecond);
    return 0;
}

namespace {

std::unordered_set<std::int64_t> ids_on(const Options &options) {
    PGconn *connection = PQconnectdb((conninfo_of(options.hosts.front(), options) + " connect_timeout=10").c_str());
    if (PQstatus(connection) != CONNECTION_OK)
        fail(PQerrorMessage(connection));
    PGresult *result = PQexec(connection, ("SELECT id FROM " + options.table).c_str());
    if (PQresultStatus(result) != PGRES_TUPLES_OK)
        fail(PQerrorMessage(connection));
    std::unordered_set<std::int64_t> ids;
    for (int row = 0; row < PQntuples(result); ++row)
        ids.insert(std::strtoll(PQgetvalue(result, row, 0), nullptr, 10));
    PQclear(result);
    PQfinish(connection);
    return ids;
}

struct Doubles {
    std::int64_t double_acks = 0; // begun after a later timeline had acknowledged, or by a second server
    std::int64_t late_acks = 0;   // begun before, answered after: allowed for what the later one has
};

Doubles count_doubles(const std::vector<Entry> &acknowledged) {
    std::map<std::int64_t, Nanoseconds> first; // timeline -> its first acknowledgement
    std::map<std::int64_t, std::string> owner;
    for (const Entry &e : acknowledged) {
        first.emplace(e.timeline, e.end);
        owner.emplace(e.timeline, e.address);
    }
    Nanoseconds earliest = INT64_MAX; // of all later timelines
    std::map<std::int64_t, Nanoseconds> later;
    for (auto it = first.rbegin(); it != first.rend(); ++it) {
        later[it->first] = earliest;
        earliest = std::min(earliest, it->second);
    }
    Doubles doubles;
    for (const Entry &e : acknowledged) {
        const bool twice = e.begin > later[e.timeline] || e.address != owner[e.timeline];
        doubles.double_acks += twice;
        doubles.late_acks += !twice && e.end > later[e.timeline];
        if (twice && doubles.double_acks <= 3)
            std::fprintf(stderr, "double: id %lld by %s in timeline %lld, begun at %lld\n", static_cast<long long>(e.id),
                         e.address.c_str(), static_cast<long long>(e.timeline), static_cast<long long>(e.begin));
    }
    return doubles;
}

} // namespace

// One JSON line.  Status 1: an acknowledged id is lost, or two servers acknowledged.
int verify(const Options &options) {
    const auto entries = read_files(options);
    const auto acknowledged = acknowledged_only(entries);
    const auto present = ids_on(options);
    std::int64_t lost = 0;
    std::map<std::int64_t, std::int64_t> lost_of; // timeline -> rows
    for (const Entry &e : acknowledged) {
        if (present.contains(e.id))
            continue;
        ++lost_of[e.timeline];
        if (++lost <= 3)
            std::fprintf(stderr, "lost: id %lld, acknowledged by %s in timeline %lld at %lld\n", static_cast<long long>(e.id),
                         e.address.c_str(), static_cast<long long>(e.timeline), static_cast<long long>(e.end));
    }
    const Doubles doubles = count_doubles(acknowledged);
    std::map<std::int64_t, int> timelines;
    for (const Entry &e : acknowledged)
        ++timelines[e.timeline];
    std::printf("{\"acknowledged\": %zu, \"unknown\": %zu, \"timelines\": %zu, \"lost\": %lld, \"double_acks\": %lld, "
                "\"late_acks\": %lld}\n",
                acknowledged.size(), entries.size() - acknowledged.size(), timelines.size(), static_cast<long long>(lost),
                static_cast<long long>(doubles.double_acks), static_cast<long long>(doubles.late_acks));
    return lost == 0 && doubles.double_acks == 0 ? 0 : 1;
}

} // namespace ledger
