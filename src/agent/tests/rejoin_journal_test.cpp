// SPDX-License-Identifier: PostgreSQL
//
// The journal of a rejoin: what was written is read back, and a file that is cut off, damaged or of another
// version is refused, never taken for "nothing to do": the data directory may be half a server.
#include "agent/rejoin_journal.hpp"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <unistd.h>

namespace pg_ha {
namespace {

namespace fs = std::filesystem;

RejoinJournal full_journal() {
    RejoinJournal j;
    j.phase = RejoinPhase::rewinding;
    j.postmaster = 4711;
    j.postmaster_started = 1234567890123;
    j.data_directory = "/data dir/100 %/line\nbreak";
    j.config_file = "/etc/postgresql.conf";
    j.program_directory = "/usr/lib/postgresql/15/bin";
    j.system_identifier = 0xfedcba9876543210;
    j.clone = "paris no longer has the WAL";
    j.self = static_cast<NodeId>(0x8000000000000001);
    j.leader = "paris";
    j.conninfo = "user=replicator passfile='/x y' host=paris port=5432";
    j.term = static_cast<Term>(7);
    j.timeline = static_cast<Timeline>(7);
    j.own = {static_cast<Timeline>(6), static_cast<Lsn>(0x1000000028)};
    j.fork = {static_cast<Timeline>(5), static_cast<Lsn>(0xffffffffff)};
    j.candidates = {{"paris", "host=paris"}, {"a name", "host=rome"}};
    j.parameters = {{"max_connections", "100"}};
    j.aside = "/data.pg_ha/diverged/7-1";
    j.rewinds = 2;
    j.rewinds_failed = 1;
    j.hidden = true;
    j.failures = 3;
    j.at = 1800000000;
    j.text = "100 % done\tand more";
    j.reported = true;
    j.began_at = 1799999999;
    return j;
}

class RejoinJournalTest : public ::testing::Test {
protected:
    void SetUp() override {
        std::string pattern = "/tmp/pg_ha-journal-XXXXXX";
        ASSERT_NE(nullptr, ::mkdtemp(pattern.data()));
        directory_ = pattern;
    }
    void TearDown() override { fs::remove_all(directory_); }
    std::string text() const {
        std::ifstream in(directory_ + "/rejoin", std::ios::binary);
        return {std::istreambuf_iterator<char>(in), {}};
    }
    void put(const std::string &text) const { std::ofstream(directory_ + "/rejoin", std::ios::trunc) << text; }

