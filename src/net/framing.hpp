// SPDX-License-Identifier: PostgreSQL
//
// Frames on a byte stream: 4 bytes of length (big-endian), then that many bytes, 1 to the limit.
// The length is judged before a byte is stored for it, so nobody can make us allocate more than one
// frame per connection.  Bytes of whole frames are passed on where they lie; only a cut frame is copied.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace pg_ha {

inline constexpr std::size_t frame_header_bytes = 4;

void append_frame(std::string &out, std::string_view payload);
std::uint32_t frame_length(const char *header);

class FrameReader {
public:
    void set_limit(std::size_t payload_bytes_max) { limit_ = payload_bytes_max; }
    bool has_partial() const { return !partial_.empty(); }

    enum class Result { ok, stopped, bad_length };

    // Calls sink(payload) for every complete frame; sink returns false to stop (the reader may be gone then).
    template <typename Sink> Result feed(std::string_view bytes, Sink &&sink) {
        if (!partial_.empty()) {
            if (!complete_partial(bytes))
                return Result::bad_length;
            if (!partial_is_whole())
                return Result::ok;
            const std::string frame = std::move(partial_);
            partial_.clear();
            if (!sink(std::string_view(frame).substr(frame_header_bytes)))
                return Result::stopped;
        }
        while (bytes.size() >= frame_header_bytes) {
            const std::size_t length = frame_length(bytes.data());
            if (length == 0 || length > limit_)
                return Result::bad_length;
            if (bytes.size() < frame_header_bytes + length)
                break;
            const std::string_view payload = bytes.substr(frame_header_bytes, length);
            bytes.remove_prefix(frame_header_bytes + length);
            if (!sink(payload))
                return Result::stopped;
        }
        partial_.assign(bytes);
        return Result::ok;
    }

private:
    bool complete_partial(std::string_view &bytes);
    bool partial_is_whole() const;

    std::string partial_;
    std::size_t limit_ = 0;
};

} // namespace pg_ha
