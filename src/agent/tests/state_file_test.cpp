// SPDX-License-Identifier: PostgreSQL
//
// The state file under torn writes, bit flips, a second process and unusable directories: what was
// answered for is always read back, and what can't be trusted is called corrupt, never empty.
#include "agent/state_file.hpp"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sys/stat.h>
#include <sys/wait.h>
#include <system_error>
#include <unistd.h>

namespace pg_ha {
namespace {

namespace fs = std::filesystem;
constexpr std::size_t slot_bytes = 64 * 1024;

// Saved once in each term, so the number of the save is that of the term.
DurableState state_of(std::uint32_t term, std::size_t members = 3) {
    DurableState state;
    state.saves = term;
    state.self = static_cast<NodeId>(11);
    state.node_name = "n1";
    state.incarnation = static_cast<Incarnation>(4);
    state.term = static_cast<Term>(term);
    state.voted_for = static_cast<NodeId>(term % 2 == 0 ? 0 : 11);
    for (std::size_t i = 1; i <= members; ++i)
        state.configuration.members.push_back({static_cast<NodeId>(i), "n" + std::to_string(i), MemberKind::data, true,
                                               {"10.0.0.1", 7432}, {"10.0.0.1", 5432}, 100});
    return state;
}

std::string slurp(const std::string &path) {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
}

void spill(const std::string &path, const std::string &bytes) {
    std::ofstream out(path, std::ios::binary | std::ios::trunc);
    out << bytes;
}

class StateFileTest : public ::testing::Test {
protected:
    void SetUp() override {
        std::string pattern = "/tmp/pg_ha-state-XXXXXX";
        ASSERT_NE(nullptr, ::mkdtemp(pattern.data()));
        root_ = pattern;
        directory_ = root_ + "/node.pg_ha";
        path_ = directory_ + "/state";
    }
    void TearDown() override { fs::remove_all(root_); }

    void save(std::uint32_t from_term, std::uint32_t to_term) {
        StateFile file(directory_);
        for (std::uint32_t term = from_term; term <= to_term; ++term)
            ASSERT_TRUE(file.save(state_of(term)));
    }