    std::string directory_;
};

TEST_F(RejoinJournalTest, NoFileMeansNothingWasAsked) {
    EXPECT_EQ(RejoinPhase::none, read_rejoin_journal(directory_).phase);
}

TEST_F(RejoinJournalTest, EverythingIsReadBack) {
    const RejoinJournal wrote = full_journal();
    write_rejoin_journal(directory_, wrote);
    const RejoinJournal read = read_rejoin_journal(directory_);
    EXPECT_EQ(wrote.phase, read.phase);
    EXPECT_EQ(wrote.postmaster, read.postmaster);
    EXPECT_EQ(wrote.postmaster_started, read.postmaster_started);
    EXPECT_EQ(wrote.data_directory, read.data_directory);
    EXPECT_EQ(wrote.config_file, read.config_file);
    EXPECT_EQ(wrote.program_directory, read.program_directory);
    EXPECT_EQ(wrote.system_identifier, read.system_identifier);
    EXPECT_EQ(wrote.self, read.self);
    EXPECT_EQ(wrote.leader, read.leader);
    EXPECT_EQ(wrote.conninfo, read.conninfo);
    EXPECT_EQ(wrote.term, read.term);
    EXPECT_EQ(wrote.timeline, read.timeline);
    EXPECT_EQ(wrote.own, read.own);
    EXPECT_EQ(wrote.fork, read.fork);
    EXPECT_EQ(wrote.candidates, read.candidates);
    EXPECT_EQ(wrote.parameters, read.parameters);
    EXPECT_EQ(wrote.aside, read.aside);
    EXPECT_EQ(wrote.rewinds, read.rewinds);
    EXPECT_EQ(wrote.rewinds_failed, read.rewinds_failed);
    EXPECT_EQ(wrote.hidden, read.hidden);
    EXPECT_EQ(wrote.failures, read.failures);
    EXPECT_EQ(wrote.at, read.at);
    EXPECT_EQ(wrote.text, read.text);
    EXPECT_EQ(wrote.reported, read.reported);
    EXPECT_EQ(wrote.began_at, read.began_at);
    write_rejoin_journal(directory_, read);
    EXPECT_EQ(read.text, read_rejoin_journal(directory_).text) << "escaping is stable";
}

TEST_F(RejoinJournalTest, EveryPhaseKeepsItsName) {
    RejoinJournal journal;
    for (int p = 0; p <= static_cast<int>(RejoinPhase::given_up); ++p) {
        journal.phase = static_cast<RejoinPhase>(p);
        write_rejoin_journal(directory_, journal);
        EXPECT_EQ(journal.phase, read_rejoin_journal(directory_).phase) << to_string(journal.phase);
    }
}

TEST_F(RejoinJournalTest, CutOffAnywhereItIsRefused) {
    write_rejoin_journal(directory_, full_journal());
    const std::string whole = text();
    for (std::size_t length = 0; length < whole.size() - 1; ++length) { // the last line break may be missing
        put(whole.substr(0, length));
        EXPECT_THROW(read_rejoin_journal(directory_), std::runtime_error) << length << " of " << whole.size();
    }
}

TEST_F(RejoinJournalTest, DamagedItIsRefused) {
    write_rejoin_journal(directory_, full_journal());
    const std::string whole = text();
    const auto with = [&whole](const std::string &from, const std::string &to) {
        std::string changed = whole;
        const std::size_t at = changed.find(from);
        EXPECT_NE(std::string::npos, at) << from;
        return changed.replace(at, from.size(), to);
    };
    for (const std::string &broken :
         {with("format ", "format 9"), with("phase rewinding", "phase rewinding_"), with("rewinds 2", "rewinds two"),
          with("rewinds 2", "rewound 2"), with("leader paris", "leader"), with("%25", "%2"), with("%0A", "%zz"),
          with("own 6/", "own 6"), with("term 7", "term 99999999999"), with("postmaster 4711", "postmaster 47 11")}) {
        put(broken);
        EXPECT_THROW(read_rejoin_journal(directory_), std::runtime_error) << broken;
    }
}

// A crash between the two writes of a change leaves the old journal, and the new one's name is used again.
TEST_F(RejoinJournalTest, AnUnfinishedNewFileIsNoJournal) {
    write_rejoin_journal(directory_, full_journal());
    std::ofstream(directory_ + "/rejoin.new") << "format";
    EXPECT_EQ(RejoinPhase::rewinding, read_rejoin_journal(directory_).phase);
    RejoinJournal next = full_journal();
    next.phase = RejoinPhase::finishing;
    write_rejoin_journal(directory_, next);
    EXPECT_EQ(RejoinPhase::finishing, read_rejoin_journal(directory_).phase);
    EXPECT_FALSE(fs::exists(directory_ + "/rejoin.new"));
}

TEST(RejoinPhases, WhileUnfinishedTheServerMayNotOpen) {
    for (const RejoinPhase open : {RejoinPhase::none, RejoinPhase::requested, RejoinPhase::done, RejoinPhase::given_up})
        EXPECT_FALSE(rejoin_unfinished(open)) << to_string(open);
    for (const RejoinPhase shut : {RejoinPhase::hiding, RejoinPhase::recovering, RejoinPhase::saving, RejoinPhase::rewinding,
                                   RejoinPhase::finishing, RejoinPhase::cloning, RejoinPhase::swapping, RejoinPhase::returning})
        EXPECT_TRUE(rejoin_unfinished(shut)) << to_string(shut);
}

} // namespace
} // namespace pg_ha
