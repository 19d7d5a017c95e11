// SPDX-License-Identifier: PostgreSQL
//
// The file `state`: two slots of 64 KiB.  A slot is a 32-byte header (magic, format, number of the save,
// length, CRC-32C) and an encoded DurableState.  Save g lives in slot g mod 2, so a write always hits the
// older slot, and the newest slot that passes every check is the state.
//
// One bad slot beside a good one is a write that was cut off: save() had not returned, so nobody was
// told.  Two bad slots are no state at all ("corrupt").  The file appears by rename with its first
// slot already in it: a crash while it is made leaves "missing", never "corrupt".
//
// Must never answer true before fdatasync did, and never write what it could not read again.
#include "state_file.hpp"

#include "codec.hpp"
#include "files.hpp"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <stdexcept>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

namespace pg_ha {

namespace {

constexpr std::size_t slot_bytes = 65536;
constexpr std::size_t file_bytes = 2 * slot_bytes;
constexpr std::uint32_t magic = 0x41684770; // "pGhA"
constexpr std::uint32_t format = 2;

// Little-endian on every machine that PostgreSQL 15 and this library are built for; a file from
// another byte order fails the magic and is "corrupt", which is safe.
struct SlotHeader {
    std::uint32_t magic = 0;
    std::uint32_t format = 0;
    std::uint64_t saves = 0;
    std::uint32_t length = 0;   // of the payload
    std::uint32_t checksum = 0; // CRC-32C of header (checksum 0) and payload
    std::uint64_t reserved = 0;
};
static_assert(sizeof(SlotHeader) == 32);
constexpr std::size_t payload_bytes_max = slot_bytes - sizeof(SlotHeader);

std::uint32_t checksum(SlotHeader header, std::string_view payload) {
    header.checksum = 0;
    return crc32c(crc32c(0, &header, sizeof(header)), payload.data(), payload.size());
}

// A slot's bytes; empty if the state would not come back as it is.
std::string make_slot(const DurableState &state) {
    const std::string payload = encode(state);
    if (payload.size() > payload_bytes_max || decode_state(payload) != state)
        return {};
    SlotHeader header{magic, format, state.saves, static_cast<std::uint32_t>(payload.size()), 0, 0};
    header.checksum = checksum(header, payload);
    std::string slot(sizeof(header) + payload.size(), '\0');
    std::memcpy(slot.data(), &header, sizeof(header));
    std::memcpy(slot.data() + sizeof(header), payload.data(), payload.size());
    return slot;
}

struct Contents {
    StateCondition condition = StateCondition::missing;
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
        if (header.magic != magic || header.format != format || header.saves % 2 != slot ||
            header.length > bytes.size() - sizeof(header))
            continue;
        const std::string_view payload = bytes.substr(sizeof(header), header.length);
        if (checksum(header, payload) != header.checksum)
            continue;
        if (best.condition == StateCondition::valid && header.saves < best.state.saves)
            continue;
        if (std::optional<DurableState> state = decode_state(payload); state && state->saves == header.saves)
            best = {StateCondition::valid, std::move(*state)};
    }
    return best;
}

Contents read_contents(const std::string &path) {
    const Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (fd.get() < 0 && errno == ENOENT)
        return {};
    if (fd.get() < 0)
        fail("open file", path);
    return parse(read_up_to(fd.get(), file_bytes, path));
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

// The whole file with its first slot, written out, so that later saves never allocate blocks.
int create_file(const std::string &path, const std::string &slot, std::uint64_t saves) {
    std::string bytes(file_bytes, '\0');
    bytes.replace((saves % 2) * slot_bytes, slot.size(), slot);
    return create_durably(path, bytes);
}

} // namespace

StateFile::StateFile(const std::string &directory, const std::string &echo) : directory_(directory), echo_path_(echo) {
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
    loaded_ = std::move(contents.state);
    if (condition_ == StateCondition::valid && !echo_path_.empty()) {
        const std::optional<Echo> echo = read_echo(echo_path_);
        condition_ = judge(loaded_, echo);
        echo_behind_ = !echo || echo->saves != loaded_.saves;
    }
    if (condition_ != StateCondition::valid)
        return;
    saves_ = loaded_.saves;
    fd_ = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
    if (fd_ < 0)
        fail("open file", path);
}

void StateFile::set_aside() {
    const std::string path = directory_ + "/state";
    if (::rename(path.c_str(), (path + ".unusable").c_str()) != 0 && errno != ENOENT)
        fail("rename file", path);
    if (!sync_directory(directory_))
        fail("fsync directory", directory_);
    if (fd_ >= 0)
        ::close(std::exchange(fd_, -1));
    condition_ = StateCondition::missing;
    saves_ = 0;
    echo_behind_ = false;
    loaded_ = {};
}

bool StateFile::echo(const DurableState &state) {
    return echo_path_.empty() || write_echo(echo_path_, {state.self, state.saves});
}

bool StateFile::save(const DurableState &state) {
    // An unusable file is evidence and possibly a vote: only set_aside() may clear the place.
    if (condition_ != StateCondition::valid && condition_ != StateCondition::missing)
        return false;
    // The two may never be two saves apart: that is the mark of an old copy.
    const std::string slot = make_slot(state);
    if (slot.empty() || state.saves != saves_ + 1 || (echo_behind_ && !echo(loaded_)))
        return false;
    echo_behind_ = false;
    // A slot whose write fails holds anything; the next save writes the same one again.
    if (fd_ < 0)
        fd_ = create_file(directory_ + "/state", slot, state.saves);
    else if (!write_at(fd_, slot, static_cast<off_t>((state.saves % 2) * slot_bytes)) || ::fdatasync(fd_) != 0)
        return false;
    if (fd_ < 0 || !echo(state))
        return false;
    saves_ = state.saves;
    condition_ = StateCondition::valid;
    return true;
}

StateView read_state(const std::string &directory, const std::string &echo) {
    const auto look = [&] {
        // The echo first: a holder of the lock who saves meanwhile is at most ahead of it.
        const std::optional<Echo> seen = echo.empty() ? std::nullopt : read_echo(echo);
        Contents contents = read_contents(directory + "/state");
        if (contents.condition == StateCondition::valid && !echo.empty())
            contents.condition = judge(contents.state, seen);
        return StateView{contents.condition, std::move(contents.state)};
    };
    StateView view = look();
    // Such a holder may write both slots, and the echo, while this reads; a second look settles it.
    return view.condition == StateCondition::valid || view.condition == StateCondition::missing ? view : look();
}

} // namespace pg_ha
