// SPDX-License-Identifier: PostgreSQL
//
// Which WAL is kept where, and what other programs' words are understood.
#include "rejoin/kept_wal.hpp"
#include "rejoin/progress.hpp"
#include "support.hpp"
#include "rejoin/wal_files.hpp"

namespace pg_ha::rejoin {
namespace {

constexpr std::uint64_t mb = 1 << 20;
constexpr Timeline tl(std::uint32_t n) { return static_cast<Timeline>(n); }
constexpr Lsn at(std::uint64_t n) { return static_cast<Lsn>(n); }

TEST(WalFiles, NamesOfSegments) {
    const auto segment = parse_segment("0000000A00000002000000FF", 16 * mb);
    ASSERT_TRUE(segment);
    EXPECT_EQ(tl(10), segment->timeline);
    EXPECT_EQ(2 * 256 + 255u, segment->number);
    for (const std::uint64_t size : {1 * mb, 16 * mb, 1024 * mb})
        for (const std::uint64_t number : {0ull, 1ull, 255ull, 256ull, 4096ull, 70000ull}) {
            const std::string name = segment_name({tl(3), number}, size);
            ASSERT_TRUE(parse_segment(name, size)) << name;
            EXPECT_EQ(number, parse_segment(name, size)->number) << name;
        }
    for (const char *other : {"00000001000000000000001", "000000010000000000000001.partial", "00000002.history", "archive_status",
                              "00000001000000000000000g"})
        EXPECT_FALSE(parse_segment(other, 16 * mb)) << other;
    EXPECT_FALSE(parse_segment("000000010000000000000001", 0));
    EXPECT_TRUE(is_history_file("0000000A.history"));
    EXPECT_FALSE(is_history_file("0000000a.history"));
    EXPECT_FALSE(is_history_file("000000010000000000000001"));
}

TEST(WalFiles, Positions) {
    EXPECT_EQ(at(0x16000000028), parse_lsn("160/28"));
    EXPECT_EQ(at(0xffffffff), parse_lsn("0/FFFFFFFF rest"));
    EXPECT_FALSE(parse_lsn("nothing"));
    EXPECT_FALSE(parse_lsn(""));
}

TEST(PgRewind, WhatItSaysOfTheDivergence) {
    const auto found = parse_divergence("pg_rewind: connected to server\n"
                                        "pg_rewind: servers diverged at WAL location 2/8017CC8 on timeline 3\n"
                                        "pg_rewind: rewinding from last common checkpoint at 2/7000060 on timeline 2\n"
                                        "pg_rewind: need to copy 51 MB (total source directory size is 134 MB)\n");
    ASSERT_TRUE(found);
    EXPECT_EQ((Position{tl(3), at(0x208017CC8)}), found->fork);
    EXPECT_EQ((Position{tl(2), at(0x207000060)}), found->checkpoint);
    EXPECT_EQ(51u, parse_need_mb("a line\npg_rewind: need to copy 51 MB (total source directory size is 134 MB)\n"));
    EXPECT_FALSE(parse_need_mb("pg_rewind: no rewind required\n"));
    EXPECT_FALSE(parse_divergence("pg_rewind: no rewind required\n"));
    EXPECT_FALSE(parse_divergence("pg_rewind: servers diverged at WAL location 2/8017CC8 on timeline 3\n"));
    EXPECT_FALSE(parse_divergence(""));
}

TEST(PgWaldump, WhereReplayBegins) {
    EXPECT_EQ(at(0x7000028), parse_redo("rmgr: XLOG        len (rec/tot):    114/   114, tx:          0, lsn: 0/07000060, prev 0/07000028, "
                                        "desc: CHECKPOINT_ONLINE redo 0/7000028; tli 1; prev tli 1; fpw true\n"));
    EXPECT_EQ(at(0x108000028), parse_redo("desc: CHECKPOINT_SHUTDOWN redo 1/8000028; tli 2"));
    EXPECT_FALSE(parse_redo("rmgr: Heap len 10, desc: INSERT off 3"));
    EXPECT_FALSE(parse_redo(""));
}

TEST(Progress, OfBothPrograms) {
    const auto rewind = parse_progress("  52714/ 105428 kB (50%) copied\n");
    ASSERT_TRUE(rewind);
    EXPECT_EQ(52714u, rewind->done_kb);
    EXPECT_EQ(105428u, rewind->total_kb);
    EXPECT_EQ(50u, rewind->percent());
    const auto backup = parse_progress("    0/23456 kB (0%), 0/1 tablespace (...g_ha.clone/base/1/1259)\n");
    ASSERT_TRUE(backup);
    EXPECT_EQ(0u, backup->percent());
    EXPECT_EQ(100u, (Amount{200, 100}).percent()) << "the source has grown meanwhile";
    EXPECT_EQ(0u, Amount{}.percent());
    for (const char *other : {"pg_rewind: Done!\n", "", "12 kB", "need to copy 51 MB (total source directory size is 134 MB)"})
        EXPECT_FALSE(parse_progress(other)) << other;
}

TEST(Progress, EachLineIsToldAndNoneIsKept) {
    unsigned told = 0;
    Progress progress([&told](const Amount &) { ++told; });
    EXPECT_EQ(Heard::progress, progress.hear("  1/ 100 kB (1%) copied\n"));
    EXPECT_EQ(Heard::progress, progress.hear("  100/ 100 kB (100%) copied\n"));
    EXPECT_EQ(Heard::a_line, progress.hear("pg_rewind: error: something\n"));
    EXPECT_EQ(2u, told);
}

TEST(Run, LinesAreKeptDroppedOrEnough) {
    const auto hear = [](const std::string &line) {
        return line == "drop\n" ? Heard::progress : line == "enough\n" ? Heard::enough : Heard::a_line;
    };
    Ran ran = run({"/bin/sh", "-c", "echo one; echo drop; echo two; exit 3"}, Echo::off, hear);
    EXPECT_EQ("one\ntwo\n", ran.output);
    EXPECT_NE(0, ran.status);
    ran = run({"/bin/sh", "-c", "echo one; echo enough; while :; do :; done"}, Echo::off, hear);
    EXPECT_EQ("one\nenough\n", ran.output);
    EXPECT_EQ(0, ran.status);
    ran = run({"/bin/sh", "-c", "printf 'no line break'"}, Echo::off, hear);
    EXPECT_EQ("no line break", ran.output);
    EXPECT_EQ(0, ran.status);
    EXPECT_NE(0, run({"/nowhere/program"}, Echo::off).status);
}

// ---- WAL that is kept -------------------------------------------------------------------------------------

TEST(WalFiles, TheOneThatContainsAPosition) {
    const std::vector<WalFile> files = {{"000000010000000000000005", mb}, {"000000010000000000000006", mb},
                                        {"000000020000000000000006", mb}, {"000000020000000100000000", mb}};
    EXPECT_EQ(&files[1], file_with({tl(1), at(6 * mb + 100)}, files)) << "in its middle";
    EXPECT_EQ(&files[2], file_with({tl(2), at(6 * mb)}, files)) << "at its beginning";
    EXPECT_EQ(&files[3], file_with({tl(2), at(0x100000000)}, files));
    EXPECT_EQ(nullptr, file_with({tl(2), at(5 * mb)}, files)) << "another timeline's has other WAL";
    EXPECT_EQ(nullptr, file_with({tl(1), at(7 * mb)}, files));
}

TEST_F(InDirectory, WalFilesAreListedInOrder) {
    for (const char *name : {"000000010000000000000006", "000000010000000000000005", "00000002.history", "range.txt"})
        spill(root_ + "/" + name, std::string(4, 'x'));
    spill(root_ + "/000000010000000000000007", ""); // never written: of no size
    const std::vector<WalFile> files = wal_files_in(root_);
    ASSERT_EQ(2u, files.size());
    EXPECT_EQ("000000010000000000000005", files[0].name);
    EXPECT_EQ(4u, files[0].bytes);
}

class KeptWalTest : public InDirectory {
protected:
    void SetUp() override {
        InDirectory::SetUp();
        places_ = {root_ + "/state", root_ + "/hidden"};
        fs::create_directories(places_.state);
        spill(places_.hidden + "/global/pg_control", "control file of before");
        for (int number = 1; number <= 7; ++number)
            spill(segment(1, number), "own " + std::to_string(number));
        spill(places_.hidden + "/pg_wal/00000001.history", "");
        journal_.leader = "paris";
        journal_.timeline = tl(2);
        journal_.own = {tl(1), at(6 * mb + 500)};
        journal_.began_at = 77;
    }
    std::string segment(std::uint32_t timeline, std::uint64_t number) const {
        return places_.hidden + "/pg_wal/" + segment_name({tl(timeline), number}, mb);
    }
    Places places_;
    RejoinJournal journal_;
};

// Replay begins in segment 3, the checkpoint is in 4, the fork in 5, our end in 6, recovery has gone into 7.
TEST_F(KeptWalTest, FromWhereReplayBeginsToTheEnd) {
    const Divergence found{{tl(1), at(5 * mb + 100)}, {tl(1), at(4 * mb + 100)}};
    const std::string aside = keep_diverged_wal(places_, journal_, mb, found, at(3 * mb + 100));
    const auto saved = tree(places_.state + "/rejoin.wal"), diverged = tree(aside);
    for (int number = 1; number <= 7; ++number) {
        const std::string name = segment_name({tl(1), static_cast<std::uint64_t>(number)}, mb);
        EXPECT_EQ(number >= 3, saved.contains(name)) << name;
        EXPECT_EQ(number == 5 || number == 6, diverged.contains(name)) << name;
    }
    EXPECT_EQ("control file of before", saved.at("pg_control"));
    const std::string range = diverged.at("range.txt");
    EXPECT_NE(std::string::npos, range.find("from      0/500064\nto        0/6001F4\n")) << range;
    EXPECT_EQ(range, tree(keep_diverged_wal(places_, journal_, mb, found, at(3 * mb + 100))).at("range.txt")) << "again";
}

TEST_F(KeptWalTest, WhatPgRewindOverwroteIsPutBack) {
    const Divergence found{{tl(1), at(5 * mb + 100)}, {tl(1), at(4 * mb + 100)}};
    const std::string aside = keep_diverged_wal(places_, journal_, mb, found, at(3 * mb + 100));
    const auto before = tree(places_.hidden), set_aside = tree(aside);
    std::ofstream(segment(1, 5), std::ios::in) << "XXX"; // in place
    fs::remove(segment(1, 6));
    spill(places_.hidden + "/global/pg_control", "control file of after");
    put_back_saved_wal(places_);
    EXPECT_EQ(before, tree(places_.hidden));
    EXPECT_EQ(set_aside, tree(aside));
    remove_kept(places_);
    EXPECT_EQ(set_aside, tree(aside)) << "it is a person who removes this";
}

TEST_F(KeptWalTest, OlderWalThatTheSourceHasNotIsAdded) {
    const std::string wal(mb, 'w');
    for (int number = 1; number <= 7; ++number)
        spill(segment(1, number), wal);
    const Divergence found{{tl(1), at(5 * mb + 100)}, {tl(1), at(4 * mb + 100)}};
    keep_diverged_wal(places_, journal_, mb, found, at(3 * mb + 100));
    for (int number = 1; number <= 7; ++number)
        fs::remove(segment(1, number));
    add_older_wal(places_, found.fork);
    EXPECT_TRUE(fs::exists(segment(1, 3)));
    EXPECT_TRUE(fs::exists(segment(1, 4)));
    EXPECT_FALSE(fs::exists(segment(1, 5))) << "from the fork on only the source's WAL counts";
}

// Recovery appends its checkpoint; given up, the end is what it was.
TEST_F(KeptWalTest, TheTailIsPutBackAsItWas) {
    fs::remove(segment(1, 7));
    const auto before = tree(places_.hidden);
    keep_tail(places_, {0, "in production", mb, tl(1)}, journal_.own);
    std::ofstream(segment(1, 6), std::ios::in) << "appended";
    spill(segment(1, 7), "a new segment");
    spill(places_.hidden + "/global/pg_control", "shut down");
    keep_tail(places_, {0, "shut down", mb, tl(1)}, journal_.own); // resumed: the first copy counts
    put_back_tail(places_);
    EXPECT_EQ(before, tree(places_.hidden));
}

} // namespace
} // namespace pg_ha::rejoin
