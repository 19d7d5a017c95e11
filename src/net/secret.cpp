// SPDX-License-Identifier: PostgreSQL
//
// The cluster secret and its file.  Who holds the file is a member, so it is as private as a TLS
// key: 0600 or 0400, owned by the server's user, and never shown in a setting, log line or error.
#include "runtime.hpp"

#include "agent/files.hpp"

#include <cerrno>
#include <fcntl.h>
#include <stdexcept>
#include <string_view>
#include <sys/random.h>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>

namespace pg_ha {

namespace {

constexpr std::string_view cluster_word = "cluster ";
constexpr std::string_view secret_word = "secret ";
constexpr std::size_t cluster_digits = 32;
constexpr std::size_t secret_digits = 64;
constexpr std::size_t file_bytes = 8 + cluster_digits + 1 + 7 + secret_digits + 1;

void fill_random(void *data, std::size_t size) {
    auto *bytes = static_cast<unsigned char *>(data);
    while (size > 0) {
        const ssize_t n = ::getrandom(bytes, size, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            throw std::system_error(errno, std::generic_category(), "could not get random numbers");
        bytes += n;
        size -= static_cast<std::size_t>(n);
    }
}

std::string hexadecimal(const std::array<std::uint8_t, 32> &bytes) {
    constexpr char digits[] = "0123456789abcdef";
    std::string out;
    for (const std::uint8_t byte : bytes) {
        out += digits[byte >> 4];
        out += digits[byte & 15];
    }
    return out;
}

bool digit(char c, std::uint8_t &out) {
    if (c >= '0' && c <= '9')
        out = static_cast<std::uint8_t>(c - '0');
    else if (c >= 'a' && c <= 'f')
        out = static_cast<std::uint8_t>(c - 'a' + 10);
    else
        return false;
    return true;
}

bool parse_bytes(std::string_view text, std::uint8_t *out) {
    for (std::size_t i = 0; i < text.size(); i += 2) {
        std::uint8_t high = 0;
        std::uint8_t low = 0;
        if (!digit(text[i], high) || !digit(text[i + 1], low))
            return false;
        out[i / 2] = static_cast<std::uint8_t>(high << 4 | low);
    }
    return true;
}

std::uint64_t big_endian(const std::uint8_t *bytes) {
    std::uint64_t value = 0;
    for (int i = 0; i < 8; ++i)
        value = value << 8 | bytes[i];
    return value;
}

bool parse(std::string_view text, ClusterSecret &out) {
    const std::size_t second_line = cluster_word.size() + cluster_digits + 1;
    if (text.size() != file_bytes || !text.starts_with(cluster_word) || text[second_line - 1] != '\n' ||
        !text.substr(second_line).starts_with(secret_word) || text.back() != '\n')
        return false;
    std::array<std::uint8_t, 16> cluster{};
    if (!parse_bytes(text.substr(cluster_word.size(), cluster_digits), cluster.data()) ||
        !parse_bytes(text.substr(second_line + secret_word.size(), secret_digits), out.key.data()))
        return false;
    out.cluster = {big_endian(cluster.data()), big_endian(cluster.data() + 8)};
    return out.cluster != no_cluster;
}

} // namespace

ClusterSecret make_secret() {
    ClusterSecret secret;
    do
        fill_random(&secret.cluster, sizeof(secret.cluster));
    while (secret.cluster == no_cluster);
    fill_random(secret.key.data(), secret.key.size());
    return secret;
}

void write_secret(const std::string &path, const ClusterSecret &secret) {
    const std::string text = std::string(cluster_word) + to_string(secret.cluster) + "\n" + std::string(secret_word) +
                             hexadecimal(secret.key) + "\n";
    const Fd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    if (fd.get() < 0)
        fail("create cluster secret file", path);
    // The umask may have taken bits away, never added any; a short write of 120 bytes means a full disk.
    errno = ENOSPC;
    if (::write(fd.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size()) || ::fsync(fd.get()) != 0 ||
        !sync_directory(parent_of(path))) {
        const int error = errno;
        ::unlink(path.c_str()); // a server that has a secret, or half of one, is a member and starts as a standby
        errno = error;
        fail("write cluster secret file", path);
    }
}

ClusterSecret read_secret(const std::string &path) {
    const Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    if (fd.get() < 0)
        fail("open cluster secret file", path);
    struct stat info{};
    if (::fstat(fd.get(), &info) != 0)
        fail("look at cluster secret file", path);
    const auto refuse = [&path](const std::string &why) {
        throw std::runtime_error("cluster secret file \"" + path + "\" " + why);
    };
    if (!S_ISREG(info.st_mode))
        refuse("is not a regular file");
    if (info.st_uid != ::geteuid())
        refuse("does not belong to the user that runs the server");
    if ((info.st_mode & 07777) != 0600 && (info.st_mode & 07777) != 0400)
        refuse("must have mode 0600 or 0400");
    std::string text(file_bytes + 1, '\0');
    const ssize_t size = ::read(fd.get(), text.data(), text.size());
    if (size < 0)
        fail("read cluster secret file", path);
    ClusterSecret secret;
    if (!parse(std::string_view(text).substr(0, static_cast<std::size_t>(size)), secret))
        refuse("is damaged: it must have the two lines \"cluster\" (32 digits) and \"secret\" (64 digits)");
    return secret;
}

} // namespace pg_ha
