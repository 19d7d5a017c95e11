// SPDX-License-Identifier: PostgreSQL
//
// What an interrupted clone leaves is removed by the next run at whatever moment it was killed, and nothing
// else is; a clone that is whole is never removed.
#include "cli/clone_target.hpp"
#include "cli/failure.hpp"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <unistd.h>

using namespace pg_ha::cli;
namespace fs = std::filesystem;

namespace {

class Target : public testing::Test {
protected:
    Target() : root(fs::path(testing::TempDir()) / ("pg_hactl-" + std::to_string(::getpid()))) {
        fs::remove_all(root);
        fs::create_directories(root);
    }
    ~Target() override { fs::remove_all(root); }

    std::string data() const { return root / "data"; }
    void put(const std::string &path) {
        fs::create_directories((root / path).parent_path());
        std::ofstream(root / path) << "x";
    }
    bool there(const std::string &path) const { return fs::exists(root / path); }
    // As pg_basebackup would have made it.
    void begin_copy() {
        CloneTarget target(data());
        target.begin({root / "space"});
        put("data/pg_hactl.copy/PG_VERSION");
        put("data/pg_hactl.copy/base/1/2");
        put("space/PG_15_1/3");
    }
    void expect_clean() {
        CloneTarget again(data());
        EXPECT_TRUE(again.unfinished());
        EXPECT_FALSE(again.complete());
        EXPECT_NO_THROW(again.check_place_for(root / "space"));
        again.remove_leftovers();
        EXPECT_FALSE(there("data/pg_hactl.copy") || there("data/base") || there("space/PG_15_1"));
        EXPECT_NO_THROW(again.begin({}));
    }

    fs::path root;
};

} // namespace

TEST_F(Target, KilledWhileCopying) {
    begin_copy();
    expect_clean();
}

TEST_F(Target, KilledWhileMoving) {
    begin_copy();
    std::ofstream(root / "data/pg_hactl.clone", std::ios::app) << "entry base\nentry PG_VERSION\n";
    fs::rename(root / "data/pg_hactl.copy/base", root / "data/base");
    expect_clean();
}

TEST_F(Target, KilledBeforeTheMarkerWasWritten) {
    fs::create_directory(root / "data");
    std::ofstream(root / "data/pg_hactl.clone");
    CloneTarget again(data());
    EXPECT_TRUE(again.unfinished());
    EXPECT_NO_THROW(again.remove_leftovers());
}

TEST_F(Target, ALineThatWasCutOffDoesNotCount) {
    begin_copy();
    put("data/base/mine");
    std::ofstream(root / "data/pg_hactl.clone", std::ios::app) << "entry base"; // no end of line: nothing was moved yet
    CloneTarget again(data());
    EXPECT_THROW(again.remove_leftovers(), Failure);
    EXPECT_TRUE(there("data/base/mine"));
}

TEST_F(Target, WhatOthersMadeStays) {
    begin_copy();
    put("data/precious");
    put("space/precious");
    CloneTarget again(data());
    EXPECT_THROW(again.remove_leftovers(), Failure);
    EXPECT_TRUE(there("data/precious") && there("space/precious"));
    fs::remove(root / "data/precious");
    put("mine/file");
    EXPECT_THROW(CloneTarget(root / "mine"), Failure);
    EXPECT_THROW(CloneTarget(root / "no/such/parent"), Failure);
    EXPECT_THROW(CloneTarget(root / "mine/file"), Failure);
}

TEST_F(Target, AWholeCloneIsNeverRemoved) {
    begin_copy();
    {
        CloneTarget target(data());
        target.remove_leftovers();
        target.begin({});
        put("data/pg_hactl.copy/PG_VERSION");
        put("data/pg_hactl.copy/base/1/2");
        target.bring_out();
    } // killed before finish()
    CloneTarget again(data());
    EXPECT_TRUE(again.complete());
    EXPECT_THROW(again.remove_leftovers(), Failure);
    again.finish();
    EXPECT_TRUE(there("data/PG_VERSION") && there("data/base/1/2"));
    EXPECT_FALSE(there("data/pg_hactl.clone") || there("data/pg_hactl.copy"));
    EXPECT_THROW(CloneTarget{data()}, Failure) << "it is a server's now";
}

TEST_F(Target, FailedCopyLeavesNothing) {
    CloneTarget target(data());
    target.begin({root / "space"});
    put("data/pg_hactl.copy/base/1/2");
    put("space/PG_15_1/3");
    target.remove();
    EXPECT_FALSE(there("data") || there("space"));
}

TEST_F(Target, AnEmptyDirectoryIsTakenAndLeft) {
    fs::create_directories(root / "data/lost+found"); // a file system of its own
    CloneTarget target(data());
    target.begin({});
    put("data/pg_hactl.copy/base/1/2");
    target.remove();
    EXPECT_TRUE(there("data/lost+found"));
    EXPECT_FALSE(there("data/pg_hactl.clone"));
}

TEST_F(Target, OneAtATime) {
    begin_copy();
    CloneTarget one(data()), two(data());
    one.remove_leftovers();
    EXPECT_THROW(two.remove_leftovers(), Failure);
}
