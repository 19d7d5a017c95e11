// SPDX-License-Identifier: PostgreSQL
//
// The file is one block of 32 bytes, far below a sector, written in place: it is the old one or the new
// one.  Should a disk tear it all the same, its checksum fails, and the node merely loses its vote.
#include "state_echo.hpp"

#include "core/planted.hpp"
#include "files.hpp"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <unistd.h>

namespace pg_ha {

namespace {

constexpr std::uint32_t magic = 0x45684770; // "pGhE"
constexpr std::uint32_t format = 1;

struct Block {
    std::uint32_t magic = 0;
    std::uint32_t format = 0;
    std::uint64_t node = 0;
    std::uint64_t saves = 0;
    std::uint32_t reserved = 0;
    std::uint32_t checksum = 0; // CRC-32C of what stands before it
};
static_assert(sizeof(Block) == 32);

std::uint32_t checksum(const Block &block) { return crc32c(0, &block, offsetof(Block, checksum)); }

} // namespace

const char *describe(StateCondition condition) {
    switch (condition) {
    case StateCondition::valid: return "it is valid";
    case StateCondition::missing: return "there is none";
    case StateCondition::corrupt: return "its checksum or its form is wrong";
    case StateCondition::foreign_data: return "the data directory was cloned, restored or rewound since it was saved";
    case StateCondition::old_state: return "it is an old copy: the data directory has seen a newer one";
    case StateCondition::old_data: return "the data directory is an old copy: its WAL may lack what this node confirmed";
    }
    return "unknown";
}

const char *advice(StateCondition condition) {
    switch (condition) {
    case StateCondition::old_state:
        return "Never restore a state directory; remove it, and the server joins anew.";
    case StateCondition::old_data:
    case StateCondition::foreign_data:
        return "Nothing needs to be done if the data directory was replaced on purpose. Remove the state directory with "
               "it next time.";
    default:
        return "If this happens at each start, the state directory does not survive restarts.";
    }
}

StateCondition judge(const DurableState &state, const std::optional<Echo> &echo) {
    if (planted(Bug::echo_ignored))
        return StateCondition::valid;
    if (!echo || echo->node != state.self)
        return StateCondition::foreign_data;
    if (state.saves < echo->saves)
        return StateCondition::old_state;
    return state.saves > echo->saves + 1 ? StateCondition::old_data : StateCondition::valid;
}

std::optional<Echo> read_echo(const std::string &path) {
    const Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (fd.get() < 0 && errno == ENOENT)
        return std::nullopt;
    if (fd.get() < 0)
        fail("open file", path);
    const std::string bytes = read_up_to(fd.get(), sizeof(Block), path);
    Block block;
    if (bytes.size() != sizeof(block))
        return std::nullopt;
    std::memcpy(&block, bytes.data(), sizeof(block));
    if (block.magic != magic || block.format != format || block.checksum != checksum(block))
        return std::nullopt;
    return Echo{static_cast<NodeId>(block.node), block.saves};
}

bool write_echo(const std::string &path, const Echo &echo) {
    Block block{magic, format, raw(echo.node), echo.saves, 0, 0};
    block.checksum = checksum(block);
    const std::string_view bytes(reinterpret_cast<const char *>(&block), sizeof(block));
    const Fd fd(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
    if (fd.get() >= 0)
        return write_at(fd.get(), bytes, 0) && ::fdatasync(fd.get()) == 0;
    return errno == ENOENT && Fd(create_durably(path, bytes)).get() >= 0;
}

} // namespace pg_ha
