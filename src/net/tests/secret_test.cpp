// SPDX-License-Identifier: PostgreSQL
//
// The secret file: private, exact, and never overwritten.
#include "net/runtime.hpp"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sys/stat.h>
#include <system_error>

namespace pg_ha {
namespace {

class SecretFile : public ::testing::Test {
protected:
    void SetUp() override {
        std::string pattern = "/tmp/pg_ha-secret-XXXXXX";
        ASSERT_NE(nullptr, ::mkdtemp(pattern.data()));
        directory_ = pattern;
        path_ = directory_ + "/pg_ha.secret";
    }
    void TearDown() override { std::filesystem::remove_all(directory_); }

    std::string error() const {
        try {
            read_secret(path_);
        } catch (const std::runtime_error &problem) {
            return problem.what();
        }
        return "";
    }
    void spill(const std::string &text) const {
        std::ofstream(path_, std::ios::trunc) << text;
        ::chmod(path_.c_str(), 0600);
    }

    std::string directory_;
    std::string path_;
};

TEST_F(SecretFile, ComesBackAndIsPrivate) {
    const ClusterSecret secret = make_secret();
    write_secret(path_, secret);
    struct stat info{};
    ASSERT_EQ(0, ::stat(path_.c_str(), &info));
    EXPECT_EQ(0600U, info.st_mode & 07777U);
    const ClusterSecret back = read_secret(path_);
    EXPECT_EQ(secret.cluster, back.cluster);
    EXPECT_EQ(secret.key, back.key);
    EXPECT_NE(secret.key, make_secret().key);
    ::chmod(path_.c_str(), 0400);
    EXPECT_EQ("", error());
}

TEST_F(SecretFile, IsNeverOverwritten) {
    write_secret(path_, make_secret());
    EXPECT_THROW(write_secret(path_, make_secret()), std::system_error);
    EXPECT_EQ("", error());
}

TEST_F(SecretFile, RefusalsNameTheReasonAndNotTheSecret) {
    EXPECT_NE(std::string::npos, error().find("could not open cluster secret file \"" + path_ + "\""));
    const ClusterSecret secret = make_secret();
    write_secret(path_, secret);
    for (const mode_t mode : {0640U, 0604U, 0700U, 0660U}) {
        ::chmod(path_.c_str(), mode);
        EXPECT_NE(std::string::npos, error().find("mode")) << error();
    }
    ::chmod(path_.c_str(), 0600);
    std::ifstream in(path_);
    const std::string good(std::istreambuf_iterator<char>(in), {});
    std::string upper = good;
    upper[10] = 'G';
    for (const std::string &bad : {std::string(), good + "\n", good.substr(1), good.substr(0, good.size() - 1), upper,
                                   "cluster " + std::string(32, '0') + good.substr(40)}) {
        spill(bad);
        EXPECT_NE(std::string::npos, error().find("damaged")) << bad.size();
        EXPECT_EQ(std::string::npos, error().find(good.substr(48, 64))) << "the secret shows";
    }
    spill(good);
    EXPECT_EQ("", error());
}

TEST_F(SecretFile, MustBelongToTheServersUser) {
    if (::geteuid() != 0)
        GTEST_SKIP() << "needs root";
    write_secret(path_, make_secret());
    ASSERT_EQ(0, ::chown(path_.c_str(), 65534, 65534));
    EXPECT_NE(std::string::npos, error().find("belong")) << error();
}

TEST_F(SecretFile, DirectoryIsNoSecret) {
    std::filesystem::create_directory(path_);
    EXPECT_NE("", error());
}

} // namespace
} // namespace pg_ha
