// SPDX-License-Identifier: PostgreSQL
//
// What goes to one file system is counted together, and places need not be there yet.
#include "rejoin/files.hpp"
#include "rejoin/room.hpp"
#include "support.hpp"

#include <sys/stat.h>

namespace pg_ha::rejoin {
namespace {

using RoomTest = InDirectory;

TEST_F(RoomTest, PlacesOnOneFileSystemShareItsRoom) {
    const std::uint64_t most = free_bytes(root_) / 10 * 6;
    RoomNeeded room;
    room.add(root_ + "/not/there/yet", most);
    EXPECT_FALSE(room.shortage(10));
    room.add(root_, most);
    const auto shortage = room.shortage(10);
    ASSERT_TRUE(shortage);
    EXPECT_EQ(root_, shortage->place);
    EXPECT_GT(shortage->needed, 2 * most);
    EXPECT_LT(shortage->free, shortage->needed);
}

TEST_F(RoomTest, SpareRoomIsWantedToo) {
    RoomNeeded room;
    room.add(root_, free_bytes(root_) / 10 * 9);
    EXPECT_FALSE(room.shortage(1));
    EXPECT_TRUE(room.shortage(50));
}

TEST_F(RoomTest, EachFileSystemHasRoomOfItsOwn) {
    const std::string other = "/dev/shm";
    struct stat here, there;
    if (::stat(root_.c_str(), &here) != 0 || ::stat(other.c_str(), &there) != 0 || here.st_dev == there.st_dev)
        GTEST_SKIP() << "no second file system";
    RoomNeeded room;
    room.add(root_, free_bytes(root_) / 2);
    room.add(other + "/new", free_bytes(other) / 2);
    EXPECT_FALSE(room.shortage(10));
    room.add(other, free_bytes(other));
    const auto shortage = room.shortage(10);
    ASSERT_TRUE(shortage);
    EXPECT_EQ(other, shortage->place);
}

} // namespace
} // namespace pg_ha::rejoin
