// SPDX-License-Identifier: PostgreSQL
//
// The witness's configuration file: "key = value" lines, one [section] per cluster.  Keys before the
// first section hold for all of them; without a section the file describes one cluster.
//
// Decides what is a usable configuration and says everything that is wrong at once.  Must never
// guess: an unknown key, a key given twice or a number with rubbish behind it is an error.
#pragma once

#include "core/settings.hpp"

#include <istream>
#include <stdexcept>
#include <string>
#include <vector>

namespace pg_ha {

// What the file says about one cluster.
struct WitnessSettings {
    std::string section; // empty: the file has no sections
    std::string node_name;
    std::vector<std::string> listen_addresses{"*"};
    std::uint16_t port = 7432;
    std::string advertise_address;
    std::vector<Endpoint> peers;
    std::string state_directory;
    std::string secret_file;
    Duration heartbeat_interval = std::chrono::milliseconds(200);
    Duration lease_duration = std::chrono::seconds(2);
    bool trace = false;

    bool operator==(const WitnessSettings &) const = default;
};

// One problem per line, each with a hint.
class SettingsError : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

std::vector<WitnessSettings> parse_settings(std::istream &in); // throws SettingsError
std::vector<WitnessSettings> read_settings(const std::string &path); // and if the file can't be read

// For the core; cluster is the secret's.
Settings core_settings(const WitnessSettings &settings, ClusterId cluster);

// The settings of a running witness that a reload may change, taken over into `settings`.  The rest:
// the names of those that differ, which need a restart.
std::vector<std::string> take_reloadable(WitnessSettings &settings, const WitnessSettings &fresh);

} // namespace pg_ha
