// SPDX-License-Identifier: PostgreSQL
//
// Cut frames: collect the rest of the length, judge it, then collect the rest of the payload.
#include "framing.hpp"

#include <algorithm>

namespace pg_ha {

void append_frame(std::string &out, std::string_view payload) {
    const auto length = static_cast<std::uint32_t>(payload.size());
    const char header[frame_header_bytes] = {static_cast<char>(length >> 24), static_cast<char>(length >> 16),
                                             static_cast<char>(length >> 8), static_cast<char>(length)};
    out.append(header, sizeof(header));
    out.append(payload);
}

std::uint32_t frame_length(const char *header) {
    const auto byte = [header](int i) { return static_cast<std::uint32_t>(static_cast<unsigned char>(header[i])); };
    return byte(0) << 24 | byte(1) << 16 | byte(2) << 8 | byte(3);
}

// False: the length is out of range.
bool FrameReader::complete_partial(std::string_view &bytes) {
    const auto take = [this, &bytes](std::size_t size_wanted) {
        const std::size_t size = std::min(size_wanted - partial_.size(), bytes.size());
        partial_.append(bytes.substr(0, size));
        bytes.remove_prefix(size);
    };
    if (partial_.size() < frame_header_bytes)
        take(frame_header_bytes);
    if (partial_.size() < frame_header_bytes)
        return true;
    const std::size_t length = frame_length(partial_.data());
    if (length == 0 || length > limit_)
        return false;
    take(frame_header_bytes + length);
    return true;
}

bool FrameReader::partial_is_whole() const {
    return partial_.size() >= frame_header_bytes &&
           partial_.size() == frame_header_bytes + frame_length(partial_.data());
}

} // namespace pg_ha
