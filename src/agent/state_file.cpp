// SPDX-License-Identifier: PostgreSQL
//
// The file `state`: two slots of 64 KiB.  A slot is a 32-byte header (magic, format, generation,
// length, CRC-32C) and an encoded DurableState.  Generation g lives in slot g mod 2, so a write
// always hits the older slot, and the newest slot that passes every check is the state.
//
// One bad slot beside a good one is a write that was cut off: save() had not returned, so nobody was
// told.  Two bad slots are no state at all ("corrupt").  The file appears by rename with its first
// slot already in it: a crash while it is made leaves "missing", never "corrupt".
//
// Must never answer true before fdatasync did, and never write what it could not read again.
#include "state_file.hpp"

#include "codec.hpp"

#include <array>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <stdexcept>
#include <sys/file.h>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>
#include <utility>

namespace pg_ha {

namespace {

constexpr std::size_t slot_bytes = 65536;
constexpr std::size_t file_bytes = 2 * slot_bytes;
constexpr std::uint32_t magic = 0x41684770; // "pGhA"
constexpr std::uint32_t format = 1;

// Little-endian on every machine that PostgreSQL 15 and this library are built for; a file from
// another byte order fails the magic and is "corrupt", which is safe.
struct SlotHeader {
    std::uint32_t magic = 0;
    std::uint32_t format = 0;
    std::uint64_t generation = 0;
    std::uint32_t length = 0;   // of the payload
    std::uint32_t checksum = 0; // CRC-32C of header (checksum 0) and payload
    std::uint64_t reserved = 0;
};
static_assert(sizeof(SlotHeader) == 32);
constexpr std::size_t payload_bytes_max = slot_bytes - sizeof(SlotHeader);

constexpr std::array<std::uint32_t, 256> crc_table = [] {
    std::array<std::uint32_t, 256> table{};
    for (std::uint32_t i = 0; i < 256; ++i) {
        std::uint32_t value = i;
        for (int bit = 0; bit < 8; ++bit)
            value = (value >> 1) ^ ((value & 1) != 0 ? 0x82F63B78U : 0U); // Castagnoli, reflected
        table[i] = value;
    }
    return table;
}();

std::uint32_t crc32c(std::uint32_t crc, const void *data, std::size_t size) {
    const auto *bytes = static_cast<const unsigned char *>(data);
    crc = ~crc;
    for (std::size_t i = 0; i < size; ++i)
        crc = (crc >> 8) ^ crc_table[(crc ^ bytes[i]) & 0xFF];
    return ~crc;
}

std::uint32_t checksum(SlotHeader header, std::string_view payload) {
    header.checksum = 0;
    return crc32c(crc32c(0, &header, sizeof(header)), payload.data(), payload.size());
}

[[noreturn]] void fail(const std::string &what, const std::string &path) {
    throw std::system_error(errno, std::generic_category(), "could not " + what + " \"" + path + "\"");
}

class Fd {
public:
    explicit Fd(int fd) : fd_(fd) {}
    ~Fd() {
        if (fd_ >= 0)
            ::close(fd_);
    }
    Fd(const Fd &) = delete;
    Fd &operator=(const Fd &) = delete;
    int get() const { return fd_; }
    int release() { return std::exchange(fd_, -1); }

private:
    int fd_;
};

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

std::string read_all(int fd, const std::string &path) {
    std::string bytes(file_bytes, '\0');
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

bool sync_directory(const std::string &directory) {
    const Fd fd(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    return fd.get() >= 0 && ::fsync(fd.get()) == 0;
}

std::string parent_of(const std::string &path) {
    const std::size_t end = path.find_last_not_of('/');
    const std::size_t slash = end == std::string::npos ? end : path.rfind('/', end);
    if (slash == std::string::npos)
        return ".";
    return slash == 0 ? "/" : path.substr(0, slash);
}

// A slot's bytes for this generation; empty if the state would not come back as it is.
std::string make_slot(const DurableState &state, std::uint64_t generation) {
    const std::string payload = encode(state);
    if (payload.size() > payload_bytes_max || decode_state(payload) != state)
        return {};
    SlotHeader header{magic, format, generation, static_cast<std::uint32_t>(payload.size()), 0, 0};
    header.checksum = checksum(header, payload);
    std::string slot(sizeof(header) + payload.size(), '\0');
    std::memcpy(slot.data(), &header, sizeof(header));
    std::memcpy(slot.data() + sizeof(header), payload.data(), payload.size());
    return slot;
}

struct Contents {
    StateCondition condition = StateCondition::missing;
    std::uint64_t generation = 0;
    DurableState state;
};

Contents parse(std::string_view file) {
    Contents best;
    best.condition = StateCondition::corrupt;
    for (std::size_t slot = 0; slot < 2; ++slot) {
        if (file.size() < slot * slot_bytes + sizeof(SlotHeader))
            continue;
        const std::string_view bytes = file.substr(slot * slot_bytes, slot_bytes);
        SlotHeader header;
        std::memcpy(&header, bytes.data(), sizeof(header));
        if (header.magic != magic || header.format != format || header.generation % 2 != slot ||
            header.length > bytes.size() - sizeof(header))
            continue;
        const std::string_view payload = bytes.substr(sizeof(header), header.length);
        if (checksum(header, payload) != header.checksum)
            continue;
        if (best.condition == StateCondition::valid && header.generation < best.generation)
            continue;
        if (std::optional<DurableState> state = decode_state(payload))
            best = {StateCondition::valid, header.generation, std::move(*state)};
    }
    return best;
}

Contents read_contents(const std::string &path) {
    const Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (fd.get() < 0 && errno == ENOENT)
        return {};
    if (fd.get() < 0)
        fail("open file", path);
    return parse(read_all(fd.get(), path));
}

void use_directory(const std::string &directory) {
    if (::mkdir(directory.c_str(), 0700) == 0) {
        if (!sync_directory(parent_of(directory)))
            fail("fsync directory", parent_of(directory));
    } else if (errno != EEXIST) {
        fail("create state directory", directory);
    }
    struct stat info{};
    if (::stat(directory.c_str(), &info) != 0)
        fail("look at state directory", directory);
    if (!S_ISDIR(info.st_mode)) {
        errno = ENOTDIR;
        fail("use state directory", directory);
    }
    // Who may write here may forge a vote.
    if (info.st_uid != ::geteuid() || (info.st_mode & 022) != 0) {
        errno = EPERM;
        fail("trust state directory (it must belong to the server's user, with mode 0700)", directory);
    }
}

int take_lock(const std::string &directory) {
    const std::string path = directory + "/lock";
    Fd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    if (fd.get() < 0)
        fail("open lock file", path);
    if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
        if (errno == EWOULDBLOCK)
            throw std::runtime_error("state directory \"" + directory + "\" is in use by another process");
        fail("lock file", path);
    }
    return fd.release();
}

// The whole file with its first slot, durable under its own name before it gets the real one.
int create_file(const std::string &directory, const std::string &slot, std::uint64_t generation) {
    const std::string temporary = directory + "/state.new";
    Fd fd(::open(temporary.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
    std::string bytes(file_bytes, '\0'); // written out, so that later saves never allocate blocks
    bytes.replace((generation % 2) * slot_bytes, slot.size(), slot);
    if (fd.get() < 0 || !write_at(fd.get(), bytes, 0) || ::fsync(fd.get()) != 0)
        return -1;
    if (::rename(temporary.c_str(), (directory + "/state").c_str()) != 0 || !sync_directory(directory))
        return -1;
    return fd.release();
}

} // namespace

StateFile::StateFile(const std::string &directory) : directory_(directory) {
    use_directory(directory_);
    Fd lock(take_lock(directory_));
    load();
    lock_fd_ = lock.release();
}

StateFile::~StateFile() {
    if (fd_ >= 0)
        ::close(fd_);
    if (lock_fd_ >= 0)
        ::close(lock_fd_);
}

void StateFile::load() {
    const std::string path = directory_ + "/state";
    Contents contents = read_contents(path);
    condition_ = contents.condition;
    generation_ = contents.generation;
    loaded_ = std::move(contents.state);
    if (condition_ != StateCondition::valid)
        return;
    fd_ = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
    if (fd_ < 0)
        fail("open file", path);
}

void StateFile::set_aside() {
    const std::string path = directory_ + "/state";
    if (::rename(path.c_str(), (path + ".corrupt").c_str()) != 0 && errno != ENOENT)
        fail("rename file", path);
    if (!sync_directory(directory_))
        fail("fsync directory", directory_);
    if (fd_ >= 0)
        ::close(std::exchange(fd_, -1));
    condition_ = StateCondition::missing;
    generation_ = 0;
    loaded_ = {};
}

bool StateFile::save(const DurableState &state) {
    // A corrupt file is evidence and possibly a vote: only set_aside() may clear the place.
    if (condition_ == StateCondition::corrupt)
        return false;
    const std::uint64_t generation = generation_ + 1;
    const std::string slot = make_slot(state, generation);
    if (slot.empty())
        return false;
    if (fd_ < 0) {
        fd_ = create_file(directory_, slot, generation);
        if (fd_ < 0)
            return false;
    } else if (!write_at(fd_, slot, static_cast<off_t>((generation % 2) * slot_bytes)) || ::fdatasync(fd_) != 0) {
        // The slot holds anything now; the next save writes the same one again.
        return false;
    }
    generation_ = generation;
    condition_ = StateCondition::valid;
    return true;
}

StateView read_state(const std::string &directory) {
    const std::string path = directory + "/state";
    Contents contents = read_contents(path);
    // A holder of the lock may write both slots while this reads; a second look settles it.
    if (contents.condition == StateCondition::corrupt)
        contents = read_contents(path);
    return {contents.condition, std::move(contents.state)};
}

} // namespace pg_ha