    std::string root_;
    std::string directory_;
    std::string path_;
};

TEST_F(StateFileTest, FirstStartIsMissingAndTheDirectoryIsPrivate) {
    StateFile file(directory_);
    EXPECT_EQ(StateCondition::missing, file.condition());
    struct stat info{};
    ASSERT_EQ(0, ::stat(directory_.c_str(), &info));
    EXPECT_EQ(0700U, info.st_mode & 07777U);
    EXPECT_FALSE(fs::exists(path_)) << "looking at a directory must not make a state";
}

TEST_F(StateFileTest, NewestStateIsReadBack) {
    for (std::uint32_t term = 1; term <= 7; ++term) {
        save(term, term);
        StateFile file(directory_);
        ASSERT_EQ(StateCondition::valid, file.condition());
        EXPECT_EQ(state_of(term), file.loaded());
    }
    EXPECT_EQ(2 * slot_bytes, fs::file_size(path_));
    struct stat info{};
    ASSERT_EQ(0, ::stat(path_.c_str(), &info));
    EXPECT_EQ(0600U, info.st_mode & 07777U);
    const StateView view = read_state(directory_);
    EXPECT_EQ(StateCondition::valid, view.condition);
    EXPECT_EQ(state_of(7), view.state);
}

TEST_F(StateFileTest, LargestConfigurationFits) {
    DurableState state = state_of(1, 32);
    for (Member &member : state.configuration.members) {
        member.name = std::string(63, 'n');
        member.peer.host = member.postgres.host = std::string(255, 'h');
    }
    {
        StateFile file(directory_);
        ASSERT_TRUE(file.save(state));
    }
    EXPECT_EQ(state, read_state(directory_).state);
}

TEST_F(StateFileTest, StateThatWouldNotComeBackIsRefused) {
    StateFile file(directory_);
    ASSERT_TRUE(file.save(state_of(1)));
    DurableState bad = state_of(2);
    bad.node_name = "not a name";
    EXPECT_FALSE(file.save(bad));
    EXPECT_EQ(state_of(1), read_state(directory_).state);
    ASSERT_TRUE(file.save(state_of(2)));
    EXPECT_EQ(state_of(2), read_state(directory_).state);
    EXPECT_FALSE(file.save(state_of(4))) << "two saves apart is the mark of an old copy";
}

// Save 1 lies in slot 1, save 2 in slot 0.  The third write goes to slot 1.
TEST_F(StateFileTest, TornWriteLeavesThePreviousState) {
    save(1, 2);
    const std::string before = slurp(path_);
    {
        StateFile file(directory_);
        ASSERT_TRUE(file.save(state_of(3, 30)));
    }
    const std::string after = slurp(path_);
    ASSERT_NE(before, after);
    for (std::size_t cut = 0; cut <= slot_bytes; cut += 512) {
        std::string torn = before;
        torn.replace(slot_bytes, cut, after, slot_bytes, cut);
        spill(path_, torn);
        const StateView view = read_state(directory_);
        ASSERT_EQ(StateCondition::valid, view.condition) << "cut at " << cut;
        ASSERT_EQ(torn == after ? state_of(3, 30) : state_of(2), view.state) << "cut at " << cut;
        // And the other order: the tail reached the disk, the head did not.
        torn = after;
        torn.replace(slot_bytes, cut, before, slot_bytes, cut);
        spill(path_, torn);
        ASSERT_EQ(torn == after ? state_of(3, 30) : state_of(2), read_state(directory_).state) << "tail from " << cut;
    }
}

TEST_F(StateFileTest, WritingGoesOnAfterATornWrite) {
    save(1, 3);
    std::string bytes = slurp(path_);
    bytes[slot_bytes + 40] ^= 1; // save 3
    spill(path_, bytes);
    {
        StateFile file(directory_);
        ASSERT_EQ(StateCondition::valid, file.condition());
        ASSERT_EQ(state_of(2), file.loaded());
        ASSERT_TRUE(file.save(state_of(3, 5)));
    }
    EXPECT_EQ(state_of(3, 5), read_state(directory_).state);
}

TEST_F(StateFileTest, EveryFlippedBitIsFound) {
    save(1, 1);
    const std::string good = slurp(path_);
    const std::size_t end = slot_bytes + 512;
    for (std::size_t byte = slot_bytes; byte < end; ++byte) {
        std::string bad = good;
        bad[byte] = static_cast<char>(bad[byte] ^ (1 << (byte % 8)));
        spill(path_, bad);
        const StateView view = read_state(directory_);
        if (view.condition == StateCondition::valid) { // beyond the payload
            ASSERT_EQ(state_of(1), view.state) << "byte " << byte;
        }
    }
    std::string bad = good;
    bad[slot_bytes + 9] ^= 4;
    spill(path_, bad);
    EXPECT_EQ(StateCondition::corrupt, read_state(directory_).condition);
}

TEST_F(StateFileTest, ShortEmptyAndForeignFilesAreCorrupt) {
    save(1, 2);
    const std::string good = slurp(path_);
    for (const std::string &bytes : {std::string(), std::string("x"), std::string(2 * slot_bytes, '\0'), good.substr(0, 40),
                                     good.substr(slot_bytes) + good.substr(0, slot_bytes)}) {
        spill(path_, bytes);
        StateFile file(directory_);
        EXPECT_EQ(StateCondition::corrupt, file.condition()) << bytes.size() << " bytes";
        EXPECT_FALSE(file.save(state_of(9))) << "corrupt is not empty";
        EXPECT_EQ(bytes, slurp(path_)) << "evidence must stay";
    }
}

TEST_F(StateFileTest, SetAsideKeepsTheEvidenceAndStartsEmpty) {
    save(1, 2);
    spill(path_, "rubbish");
    {
        StateFile file(directory_);
        ASSERT_EQ(StateCondition::corrupt, file.condition());
        file.set_aside();
        EXPECT_EQ(StateCondition::missing, file.condition());
        EXPECT_EQ("rubbish", slurp(path_ + ".unusable"));
        EXPECT_FALSE(fs::exists(path_));
        ASSERT_TRUE(file.save(state_of(1)));
        EXPECT_EQ(StateCondition::valid, file.condition());
    }
    EXPECT_EQ(state_of(1), read_state(directory_).state);
}

// ---- the echo --------------------------------------------------------------------------------------------

class EchoTest : public StateFileTest {
protected:
    void SetUp() override {
        StateFileTest::SetUp();
        data_ = root_ + "/node";
        fs::create_directory(data_);
        echo_ = data_ + "/" + echo_file_name;
    }
    void save(std::uint32_t from_term, std::uint32_t to_term) {
        StateFile file(directory_, echo_);
        for (std::uint32_t term = from_term; term <= to_term; ++term)
            ASSERT_TRUE(file.save(state_of(term)));
    }
    StateCondition found() const {
        const StateCondition condition = StateFile(directory_, echo_).condition();
        EXPECT_EQ(condition, read_state(directory_, echo_).condition) << "the start gate sees the same";
        return condition;
    }

