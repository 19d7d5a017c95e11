// SPDX-License-Identifier: PostgreSQL
//
// Copies are whole and real, names appear only with the whole content, and repeating any of it is harmless.
#include "rejoin/files.hpp"
#include "rejoin/hiding.hpp"
#include "support.hpp"

#include <sys/stat.h>
#include <system_error>

namespace pg_ha::rejoin {
namespace {

using FilesTest = InDirectory;

TEST_F(FilesTest, ACopyHasEveryByteWhereverTheZerosAre) {
    const std::string zeros(300 * 1024, '\0'), text = "some bytes";
    for (const std::string &content : {std::string(), text, zeros, zeros + text, text + zeros, zeros + text + zeros,
                                       std::string(1, '\0'), std::string(256 * 1024 - 1, '\0') + "x" + zeros}) {
        spill(root_ + "/from", content);
        copy_file(root_ + "/from", root_ + "/to");
        EXPECT_EQ(content, slurp(root_ + "/to")) << content.size();
        EXPECT_FALSE(fs::exists(root_ + "/to.partial"));
    }
}

TEST_F(FilesTest, ACopyTakesItsSpaceAtOnce) {
    spill(root_ + "/from", std::string(4 << 20, '\0'));
    copy_file(root_ + "/from", root_ + "/to");
    struct stat info;
    ASSERT_EQ(0, ::stat((root_ + "/to").c_str(), &info));
    EXPECT_GE(info.st_blocks * 512, 4 << 20);
}

TEST_F(FilesTest, ACopyIsNoLinkAndALinkIsNoCopy) {
    spill(root_ + "/from", "before");
    copy_file(root_ + "/from", root_ + "/copy");
    link_file(root_ + "/from", root_ + "/link");
    link_file(root_ + "/from", root_ + "/link");
    std::ofstream(root_ + "/from", std::ios::in) << "AFTER!"; // in place, as pg_rewind writes
    EXPECT_EQ("before", slurp(root_ + "/copy"));
    EXPECT_EQ("AFTER!", slurp(root_ + "/link"));
}

TEST_F(FilesTest, WhatIsMissingIsSaidWithItsPath) {
    try {
        copy_file(root_ + "/nothing", root_ + "/to");
        FAIL();
    } catch (const std::system_error &error) {
        EXPECT_NE(std::string::npos, std::string(error.what()).find(root_ + "/nothing")) << error.what();
    }
    remove_tree(root_ + "/nothing");
    EXPECT_FALSE(exists(root_ + "/nothing"));
}

// ---- hiding ---------------------------------------------------------------------------------------------

class HidingTest : public InDirectory {
protected:
    void SetUp() override {
        InDirectory::SetUp();
        for (const char *file : {"PG_VERSION", "postgresql.conf", "postmaster.pid", "standby.signal", "global/pg_control", "global/1262",
                                 "base/1/1259", "pg_wal/000000010000000000000001", "pg_xact/0000", "pg_logical/state"})
            spill(root_ + "/" + file, file);
        fs::create_directories(root_ + "/pg_tblspc");
        fs::create_symlink("/elsewhere", root_ + "/pg_tblspc/16384");
        whole_ = tree(root_);
    }
    void expect_hidden() const {
        EXPECT_FALSE(fs::exists(root_ + "/pg_wal")) << "no start finds WAL";
        EXPECT_FALSE(fs::exists(root_ + "/base"));
        EXPECT_TRUE(fs::exists(root_ + "/global/pg_control")) << "the stand-in lets a start come as far as our library";
        EXPECT_FALSE(fs::exists(root_ + "/global/1262"));
        for (const char *own : {"postgresql.conf", "postmaster.pid", "standby.signal", "PG_VERSION"})
            EXPECT_TRUE(fs::exists(root_ + "/" + own)) << own;
        const std::string hidden = hidden_directory(root_);
        for (const char *file : {"global/pg_control", "global/1262", "base/1/1259", "pg_wal/000000010000000000000001", "PG_VERSION"})
            EXPECT_EQ(file, slurp(hidden + "/" + file));
        EXPECT_TRUE(fs::is_symlink(hidden + "/pg_tblspc/16384"));
    }
    std::map<std::string, std::string> whole_;
};

TEST_F(HidingTest, ThereAndBackAgain) {
    hide(root_);
    expect_hidden();
    hide(root_);
    expect_hidden();
    bring_back(root_);
    EXPECT_EQ(whole_, tree(root_));
    bring_back(root_);
    EXPECT_EQ(whole_, tree(root_));
}

// What a cut-off leaves: pg_wal is away, and any of the other directories may be.
TEST_F(HidingTest, CutOffAnywhereBothDirectionsFinish) {
    const std::string hidden = hidden_directory(root_);
    for (const std::vector<std::string> &gone : {std::vector<std::string>{}, {"pg_wal"}, {"pg_wal", "base"},
                                                  {"pg_wal", "pg_xact", "pg_logical"}, {"pg_wal", "pg_tblspc"}}) {
        const auto begin = [&] {
            fs::create_directory(hidden);
            for (const std::string &name : gone)
                fs::rename(root_ + "/" + name, hidden + "/" + name);
        };
        begin();
        hide(root_);
        expect_hidden();
        bring_back(root_);
        EXPECT_EQ(whole_, tree(root_)) << gone.size();
        begin();
        bring_back(root_);
        EXPECT_EQ(whole_, tree(root_)) << gone.size();
    }
}

// pg_rewind's settings of the source vanish, its backup_label comes along.
TEST_F(HidingTest, OnlyWhatRecoveryNeedsComesBack) {
    hide(root_);
    spill(hidden_directory(root_) + "/postgresql.conf", "the source's");
    spill(hidden_directory(root_) + "/backup_label", "START WAL LOCATION");
    bring_back(root_);
    EXPECT_EQ("postgresql.conf", slurp(root_ + "/postgresql.conf"));
    EXPECT_EQ("START WAL LOCATION", slurp(root_ + "/backup_label"));
    EXPECT_FALSE(fs::exists(hidden_directory(root_)));
}

} // namespace
} // namespace pg_ha::rejoin
