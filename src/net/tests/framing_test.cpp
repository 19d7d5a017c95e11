// SPDX-License-Identifier: PostgreSQL
//
// Frames come out as they went in, however the stream is cut; a bad length is found before its bytes.
#include "net/framing.hpp"

#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace pg_ha {
namespace {

TEST(Framing, FramesSurviveEveryCut) {
    const std::uint64_t seed = std::random_device{}();
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937_64 random(seed);
    for (int round = 0; round < 300; ++round) {
        std::vector<std::string> expected;
        std::string stream;
        for (int i = 0; i < 20; ++i) {
            expected.emplace_back(1 + random() % (round % 3 == 0 ? 3000 : 9), static_cast<char>('a' + i));
            append_frame(stream, expected.back());
        }
        FrameReader reader;
        reader.set_limit(4096);
        std::vector<std::string> actual;
        while (!stream.empty()) {
            const std::size_t size = std::min<std::size_t>(stream.size(), 1 + random() % (round % 2 == 0 ? 7 : 5000));
            const auto result = reader.feed(std::string(stream, 0, size), [&actual](std::string_view payload) {
                actual.emplace_back(payload);
                return true;
            });
            ASSERT_EQ(FrameReader::Result::ok, result);
            stream.erase(0, size);
        }
        ASSERT_EQ(expected, actual);
        ASSERT_FALSE(reader.has_partial());
    }
}

TEST(Framing, LengthIsJudgedBeforeThePayloadArrives) {
    for (const std::string &header : {std::string("\xFF\xFF\xFF\xFF", 4), std::string("\0\0\0\0", 4),
                                      std::string("\0\0\x10\x01", 4)}) {
        for (std::size_t cut = 0; cut <= 4; ++cut) {
            FrameReader reader;
            reader.set_limit(4096);
            const auto sink = [](std::string_view) { return true; };
            auto result = reader.feed(header.substr(0, cut), sink);
            if (result == FrameReader::Result::ok)
                result = reader.feed(header.substr(cut), sink);
            EXPECT_EQ(FrameReader::Result::bad_length, result);
        }
    }
}

TEST(Framing, SinkCanStop) {
    std::string stream;
    append_frame(stream, "one");
    append_frame(stream, "two");
    FrameReader reader;
    reader.set_limit(16);
    int seen = 0;
    EXPECT_EQ(FrameReader::Result::stopped, reader.feed(stream, [&seen](std::string_view) { return ++seen > 1; }));
    EXPECT_EQ(1, seen);
}

} // namespace
} // namespace pg_ha
