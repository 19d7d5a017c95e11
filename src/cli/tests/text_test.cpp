// SPDX-License-Identifier: PostgreSQL
//
// Command lines, connection strings, tables, and the texts of PostgreSQL's programs that are read.
#include "cli/command_line.hpp"
#include "cli/progress.hpp"
#include "cli/restored.hpp"
#include "cli/table.hpp"
#include "cli/wal_summary.hpp"

#include <gtest/gtest.h>

using namespace pg_ha;
using namespace pg_ha::cli;

namespace {

Lsn lsn(std::uint64_t value) { return static_cast<Lsn>(value); }
Timeline timeline(unsigned value) { return static_cast<Timeline>(value); }

std::string misuse(const std::vector<std::string> &arguments) {
    try {
        parse_command_line(arguments);
    } catch (const Failure &failure) {
        EXPECT_EQ(failure.status(), exit_misused);
        EXPECT_NE(failure.hint(), "");
        return failure.what();
    }
    return "";
}

} // namespace

TEST(CommandLine, Clone) {
    const Command command = parse_command_line({"clone", "-D", "/data/", "--from", "host=db1 user=r", "--node-name", "db4", "--port=5433",
                                                "-c", "work_mem=4MB", "-T", "/a=/b/", "-T/c=/d", "--rate", "10M"});
    const auto &clone = std::get<CloneOptions>(command);
    EXPECT_EQ(clone.directory, "/data");
    EXPECT_EQ(clone.from.get("host"), "db1");
    EXPECT_EQ(clone.settings, (std::map<std::string, std::string>{{"pg_ha.node_name", "db4"}, {"port", "5433"}, {"work_mem", "4MB"}}));
    EXPECT_EQ(clone.mapping, (std::map<std::string, std::string>{{"/a", "/b"}, {"/c", "/d"}}));
    EXPECT_EQ(clone.rate, "10M");
    EXPECT_FALSE(clone.restored || clone.check_only);
}

TEST(CommandLine, Misuse) {
    EXPECT_NE(misuse({}), "");
    EXPECT_NE(misuse({"dance"}), "");
    EXPECT_NE(misuse({"clone", "--from", "host=x"}), "");
    EXPECT_NE(misuse({"clone", "-D", "/data"}), "");
    const std::vector<std::string> clone = {"clone", "-D", "/data", "--from", "host=x"};
    const auto with = [&clone](std::vector<std::string> more) {
        more.insert(more.begin(), clone.begin(), clone.end());
        return misuse(more);
    };
    EXPECT_NE(with({"--port", "0"}), "");
    EXPECT_NE(with({"--port", "5432x"}), "");
    EXPECT_NE(with({"--node", "db4"}), "") << "no abbreviations";
    EXPECT_NE(with({"-c", "novalue"}), "");
    EXPECT_NE(with({"-c", "port=1", "--port", "2"}), "");
    EXPECT_NE(with({"-T", "a=/b"}), "");
    EXPECT_NE(with({"--restored", "--rate", "1M"}), "");
    EXPECT_NE(misuse({"watch", "--interval", "0"}), "");
    EXPECT_NE(misuse({"status", "-d", "nonsense"}), "");
    EXPECT_NE(misuse({"diverged", "-D", "/data"}), "");
    EXPECT_NE(misuse({"diverged", "list"}), "");
    EXPECT_NE(misuse({"diverged", "list", "-D", "/data", "--records"}), "");
}

TEST(CommandLine, Orders) {
    const Command command = parse_command_line({"switchover", "--to", "db2", "-d", "host=db1"});
    const auto &order = std::get<OrderOptions>(command);
    EXPECT_EQ(order.order, Order::switchover);
    EXPECT_EQ(order.name, "db2");
    EXPECT_EQ(order.conninfo.get("host"), "db1");
    EXPECT_EQ(std::get<OrderOptions>(parse_command_line({"switchover"})).name, "") << "the best";
    EXPECT_EQ(std::get<OrderOptions>(parse_command_line({"remove", "db3"})).name, "db3");
    EXPECT_EQ(std::get<OrderOptions>(parse_command_line({"resume"})).order, Order::resume);
    EXPECT_NE(misuse({"remove"}), "");
    EXPECT_NE(misuse({"remove", "db2", "db3"}), "") << "one at a time";
    EXPECT_NE(misuse({"remove", ""}), "");
    EXPECT_NE(misuse({"switchover", "db2"}), "") << "only by --to";
    EXPECT_NE(misuse({"switchover", "--to", ""}), "");
    EXPECT_NE(misuse({"pause", "--to", "db2"}), "");
}

