// SPDX-License-Identifier: PostgreSQL
//
// The file operations of the helper.  Each is durable when it returns, may be repeated, and throws
// std::system_error with the path in its text.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace pg_ha::rejoin {

bool exists(const std::string &path); // also a symbolic link that leads nowhere
std::string existing_part_of(const std::string &path); // the path or its nearest parent that is there
std::vector<std::string> entries(const std::string &directory); // sorted, without . and ..
std::uint64_t size_of(const std::string &path);
std::uint64_t tree_bytes(const std::string &directory); // does not follow links
std::string link_target(const std::string &path);       // empty: no symbolic link
std::uint64_t free_bytes(const std::string &directory);

void make_directory(const std::string &path, unsigned mode); // it may be there already
void copy_file(const std::string &from, const std::string &to); // a real copy, under its name only when complete
void link_file(const std::string &from, const std::string &to); // a second name for a file that nobody writes into
void write_file(const std::string &path, const std::string &text);
void move(const std::string &from, const std::string &to); // over what is there
// The exception: not durable before both directories are synced.
void move_loosely(const std::string &from, const std::string &to);
void exchange(const std::string &one, const std::string &other);
void remove_tree(const std::string &path); // it may be gone already
void sync_directory(const std::string &path);

} // namespace pg_ha::rejoin
