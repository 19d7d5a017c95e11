// SPDX-License-Identifier: PostgreSQL
//
// What the state file and its echo share: a descriptor that closes itself, whole writes, durable names,
// and the checksum.  Nothing here decides what a file means.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <sys/types.h>
#include <utility>

namespace pg_ha {

class Fd {
public:
    explicit Fd(int fd) : fd_(fd) {}
    ~Fd();
    Fd(const Fd &) = delete;
    Fd &operator=(const Fd &) = delete;
    int get() const { return fd_; }
    int release() { return std::exchange(fd_, -1); }

private:
    int fd_;
};

// Throws std::system_error: could not <what> "<path>".
[[noreturn]] void fail(const std::string &what, const std::string &path);
bool write_at(int fd, std::string_view bytes, off_t offset); // all of it, or errno is set
// At most `most` bytes from the beginning.  Throws std::system_error.
std::string read_up_to(int fd, std::size_t most, const std::string &path);
std::string parent_of(const std::string &path);
bool sync_directory(const std::string &directory);
// A file under its own name, durable, before it gets `path`: a crash leaves the old file or the new one.
// Returns the descriptor, or -1 with errno set.
int create_durably(const std::string &path, std::string_view bytes);

std::uint32_t crc32c(std::uint32_t crc, const void *data, std::size_t size); // Castagnoli

} // namespace pg_ha