TEST(CommandLine, HelpOfEach) {
    for (const std::vector<std::string> &arguments : std::vector<std::vector<std::string>>{
             {"--help"}, {"status", "--help"}, {"watch", "--help"}, {"clone", "--help"}, {"diverged", "--help"},
             {"switchover", "--help"}, {"pause", "--help"}, {"resume", "--help"}, {"remove", "--help"}})
        EXPECT_NE(std::get<HelpText>(parse_command_line(arguments)).text.find("xit status"), std::string::npos) << arguments[0];
}

TEST(ConninfoText, SurvivesOddValues) {
    const Conninfo conninfo("host='a b' password='it\\'s \\\\'");
    EXPECT_EQ(Conninfo(conninfo.text()).get("password"), "it's \\");
    EXPECT_EQ(Conninfo("postgresql://u@h:1/d").text(), "user='u' dbname='d' host='h' port='1'");
}

TEST(ConninfoText, HostsOneByOne) {
    const auto all = Conninfo("host=a,b port=1,2 user=u").single_hosts();
    ASSERT_EQ(all.size(), 2u);
    EXPECT_EQ(all[1].get("host") + all[1].get("port") + all[1].get("user"), "b2u");
    EXPECT_EQ(Conninfo("host=a,b port=7").single_hosts()[1].get("port"), "7");
    EXPECT_EQ(Conninfo("").single_hosts().size(), 1u);
    EXPECT_THROW(Conninfo("host=a,b,c port=1,2").single_hosts(), Failure);
}

TEST(FormatTable, AlignsByCharacters) {
    EXPECT_EQ(format_table({{"A", "B"}, {"größe", "1"}, {"x", ""}}), "A      B\ngröße  1\nx\n");
    EXPECT_EQ(format_table({}), "");
}

TEST(FormatBytes, Units) {
    EXPECT_EQ(format_bytes(980), "980 bytes");
    EXPECT_EQ(format_bytes(14u << 10), "14 kB");
    EXPECT_EQ(format_bytes(5u << 20), "5.0 MB");
    EXPECT_EQ(format_bytes(300ull << 30), "300 GB");
}

TEST(QuoteJson, Escapes) { EXPECT_EQ(quote_json("a\"b\\c\n"), "\"a\\\"b\\\\c\\u000a\""); }

TEST(FormatProgress, PercentBytesAndRate) {
    EXPECT_EQ(format_progress({512, 2048}, 2), "25 %, 512 kB of 2.0 MB, 256 kB/s");
    EXPECT_EQ(format_progress({512, 2048}, 0.1), "25 %, 512 kB of 2.0 MB") << "no rate after a moment";
}

TEST(ProgressDisplay, KeepsMessagesForTheError) {
    ProgressDisplay display(false);
    EXPECT_EQ(display.hear("  10/20 kB (50%), 0/1 tablespace\n"), rejoin::Heard::progress);
    EXPECT_EQ(display.hear("pg_basebackup: error: x\n"), rejoin::Heard::a_line);
    EXPECT_EQ(display.last().done_kb, 10u);
}

TEST(BackupLabel, IsRead) {
    const auto position = parse_backup_label("START WAL LOCATION: 0/2000028 (file 000000030000000000000002)\n"
                                             "CHECKPOINT LOCATION: 0/2000060\nSTART TIMELINE: 3\n");
    EXPECT_EQ(position, (Position{timeline(3), lsn(0x2000028)}));
    EXPECT_FALSE(parse_backup_label("START TIMELINE: 3\n"));
}

TEST(History, ContainsWhatLedToTheCluster) {
    const std::string history = "1\t0/3000000\tx\n3\t0/5000000\ty\n";
    EXPECT_TRUE(history_contains(history, timeline(4), {timeline(1), lsn(0x3000000)}));
    EXPECT_FALSE(history_contains(history, timeline(4), {timeline(1), lsn(0x3000001)})) << "beyond the fork";
    EXPECT_FALSE(history_contains(history, timeline(4), {timeline(2), lsn(0x100)})) << "a timeline that was left behind";
    EXPECT_TRUE(history_contains(history, timeline(4), {timeline(4), lsn(0x9000000)}));
}

TEST(KeptRangeText, IsRead) {
    const auto range = parse_range("This server's WAL\nprimary   rome, timeline 3\ntimeline  2\nfrom      0/100\nto        0/200\n");
    ASSERT_TRUE(range);
    EXPECT_EQ(range->primary, "rome, timeline 3");
    EXPECT_EQ(range->from, lsn(0x100));
    EXPECT_FALSE(parse_range("timeline  2\nfrom      unknown\nto        0/200\n")->from);
    EXPECT_FALSE(parse_range("something else\n"));
}

