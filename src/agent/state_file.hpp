// SPDX-License-Identifier: PostgreSQL
//
// Term, vote and configuration on disk: one file with two checksummed slots in the state
// directory, which lies outside PGDATA because pg_rewind overwrites and pg_basebackup clones what
// lies inside.  Writes go to the older slot (pwrite + fdatasync), so a torn write leaves the
// previous state readable.  A flock held while open keeps a second process out.
//
// Missing or corrupt is never "first boot with a vote": the caller starts with a new identity,
// which does not vote until the primary admits it.
#pragma once

#include "ports.hpp"

#include <string>

namespace pg_ha {

enum class StateCondition { valid, missing, corrupt };

class StateFile final : public StateStore {
public:
    // Creates `directory` (0700) if missing.  Throws std::system_error with the path in its text if
    // the directory can't be used, and std::runtime_error if another process holds it.
    explicit StateFile(const std::string &directory);
    ~StateFile() override;
    StateFile(const StateFile &) = delete;
    StateFile &operator=(const StateFile &) = delete;

    StateCondition condition() const { return condition_; }
    const DurableState &loaded() const { return loaded_; } // when valid
    // Keeps the unreadable file beside as state.corrupt and starts empty.
    void set_aside();
    bool save(const DurableState &state) override;

private:
    void load();

    std::string directory_;
    int fd_ = -1;
    int lock_fd_ = -1;
    std::uint64_t generation_ = 0;
    StateCondition condition_ = StateCondition::missing;
    DurableState loaded_;
};

// Read without locking or creating anything (for the start gate, before workers run).
struct StateView { StateCondition condition; DurableState state; };
StateView read_state(const std::string &directory); // throws std::system_error if unreadable

} // namespace pg_ha
