// SPDX-License-Identifier: PostgreSQL
//
// Property tests of the codec: what a node may say comes back as it was said; no bytes, however
// damaged, crash the decoder or get a value past its bounds.  The seed is printed; PG_HA_SEED
// replays it.
#include "agent/codec.hpp"
#include "wire.pb.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <iostream>
#include <limits>
#include <random>

namespace pg_ha {
namespace {

std::uint64_t test_seed() {
    static const std::uint64_t seed = [] {
        const char *given = std::getenv("PG_HA_SEED");
        const std::uint64_t value = given != nullptr ? std::strtoull(given, nullptr, 10) : std::random_device{}();
        std::cout << "seed " << value << " (replay with PG_HA_SEED)\n";
        return value;
    }();
    return seed;
}

class Random {
public:
    explicit Random(std::uint64_t seed) : engine_(seed) {}

    std::uint64_t below(std::uint64_t limit) { return engine_() % limit; }
    bool flag() { return below(2) == 1; }
    // Often at the edges, where codecs break.
    std::uint64_t number() {
        switch (below(4)) {
        case 0:
            return 0;
        case 1:
            return below(300);
        case 2:
            return std::numeric_limits<std::uint64_t>::max();
        default:
            return engine_();
        }
    }
    template <typename T> T id() { return static_cast<T>(static_cast<std::underlying_type_t<T>>(number())); }
    std::uint32_t number32() { return static_cast<std::uint32_t>(number()); }
    std::string text(const std::string &alphabet, std::size_t size_max) {
        std::string out(below(size_max + 1), 'x');
        for (char &c : out)
            c = alphabet[below(alphabet.size())];
        return out;
    }
    std::string name() { return text("abcxyz019_-", 63); }
    Endpoint endpoint() {
        return {text("abcXYZ0123456789.:-_%/", flag() ? 255 : 15), static_cast<std::uint16_t>(number32())};
    }
    std::string any_bytes(std::size_t size_max) {
        std::string out(below(size_max + 1), '\0');
        for (char &c : out)
            c = static_cast<char>(below(256));
        return out;
    }
    Position position() { return {id<Timeline>(), id<Lsn>()}; }

