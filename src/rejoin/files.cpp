// SPDX-License-Identifier: PostgreSQL
#include "files.hpp"

#include "agent/files.hpp"
#include "process.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <dirent.h>
#include <fcntl.h>
#include <memory>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

namespace pg_ha::rejoin {

namespace {

int open_file(const std::string &path, int flags, unsigned mode = 0) {
    const int fd = ::open(path.c_str(), flags | O_CLOEXEC, mode);
    if (fd < 0)
        fail("open", path);
    return fd;
}

constexpr std::size_t piece_bytes = 256 * 1024;

bool only_zeros(const char *data, std::size_t size) {
    return size == 0 || (data[0] == 0 && std::memcmp(data, data + 1, size - 1) == 0);
}

void sync(int fd, const std::string &path) {
    if (::fsync(fd) != 0)
        fail("fsync", path);
}

void write_all(int fd, const char *data, std::size_t size, const std::string &path) {
    while (size > 0) {
        const ssize_t n = ::write(fd, data, size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            fail("write", path);
        data += n;
        size -= static_cast<std::size_t>(n);
    }
}

} // namespace

bool exists(const std::string &path) {
    struct stat info;
    if (::lstat(path.c_str(), &info) == 0)
        return true;
    if (errno != ENOENT && errno != ENOTDIR)
        fail("look at", path);
    return false;
}

std::string existing_part_of(const std::string &path) {
    std::string part = path;
    while (part.size() > 1 && !exists(part))
        part.erase(std::max<std::size_t>(part.rfind('/'), 1));
    return part;
}

std::vector<std::string> entries(const std::string &directory) {
    const std::unique_ptr<DIR, int (*)(DIR *)> opened(::opendir(directory.c_str()), ::closedir);
    if (!opened)
        fail("open directory", directory);
    std::vector<std::string> names;
    while (const dirent *entry = ::readdir(opened.get()))
        if (const std::string name = entry->d_name; name != "." && name != "..")
            names.push_back(name);
    std::sort(names.begin(), names.end());
    return names;
}

std::uint64_t size_of(const std::string &path) {
    struct stat info;
    if (::stat(path.c_str(), &info) != 0)
        fail("look at", path);
    return static_cast<std::uint64_t>(info.st_size);
}

std::uint64_t tree_bytes(const std::string &directory) {
    std::uint64_t sum = 0;
    for (const std::string &name : entries(directory)) {
        const std::string path = directory + "/" + name;
        struct stat info;
        if (::lstat(path.c_str(), &info) != 0)
            fail("look at", path);
        sum += S_ISDIR(info.st_mode) ? tree_bytes(path) : static_cast<std::uint64_t>(info.st_size);
    }
    return sum;
}

std::string link_target(const std::string &path) {
    char target[4096];
    const ssize_t length = ::readlink(path.c_str(), target, sizeof target);
    return length <= 0 || length == sizeof target ? "" : std::string(target, static_cast<std::size_t>(length));
}

std::uint64_t free_bytes(const std::string &directory) {
    struct statvfs info;
    if (::statvfs(directory.c_str(), &info) != 0)
        fail("look at the file system of", directory);
    return static_cast<std::uint64_t>(info.f_bavail) * info.f_frsize;
}

void make_directory(const std::string &path, unsigned mode) {
    if (::mkdir(path.c_str(), mode) != 0 && errno != EEXIST)
        fail("create directory", path);
    sync_directory(parent_of(path));
}

// The space is taken at once, and zeros are not written: the unused end of a WAL segment costs nothing.
void copy_file(const std::string &from, const std::string &to) {
    const std::string temporary = to + ".partial";
    {
        const Fd in(open_file(from, O_RDONLY)), out(open_file(temporary, O_WRONLY | O_CREAT | O_TRUNC, 0600));
        const off_t size = static_cast<off_t>(size_of(from));
        if (const int error = size == 0 ? 0 : ::posix_fallocate(out.get(), 0, size)) {
            errno = error;
            fail("reserve space for", temporary);
        }
        std::vector<char> buffer(piece_bytes);
        for (off_t at = 0; at < size;) {
            leave_if_stopped();
            const ssize_t n = ::pread(in.get(), buffer.data(), buffer.size(), at);
            if (n < 0 && errno == EINTR)
                continue;
            if (n <= 0)
                fail("read", from);
            if (!only_zeros(buffer.data(), static_cast<std::size_t>(n))) {
                if (::lseek(out.get(), at, SEEK_SET) != at)
                    fail("seek in", temporary);
                write_all(out.get(), buffer.data(), static_cast<std::size_t>(n), temporary);
            }
            at += n;
        }
        sync(out.get(), temporary);
    }
    move(temporary, to);
}

void link_file(const std::string &from, const std::string &to) {
    if (::link(from.c_str(), to.c_str()) != 0 && errno != EEXIST)
        fail("link to \"" + to + "\"", from);
    sync_directory(parent_of(to));
}

void write_file(const std::string &path, const std::string &text) {
    const std::string temporary = path + ".partial";
    {
        const Fd out(open_file(temporary, O_WRONLY | O_CREAT | O_TRUNC, 0600));
        write_all(out.get(), text.data(), text.size(), temporary);
        sync(out.get(), temporary);
    }
    move(temporary, path);
}

void move_loosely(const std::string &from, const std::string &to) {
    if (::rename(from.c_str(), to.c_str()) != 0)
        fail("rename to \"" + to + "\"", from);
}

void move(const std::string &from, const std::string &to) {
    move_loosely(from, to);
    sync_directory(parent_of(to));
    if (parent_of(from) != parent_of(to))
        sync_directory(parent_of(from));
}

void exchange(const std::string &one, const std::string &other) {
    if (::renameat2(AT_FDCWD, one.c_str(), AT_FDCWD, other.c_str(), RENAME_EXCHANGE) != 0)
        fail("exchange with \"" + other + "\"", one);
    sync_directory(parent_of(one));
    sync_directory(parent_of(other));
}

void remove_tree(const std::string &path) {
    struct stat info;
    if (::lstat(path.c_str(), &info) != 0) {
        if (errno == ENOENT)
            return;
        fail("look at", path);
    }
    if (S_ISDIR(info.st_mode)) {
        for (const std::string &name : entries(path))
            remove_tree(path + "/" + name);
        if (::rmdir(path.c_str()) != 0 && errno != ENOENT)
            fail("remove directory", path);
    } else if (::unlink(path.c_str()) != 0 && errno != ENOENT) {
        fail("remove", path);
    }
}

void sync_directory(const std::string &path) {
    const Fd fd(open_file(path, O_RDONLY | O_DIRECTORY));
    sync(fd.get(), path);
}

} // namespace pg_ha::rejoin
