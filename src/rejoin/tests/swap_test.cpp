// SPDX-License-Identifier: PostgreSQL
//
// A clone takes the place of the old server, and may be cut off also while what is old is removed.
#include "rejoin/clone.hpp"
#include "rejoin/files.hpp"
#include "support.hpp"

namespace pg_ha::rejoin {
namespace {

class SwapTest : public InDirectory {
protected:
    void SetUp() override {
        InDirectory::SetUp();
        data_ = root_ + "/data";
        state_ = root_ + "/state";
        journal_.data_directory = data_;
        journal_.began_at = 7;
        for (const char *file : {"PG_VERSION", "global/pg_control", "base/1/1259", "pg_wal/000000010000000000000001", "pg_xact/0000"}) {
            spill(data_ + "/" + file, "old");
            spill(data_ + "/pg_ha.clone/" + file, "new");
        }
        spill(data_ + "/postgresql.conf", "own");
        spill(data_ + "/pg_ha.clone/postgresql.conf", "the primary's");
        spill(state_ + "/state", "vote");
        fs::create_directories(data_ + "/pg_tblspc");
        fs::create_directories(data_ + "/pg_ha.clone/pg_tblspc");
        spill(root_ + "/space/PG_15_1/5/1", "old");
        spill(root_ + "/space.pg_ha-7/PG_15_1/5/1", "new");
        fs::create_symlink(root_ + "/space", data_ + "/pg_tblspc/16384");
        fs::create_symlink(root_ + "/space.pg_ha-7", data_ + "/pg_ha.clone/pg_tblspc/16384");
    }
    void expect_new() const {
        for (const char *file : {"global/pg_control", "base/1/1259", "pg_wal/000000010000000000000001", "pg_xact/0000"})
            EXPECT_EQ("new", slurp(data_ + "/" + file)) << file;
        EXPECT_EQ("own", slurp(data_ + "/postgresql.conf"));
        EXPECT_EQ("new", slurp(data_ + "/pg_tblspc/16384/PG_15_1/5/1"));
        EXPECT_FALSE(fs::exists(state_ + "/state")) << "it gets another identity";
    }
    std::string data_, state_;
    RejoinJournal journal_;
};

TEST_F(SwapTest, TheCloneTakesThePlaceAndNothingIsLeft) {
    swap_clone(journal_, state_);
    expect_new();
    EXPECT_EQ("old", slurp(data_ + "/pg_ha.old/base/1/1259"));
    remove_clone_leftovers(journal_);
    expect_new();
    for (const char *name : {"pg_ha.old", "pg_ha.clone", "pg_ha.rejoin"})
        EXPECT_FALSE(fs::exists(data_ + "/" + name)) << name;
    EXPECT_TRUE(fs::is_empty(root_ + "/space"));
}

// The journal says `swapping` until all that is old is gone.
TEST_F(SwapTest, OnceMoreWhileWhatIsOldIsRemovedItChangesNothing) {
    swap_clone(journal_, state_);
    swap_clone(journal_, state_);
    expect_new();
    remove_tree(data_ + "/pg_ha.old/base");
    swap_clone(journal_, state_);
    expect_new();
    remove_clone_leftovers(journal_);
    const auto whole = tree(root_);
    swap_clone(journal_, state_);
    remove_clone_leftovers(journal_);
    EXPECT_EQ(whole, tree(root_));
    expect_new();
}

} // namespace
} // namespace pg_ha::rejoin