    Member member(std::uint64_t member_id) {
        return {static_cast<NodeId>(member_id), name(),     static_cast<MemberKind>(below(2)), flag(), endpoint(),
                endpoint(),                     static_cast<std::uint16_t>(number32())};
    }
    std::vector<std::uint64_t> ascending(std::size_t count) {
        std::vector<std::uint64_t> out;
        std::uint64_t last = 0;
        for (std::size_t i = 0; i < count; ++i)
            out.push_back(last += 1 + below(std::uint64_t(1) << 50));
        return out;
    }
    Configuration configuration() {
        Configuration out;
        out.cluster = {number(), number()};
        out.system_identifier = number();
        out.version = {id<Term>(), number()};
        for (const std::uint64_t member_id : ascending(below(members_max + 1)))
            out.members.push_back(member(member_id));
        for (const std::uint64_t member_id : ascending(below(members_max + 1)))
            out.sync.set.push_back(static_cast<NodeId>(member_id));
        out.sync.quorum = static_cast<std::uint16_t>(1 + below(members_max));
        out.synchronous = flag();
        out.paused = flag();
        out.recorded_by = id<NodeId>();
        out.lease = Duration{static_cast<std::int64_t>(below(60'000'000'001))};
        return out;
    }
    MemberReport report(std::size_t links_max) {
        MemberReport out;
        out.id = id<NodeId>();
        out.incarnation = id<Incarnation>();
        out.instance = static_cast<Instance>(number32());
        out.saves = number();
        out.sequence = number();
        out.refutations = number32();
        out.role = static_cast<Role>(below(8));
        out.term = id<Term>();
        out.local = {flag(), flag(), position(), id<Lsn>(), flag(), number32()};
        out.reason = any_bytes(200);
        for (std::size_t i = below(links_max + 1); i > 0; --i)
            out.links.push_back({id<NodeId>(), number32(), number32(), number32()});
        if (flag())
            out.parameters = {number32(), number32(), 8, 0, number32()};
        for (std::size_t i = below(rejoins_max + 1); i > 0; --i)
            out.rejoins.push_back({id<NodeId>(), flag(), static_cast<std::uint32_t>(below(101)), number32()});
        return out;
    }
    std::vector<Rumour> rumours() {
        std::vector<Rumour> out;
        for (std::size_t i = below(13); i > 0; --i)
            out.push_back({id<NodeId>(), {id<Incarnation>(), number32()}, static_cast<Liveness>(below(3)), id<NodeId>()});
        return out;
    }
    Heartbeat heartbeat() {
        Heartbeat out;
        out.sent = Instant(Duration(static_cast<std::int64_t>(number() >> 1)));
        out.wants_reply = flag();
        out.asks_nothing = flag();
        out.leader = id<NodeId>();
        out.config_version = {id<Term>(), number()};
        if (flag())
            out.configuration = configuration();
        for (std::size_t i = below(lineage_entries_max + 1); i > 0; --i)
            out.lineage.push_back({id<Timeline>(), id<Lsn>()});
        out.lineage_confirmed = id<Lsn>();
        out.self = report(members_max);
        for (std::size_t i = below(9); i > 0; --i)
            out.table.push_back(report(members_max));
        out.rumours = rumours();
        return out;
    }
    Body body() {
        switch (below(10)) {
        case 0:
            return heartbeat();
        case 1: {
            HeartbeatReply out{Instant(Duration(static_cast<std::int64_t>(number() >> 1))), flag(), {id<Term>(), number()},
                               report(members_max), {}, rumours()};
            for (std::size_t i = below(9); i > 0; --i)
                out.table.push_back(report(members_max));
            return out;
        }
        case 2:
            return VoteRequest{flag(), id<Term>(), position(), {id<Term>(), id<Incarnation>()}, {id<Term>(), number()}};
        case 3: {
            VoteReply out{flag(), id<Term>(), flag(), static_cast<Refusal>(below(10)), position(), {}};
            if (flag())
                out.configuration = configuration();
            return out;
        }
        case 4:
            return Resign{flag(), id<NodeId>()};
        case 5:
            return StandNow{};
        case 6:
            return JoinRequest{member(1 + below(1000)), number()};
        case 7:
            return IndirectProbe{id<NodeId>()};
        case 8:
            return IndirectReply{id<NodeId>(), flag()};
        default:
            return Rejected{static_cast<Rejection>(below(6)), id<Incarnation>(), static_cast<Instance>(number32())};
        }
    }
    Message message() {
        Message out = {{number(), number()}, static_cast<NodeId>(1 + below(1000)), id<NodeId>(), id<Incarnation>(),
                       id<Term>(),           body(),
                       static_cast<Instance>(number32()), number()};
        if (const auto *heartbeat = std::get_if<Heartbeat>(&out.body); heartbeat && heartbeat->configuration)
            out.term = std::max(out.term, heartbeat->configuration->version.term);
        if (const auto *vote = std::get_if<VoteReply>(&out.body); vote && vote->configuration)
            out.term = std::max(out.term, vote->configuration->version.term);
        return out;
    }
    DurableState state() {
        return {id<NodeId>(), name(), id<Incarnation>(), id<Term>(), id<NodeId>(), configuration(), number(), id<Timeline>()};
    }

private:
    std::mt19937_64 engine_;
};

// Bodies have no operator==; equal bytes of a deterministic encoder say the same, field by field,
// once every field is known to be written and read (the tests below alter each of them).
void expect_same(const Message &expected, const Message &actual) {
    EXPECT_EQ(expected.cluster, actual.cluster);
    EXPECT_EQ(expected.from, actual.from);
    EXPECT_EQ(expected.to, actual.to);
    EXPECT_EQ(expected.incarnation, actual.incarnation);
    EXPECT_EQ(expected.instance, actual.instance);
    EXPECT_EQ(expected.saves, actual.saves);
    EXPECT_EQ(expected.term, actual.term);
    ASSERT_EQ(expected.body.index(), actual.body.index());
    EXPECT_EQ(encode(expected), encode(actual));
    if (const auto *heartbeat = std::get_if<Heartbeat>(&expected.body)) {
        const auto &other = std::get<Heartbeat>(actual.body);
        EXPECT_EQ(heartbeat->sent, other.sent);
        EXPECT_EQ(heartbeat->wants_reply, other.wants_reply);
        EXPECT_EQ(heartbeat->asks_nothing, other.asks_nothing);
        EXPECT_EQ(heartbeat->leader, other.leader);
        EXPECT_EQ(heartbeat->config_version, other.config_version);
        EXPECT_EQ(heartbeat->configuration, other.configuration);
        EXPECT_EQ(heartbeat->lineage, other.lineage);
        EXPECT_EQ(heartbeat->lineage_confirmed, other.lineage_confirmed);
        EXPECT_EQ(heartbeat->self, other.self);
        EXPECT_EQ(heartbeat->table, other.table);
        EXPECT_EQ(heartbeat->rumours, other.rumours);
    }
    if (const auto *reply = std::get_if<HeartbeatReply>(&expected.body)) {
        const auto &other = std::get<HeartbeatReply>(actual.body);
        EXPECT_EQ(reply->sent, other.sent);
        EXPECT_EQ(reply->follows, other.follows);
        EXPECT_EQ(reply->config_version, other.config_version);
        EXPECT_EQ(reply->self, other.self);
        EXPECT_EQ(reply->table, other.table);
        EXPECT_EQ(reply->rumours, other.rumours);
    }
    if (const auto *probe = std::get_if<IndirectProbe>(&expected.body)) {
        EXPECT_EQ(probe->target, std::get<IndirectProbe>(actual.body).target);
    }
    if (const auto *reply = std::get_if<IndirectReply>(&expected.body)) {
        EXPECT_EQ(reply->target, std::get<IndirectReply>(actual.body).target);
        EXPECT_EQ(reply->reached, std::get<IndirectReply>(actual.body).reached);
    }
    if (const auto *request = std::get_if<VoteRequest>(&expected.body)) {
        const auto &other = std::get<VoteRequest>(actual.body);
        EXPECT_EQ(request->pre, other.pre);
        EXPECT_EQ(request->term, other.term);
        EXPECT_EQ(request->position, other.position);
        EXPECT_EQ(request->resigned, other.resigned);
        EXPECT_EQ(request->config_version, other.config_version);
    }
    if (const auto *reply = std::get_if<VoteReply>(&expected.body)) {
        const auto &other = std::get<VoteReply>(actual.body);
        EXPECT_EQ(reply->pre, other.pre);
        EXPECT_EQ(reply->term, other.term);
        EXPECT_EQ(reply->granted, other.granted);
        EXPECT_EQ(reply->refusal, other.refusal);
        EXPECT_EQ(reply->position, other.position);
        EXPECT_EQ(reply->configuration, other.configuration);
    }
    if (const auto *resign = std::get_if<Resign>(&expected.body)) {
        EXPECT_EQ(resign->clean, std::get<Resign>(actual.body).clean);
    }
    if (const auto *request = std::get_if<JoinRequest>(&expected.body)) {
        EXPECT_EQ(request->self, std::get<JoinRequest>(actual.body).self);
        EXPECT_EQ(request->system_identifier, std::get<JoinRequest>(actual.body).system_identifier);
    }
    if (const auto *rejected = std::get_if<Rejected>(&expected.body)) {
        EXPECT_EQ(rejected->why, std::get<Rejected>(actual.body).why);
        EXPECT_EQ(rejected->incarnation, std::get<Rejected>(actual.body).incarnation);
        EXPECT_EQ(rejected->instance, std::get<Rejected>(actual.body).instance);
    }
}

TEST(Codec, RandomMessagesComeBackAsTheyWere) {
    Random random(test_seed());
    for (int i = 0; i < 5000; ++i) {
        SCOPED_TRACE("seed " + std::to_string(test_seed()) + ", message " + std::to_string(i));
        const Message message = random.message();
        const std::optional<Message> back = decode_message(encode(message));
        ASSERT_TRUE(back.has_value());
        expect_same(message, *back);
        if (HasFailure())
            return;
    }
}

TEST(Codec, RandomStatesComeBackAsTheyWere) {
    Random random(test_seed() + 1);
    for (int i = 0; i < 2000; ++i) {
        const DurableState state = random.state();
        ASSERT_EQ(state, decode_state(encode(state)).value()) << "seed " << test_seed() << ", state " << i;
    }
    EXPECT_EQ(DurableState{}, decode_state(encode(DurableState{})).value());
}

TEST(Codec, LargestMessageFitsAFrame) {
    Random random(test_seed());
    Message message = random.message();
    Heartbeat heartbeat;
    Configuration configuration;
    const Endpoint endpoint{std::string(255, 'h'), 65535};
    for (std::uint64_t i = 0; i < members_max; ++i) {
        configuration.members.push_back(
            {static_cast<NodeId>(~std::uint64_t(0) - members_max + i), std::string(63, 'n'), MemberKind::witness, true,
             endpoint, endpoint, 65535});
        configuration.sync.set.push_back(configuration.members.back().id);
    }
    MemberReport report = random.report(0);
    report.reason = std::string(200, 'r');
    report.links.assign(members_max, {static_cast<NodeId>(~std::uint64_t(0)), 1000000, 60000, 100000});
    report.parameters.fill(~0U);
    report.rejoins.assign(rejoins_max, {static_cast<NodeId>(~std::uint64_t(0)), true, 100, ~0U});
    heartbeat.configuration = configuration;
    heartbeat.lineage.assign(lineage_entries_max, {static_cast<Timeline>(~0U), static_cast<Lsn>(1)});
    heartbeat.self = report;
    heartbeat.table.assign(members_max, report);
    message.body = heartbeat;
    const std::string bytes = encode(message);
    EXPECT_LE(bytes.size(), frame_bytes_max);
    EXPECT_TRUE(decode_message(bytes).has_value());
}

TEST(Codec, TruncatedBytesNeverCrash) {
    Random random(test_seed() + 2);
    for (int i = 0; i < 60; ++i) {
        const std::string bytes = encode(random.message());
        for (std::size_t size = 0; size < bytes.size(); size += 1 + bytes.size() / 400)
            decode_message(std::string(bytes, 0, size));
    }
    const std::string state = encode(random.state());
    for (std::size_t size = 0; size < state.size(); ++size)
        decode_state(std::string(state, 0, size));
}

TEST(Codec, MutatedBytesNeverCrashAndNeverPassTheBounds) {
    Random random(test_seed() + 3);
    std::size_t accepted = 0;
    for (int i = 0; i < 20000; ++i) {
        std::string bytes = encode(random.message());
        for (std::uint64_t flips = 1 + random.below(4); flips > 0; --flips)
            bytes[random.below(bytes.size())] = static_cast<char>(random.below(256));
        const std::optional<Message> back = decode_message(bytes);
        if (!back)
            continue;
        ++accepted;
        // Whatever was believed must be sayable again, hence within bounds.
        const std::string again = encode(*back);
        ASSERT_TRUE(decode_message(again).has_value()) << "seed " << test_seed() << ", message " << i;
        ASSERT_LE(again.size(), bytes.size() + 1024) << "seed " << test_seed() << ", message " << i;
    }
    EXPECT_GT(accepted, 0U);
    for (int i = 0; i < 5000; ++i)
        decode_message(random.any_bytes(400));
}

TEST(Codec, UnknownFieldsAreIgnoredAndUnknownBodiesRefused) {
    Random random(test_seed() + 4);
    const std::string future_field("\xA2\x06\x03" "abc", 6); // field 100, length-delimited
    const Message message = random.message();
    const std::optional<Message> back = decode_message(encode(message) + future_field);
    ASSERT_TRUE(back.has_value());
    expect_same(message, *back);

    wire::Message without_body;
    without_body.set_from(1);
    EXPECT_FALSE(decode_message(without_body.SerializeAsString() + future_field).has_value());
}

TEST(Codec, NothingOfAnEarlierMessageRemains) {
    Random random(test_seed() + 5);
    Message message = random.message();
    for (int i = 0; i < 20; ++i)
        decode_message(encode(random.message()));
    message.body = Heartbeat{};
    const std::optional<Message> back = decode_message(encode(message));
    ASSERT_TRUE(back.has_value());
    expect_same(message, *back);
    EXPECT_LT(encode(message).size(), 100U);
}

TEST(Codec, LongReasonIsCutBetweenCharacters) {
    Message message;
    message.from = static_cast<NodeId>(1);
    Heartbeat heartbeat;
    heartbeat.self.reason = std::string(199, 'a') + "\xC3\xA9" + "tail";
    message.body = heartbeat;
    const std::optional<Message> back = decode_message(encode(message));
    ASSERT_TRUE(back.has_value());
    EXPECT_EQ(std::string(199, 'a'), std::get<Heartbeat>(back->body).self.reason);
}

} // namespace
} // namespace pg_ha
