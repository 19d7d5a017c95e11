// SPDX-License-Identifier: PostgreSQL
#include "files.hpp"

#include <array>
#include <cerrno>
#include <fcntl.h>
#include <system_error>
#include <unistd.h>

namespace pg_ha {

namespace {

constexpr std::array<std::uint32_t, 256> crc_table = [] {
    std::array<std::uint32_t, 256> table{};
    for (std::uint32_t i = 0; i < 256; ++i) {
        std::uint32_t value = i;
        for (int bit = 0; bit < 8; ++bit)
            value = (value >> 1) ^ ((value & 1) != 0 ? 0x82F63B78U : 0U); // reflected
        table[i] = value;
    }
    return table;
}();

} // namespace

Fd::~Fd() {
    if (fd_ >= 0)
        ::close(fd_);
}

void fail(const std::string &what, const std::string &path) {
    throw std::system_error(errno, std::generic_category(), "could not " + what + " \"" + path + "\"");
}

bool write_at(int fd, std::string_view bytes, off_t offset) {
    while (!bytes.empty()) {
        const ssize_t n = ::pwrite(fd, bytes.data(), bytes.size(), offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            errno = n == 0 ? ENOSPC : errno;
            return false;
        }
        bytes.remove_prefix(static_cast<std::size_t>(n));
        offset += n;
    }
    return true;
}

std::string read_up_to(int fd, std::size_t most, const std::string &path) {
    std::string bytes(most, '\0');
    std::size_t done = 0;
    while (done < bytes.size()) {
        const ssize_t n = ::pread(fd, bytes.data() + done, bytes.size() - done, static_cast<off_t>(done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            fail("read file", path);
        if (n == 0)
            break;
        done += static_cast<std::size_t>(n);
    }
    bytes.resize(done);
    return bytes;
}

std::string parent_of(const std::string &path) {
    const std::size_t end = path.find_last_not_of('/');
    const std::size_t slash = end == std::string::npos ? end : path.rfind('/', end);
    if (slash == std::string::npos)
        return ".";
    return slash == 0 ? "/" : path.substr(0, slash);
}

bool sync_directory(const std::string &directory) {
    const Fd fd(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    return fd.get() >= 0 && ::fsync(fd.get()) == 0;
}

int create_durably(const std::string &path, std::string_view bytes) {
    const std::string temporary = path + ".new";
    Fd fd(::open(temporary.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
    if (fd.get() < 0 || !write_at(fd.get(), bytes, 0) || ::fsync(fd.get()) != 0)
        return -1;
    if (::rename(temporary.c_str(), path.c_str()) != 0 || !sync_directory(parent_of(path)))
        return -1;
    return fd.release();
}

std::uint32_t crc32c(std::uint32_t crc, const void *data, std::size_t size) {
    const auto *bytes = static_cast<const unsigned char *>(data);
    crc = ~crc;
    for (std::size_t i = 0; i < size; ++i)
        crc = (crc >> 8) ^ crc_table[(crc ^ bytes[i]) & 0xFF];
    return ~crc;
}

} // namespace pg_ha