TEST(Pieces, FollowTheTimelines) {
    const KeptRange range{"", timeline(3), lsn(0x150), lsn(0x400)};
    EXPECT_EQ(pieces_of(range, "1\t0/200\tx\n2\t0/300\ty\n"),
              (std::vector<WalPiece>{{timeline(1), lsn(0x150), lsn(0x200)}, {timeline(2), lsn(0x200), lsn(0x300)}, {timeline(3), lsn(0x300), lsn(0x400)}}));
    EXPECT_EQ(pieces_of(range, "1\t0/100\tx\n"), (std::vector<WalPiece>{{timeline(3), lsn(0x150), lsn(0x400)}}));
}

TEST(Stretch, AsFarAsTheSegmentsGo) {
    constexpr std::uint64_t mb = 1 << 20;
    std::vector<rejoin::WalFile> files;
    for (const char *name : {"000000010000000000000005", "000000010000000000000006", "000000010000000000000007"})
        files.push_back({name, mb});
    const WalPiece piece{timeline(1), lsn(5 * mb + 100), lsn(7 * mb + 1)};
    Stretch stretch = stretch_of(piece, files);
    EXPECT_EQ(stretch.first + " " + stretch.last, files[0].name + " " + files[2].name);
    EXPECT_EQ(stretch.end, piece.to);
    EXPECT_EQ(stretch.missing, "");
    EXPECT_EQ(stretch_of({timeline(1), lsn(5 * mb), lsn(7 * mb)}, files).last, files[1].name) << "nothing of the next one";
    files.erase(files.begin() + 1);
    stretch = stretch_of(piece, files);
    EXPECT_EQ(stretch.first + " " + stretch.last, files[0].name + " " + files[0].name) << "up to the gap";
    EXPECT_EQ(stretch.end, lsn(6 * mb));
    EXPECT_EQ(stretch.missing, "the segment that contains 0/600000 of timeline 1 is missing");
    files.erase(files.begin());
    EXPECT_EQ(stretch_of(piece, files).first, "");
}

TEST(Summary, CountsRecords) {
    WalSummary summary;
    const auto add = [&summary](const std::string &kind, unsigned transaction, const std::string &description) {
        summary.add("rmgr: " + kind + "        len (rec/tot):     54/    54, tx:        " + std::to_string(transaction) +
                    ", lsn: 0/01500148, prev 0/01500110, desc: " + description);
    };
    add("Heap", 700, "INSERT off 2 flags 0x00, blkref #0: rel 1663/5/1259 blk 0");
    add("Heap2", 700, "MULTI_INSERT 50 tuples flags 0x02, blkref #0: rel 1663/5/1259 blk 1");
    add("Heap", 700, "HOT_UPDATE off 1 xmax 700, blkref #0: rel 1663/5/1259 blk 1, blkref #1: rel 1663/5/1259 blk 2");
    add("Transaction", 700, "COMMIT 2026-11-20 12:00:00.000000 UTC; inval msgs: x");
    add("Heap", 701, "DELETE off 1, blkref #0: rel 1663/5/1259 blk 0");
    add("Heap", 702, "INSERT off 1, blkref #0: rel 1663/5/2000 fork main blk 0");
    add("Transaction", 702, "ABORT 2026-11-20 12:00:01.000000 UTC");
    add("Heap", 703, "INSERT off 1, blkref #0: rel 1663/5/2000 blk 0");
    add("Transaction", 703, "PREPARE gid x: 2026-11-20 12:00:01.000000 UTC");
    add("Transaction", 0, "COMMIT_PREPARED 703: 2026-11-20 12:00:02.000000 UTC");
    summary.add("pg_waldump: error: something");
    EXPECT_EQ(summary.records, 10u);
    EXPECT_EQ(summary.kinds["Transaction"], 4u);
    EXPECT_EQ(summary.committed, 2u);
    EXPECT_EQ(summary.aborted, 1u);
    EXPECT_EQ(summary.prepared, 1u);
    EXPECT_EQ(summary.unfinished, std::set<unsigned>{701});
    EXPECT_EQ(summary.first_commit, "2026-11-20 12:00:00.000000 UTC");
    EXPECT_EQ(summary.last_commit, "2026-11-20 12:00:02.000000 UTC");
    const RelationChanges &changes = summary.relations[{1663, 5, 1259}];
    EXPECT_EQ(changes.records, 4u);
    EXPECT_EQ(changes.inserted, 51u);
    EXPECT_EQ(changes.updated, 1u);
    EXPECT_EQ(changes.deleted, 1u);
}
