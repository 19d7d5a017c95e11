// SPDX-License-Identifier: PostgreSQL
//
// A directory of its own for each test, and a directory tree as one text that two can be compared by.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <string>

namespace pg_ha::rejoin {

namespace fs = std::filesystem;

inline std::string slurp(const std::string &path) {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
}

inline void spill(const std::string &path, const std::string &bytes) {
    fs::create_directories(fs::path(path).parent_path());
    std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

// Path below `root` to content; directories end in a slash.
inline std::map<std::string, std::string> tree(const std::string &root) {
    std::map<std::string, std::string> all;
    for (const auto &entry : fs::recursive_directory_iterator(root)) {
        const std::string path = fs::relative(entry.path(), root);
        if (entry.is_symlink())
            all[path] = "-> " + fs::read_symlink(entry.path()).string();
        else if (entry.is_directory())
            all[path + "/"] = "";
        else
            all[path] = slurp(entry.path());
    }
    return all;
}

class InDirectory : public ::testing::Test {
protected:
    void SetUp() override {
        std::string pattern = "/tmp/pg_ha-rejoin-XXXXXX";
        ASSERT_NE(nullptr, ::mkdtemp(pattern.data()));
        root_ = pattern;
    }
    void TearDown() override { fs::remove_all(root_); }
    std::string root_;
};

} // namespace pg_ha::rejoin
