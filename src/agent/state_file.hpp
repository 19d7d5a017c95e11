// SPDX-License-Identifier: PostgreSQL
//
// Term, vote and configuration on disk: one file with two checksummed slots in the state
// directory, which lies outside PGDATA because pg_rewind overwrites and pg_basebackup clones what
// lies inside.  Writes go to the older slot (pwrite + fdatasync), so a torn write leaves the
// previous state readable.  A flock held while open keeps a second process out.
//
// Each save is echoed into the data directory before it counts (state_echo.hpp).  Missing, corrupt or
// not matching its echo is never "first boot with a vote": the caller starts with a new identity, which
// does not vote until the primary admits it.
#pragma once

#include "ports.hpp"
#include "state_echo.hpp"

#include <string>

namespace pg_ha {

class StateFile final : public StateStore {
public:
    // Creates `directory` (0700) if missing.  echo: the file in the data directory; empty for a witness,
    // which has none.  Throws std::system_error with the path in its text if something can't be used, and
    // std::runtime_error if another process holds the directory.
    explicit StateFile(const std::string &directory, const std::string &echo = "");
    ~StateFile() override;
    StateFile(const StateFile &) = delete;
    StateFile &operator=(const StateFile &) = delete;

    StateCondition condition() const { return condition_; }
    const DurableState &loaded() const { return loaded_; } // when valid
    // Keeps the unusable file beside as state.unusable and starts empty.
    void set_aside();
    // state.saves has to be one more than that of the last successful save.
    bool save(const DurableState &state) override;

private:
    void load();
    bool echo(const DurableState &state);

    std::string directory_;
    std::string echo_path_;
    int fd_ = -1;
    int lock_fd_ = -1;
    std::uint64_t saves_ = 0;  // of the newest state that counts
    bool echo_behind_ = false; // a crash came between that state and its echo
    StateCondition condition_ = StateCondition::missing;
    DurableState loaded_;
};

// Read without locking or creating anything (for the start gate, before workers run).
struct StateView { StateCondition condition; DurableState state; };
// Throws std::system_error if unreadable.
StateView read_state(const std::string &directory, const std::string &echo = "");

} // namespace pg_ha