    std::string data_, echo_;
};

TEST_F(EchoTest, EverySaveIsEchoed) {
    for (std::uint32_t term = 1; term <= 5; ++term) {
        save(term, term);
        EXPECT_EQ((Echo{static_cast<NodeId>(11), term}), read_echo(echo_));
        EXPECT_EQ(StateCondition::valid, found());
    }
    EXPECT_EQ(32u, fs::file_size(echo_));
}

TEST_F(EchoTest, AnOldCopyOfEitherIsTold) {
    save(1, 3);
    const std::string state = slurp(path_), echo = slurp(echo_);
    save(4, 5);
    const std::string newer = slurp(path_), newer_echo = slurp(echo_);
    spill(path_, state);
    EXPECT_EQ(StateCondition::old_state, found());
    EXPECT_EQ(state, slurp(path_)) << "evidence stays";
    spill(path_, newer);
    EXPECT_EQ(StateCondition::valid, found());
    spill(echo_, echo);
    EXPECT_EQ(StateCondition::old_data, found());
    spill(path_, state);
    EXPECT_EQ(StateCondition::valid, found()) << "both restored together: only the peers can tell";
    spill(echo_, newer_echo);
    StateFile file(directory_, echo_);
    EXPECT_FALSE(file.save(state_of(4))) << "it has no vote to store";
    file.set_aside();
    EXPECT_EQ(state, slurp(path_ + ".unusable"));
    EXPECT_TRUE(file.save(state_of(1)));
    EXPECT_EQ((Echo{static_cast<NodeId>(11), 1}), read_echo(echo_));
}

TEST_F(EchoTest, ACrashBetweenStateAndEchoCostsNothing) {
    save(1, 2);
    const std::string echo = slurp(echo_);
    save(3, 3);
    spill(echo_, echo);
    EXPECT_EQ(StateCondition::valid, found());
    save(4, 4); // and again
    EXPECT_EQ((Echo{static_cast<NodeId>(11), 4}), read_echo(echo_));
    // The second crash comes between its two writes: the echo must have been brought up to 3 before.
    write_echo(echo_, {static_cast<NodeId>(11), 3});
    EXPECT_EQ(StateCondition::valid, found());
}

TEST_F(EchoTest, ADataDirectoryThatHasSeenAnotherNodeIsForeign) {
    save(1, 2);
    const std::string echo = slurp(echo_);
    fs::remove(echo_);
    EXPECT_EQ(StateCondition::foreign_data, found());
    ASSERT_TRUE(write_echo(echo_, {static_cast<NodeId>(12), 2}));
    EXPECT_EQ(StateCondition::foreign_data, found());
    for (std::size_t byte = 0; byte < echo.size(); ++byte) {
        std::string bad = echo;
        bad[byte] = static_cast<char>(bad[byte] ^ 1);
        spill(echo_, bad);
        EXPECT_EQ(StateCondition::foreign_data, found()) << "byte " << byte;
    }
    spill(echo_, echo.substr(0, 31));
    EXPECT_EQ(StateCondition::foreign_data, found());
    fs::remove(path_);
    EXPECT_EQ(StateCondition::missing, found()) << "a clone has its source's echo and no state yet";
    save(1, 1);
    EXPECT_EQ(StateCondition::valid, found());
}

TEST_F(EchoTest, ASaveThatCannotBeEchoedDoesNotCount) {
    save(1, 1);
    StateFile file(directory_, echo_);
    fs::remove(echo_);
    fs::create_directory(echo_);
    EXPECT_FALSE(file.save(state_of(2)));
    fs::remove(echo_);
    EXPECT_TRUE(file.save(state_of(2))) << "the same one again";
    EXPECT_EQ((Echo{static_cast<NodeId>(11), 2}), read_echo(echo_));
}

TEST_F(StateFileTest, CrashWhileTheFileIsMadeLeavesItMissing) {
    { StateFile file(directory_); }
    spill(directory_ + "/state.new", "half");
    EXPECT_EQ(StateCondition::missing, read_state(directory_).condition);
    save(1, 1);
    EXPECT_EQ(state_of(1), read_state(directory_).state);
}

TEST_F(StateFileTest, SecondHolderIsRefusedUntilTheFirstIsGone) {
    int ready[2];
    int go[2];
    ASSERT_EQ(0, ::pipe(ready));
    ASSERT_EQ(0, ::pipe(go));
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    char byte = 'x';
    if (child == 0) {
        const StateFile file(directory_);
        if (::write(ready[1], &byte, 1) != 1 || ::read(go[0], &byte, 1) != 1)
            ::_exit(1);
        ::_exit(0);
    }
    ASSERT_EQ(1, ::read(ready[0], &byte, 1));
    try {
        const StateFile file(directory_);
        FAIL() << "the lock did not hold";
    } catch (const std::system_error &) {
        FAIL() << "must be told apart from an unusable directory";
    } catch (const std::runtime_error &error) {
        EXPECT_NE(std::string::npos, std::string(error.what()).find(directory_)) << error.what();
    }
    EXPECT_EQ(StateCondition::missing, read_state(directory_).condition) << "reading takes no lock";
    ASSERT_EQ(1, ::write(go[1], &byte, 1));
    int status = 0;
    ASSERT_EQ(child, ::waitpid(child, &status, 0));
    EXPECT_EQ(0, status);
    EXPECT_NO_THROW(StateFile{directory_});
    for (const int fd : {ready[0], ready[1], go[0], go[1]})
        ::close(fd);
}

void expect_system_error(const std::string &directory, int code) {
    try {
        const StateFile file(directory);
        FAIL() << "opened " << directory;
    } catch (const std::system_error &error) {
        EXPECT_EQ(code, error.code().value());
        EXPECT_NE(std::string::npos, std::string(error.what()).find(directory)) << error.what();
    }
}

TEST_F(StateFileTest, UnusableDirectoriesAreNamedInTheError) {
    spill(root_ + "/file", "");
    expect_system_error(root_ + "/file", ENOTDIR);
    expect_system_error(root_ + "/file/below", ENOTDIR);
    expect_system_error(root_ + "/absent/below", ENOENT);
    fs::create_directory(root_ + "/open");
    fs::permissions(root_ + "/open", fs::perms::all);
    expect_system_error(root_ + "/open", EPERM);
}

TEST_F(StateFileTest, UnreadableStateIsAnErrorNotMissing) {
    save(1, 1);
    if (::geteuid() == 0) { // root reads everything: look as somebody else
        fs::permissions(root_, fs::perms::all);
        ASSERT_EQ(0, ::seteuid(65534));
    } else {
        ASSERT_EQ(0, ::chmod(path_.c_str(), 0));
    }
    EXPECT_THROW(read_state(directory_), std::system_error);
    if (::getuid() == 0) {
        ASSERT_EQ(0, ::seteuid(0));
    }
}

} // namespace
} // namespace pg_ha
