// SPDX-License-Identifier: PostgreSQL
//
// The new server's settings: where each comes from, whether it fits the cluster, and how it is written.
// What the user asks for goes into postgresql.auto.conf of the new data directory, which PostgreSQL reads
// last wherever postgresql.conf lies; what is right already is not written a second time.
#pragma once

#include "clone.hpp"
#include "core/configuration.hpp"
#include "session.hpp"

#include <optional>
#include <vector>

namespace pg_ha::cli {

// The text of postgresql.auto.conf with these settings, each once, and without what pg_ha manages itself.
std::string edit_settings(const std::string &text, const std::map<std::string, std::string> &set);

struct MemberInfo {
    std::string name;
    bool data = true; // else a witness
    bool primary = false, streaming = false;
    bool gone = false; // unreachable: its name and its addresses may be taken over
    Endpoint peer, postgres;
};

// A new member's identity must not be that of another.  Throws Failure.
struct NewNode {
    std::string name;
    Endpoint peer, postgres;
};
void check_identity(const NewNode &node, const std::vector<MemberInfo> &members);

// The list for pg_ha.peers, if the one that the server would have lacks somebody; else nothing.
std::optional<std::string> peers_to_write(const std::string &present, const NewNode &node,
                                          const std::vector<MemberInfo> &members);

// Debian's configuration file for a data directory of its layout; empty for another.
std::string debian_config_file(const std::string &data_directory);
std::string start_command(const std::string &data_directory, const std::string &config_file);
std::string program_directory(); // ours, and that of PostgreSQL's programs

// What the new server will have: from the command line, from its own configuration file outside the data
// directory, or else from the source's, which the copy brings along.
class NewSettings {
public:
    NewSettings(const CloneOptions &options, Session &source);

    std::optional<std::string> get(const std::string &name); // nothing: not set, or not to be seen by this role
    bool from_source() const { return config_file_.empty(); }
    const std::string &config_file() const { return config_file_; }
    std::map<std::string, std::string> to_write(); // of those that were asked for, without what the file says already
    NewNode node();
    // Those of the cluster's rules that a server checks at its start.  Throws Failure.
    void check(Session &source);

private:
    const CloneOptions &options_;
    std::string config_file_;
    Session &source_;
};

// What a configuration file says: postgres -C.  Nothing if it is not set there.
std::optional<std::string> read_setting(const std::string &config_file, const std::string &name);

} // namespace pg_ha::cli
