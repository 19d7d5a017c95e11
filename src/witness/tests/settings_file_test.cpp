// SPDX-License-Identifier: PostgreSQL
//
// The configuration file: what is taken, what is refused, and that a refusal names its key.
#include "witness/settings_file.hpp"

#include <gtest/gtest.h>

#include <sstream>

using namespace pg_ha;
using std::chrono::milliseconds;
using std::chrono::seconds;

namespace {

const std::string complete = "node_name = w\n"
                             "listen_addresses = 10.0.0.3\n"
                             "peers = 10.0.0.1, 10.0.0.2:7000\n"
                             "state_directory = /state\n"
                             "secret_file = /secret\n";

std::vector<WitnessSettings> parse(const std::string &text) {
    std::istringstream in(text);
    return parse_settings(in);
}

std::string error_of(const std::string &text) {
    try {
        parse(text);
    } catch (const SettingsError &error) {
        return error.what();
    }
    return "";
}

} // namespace

TEST(SettingsFile, AFileWithoutSectionsIsOneCluster) {
    const auto all = parse("# a comment\n" + complete + "lease_duration = 3 s # behind a value\nheartbeat_interval = 100\ntrace = on\n");
    ASSERT_EQ(all.size(), 1u);
    EXPECT_EQ(all[0].section, "");
    EXPECT_EQ(all[0].advertise_address, "10.0.0.3") << "the address it listens on";
    EXPECT_EQ(all[0].peers, (std::vector<Endpoint>{{"10.0.0.1", 7432}, {"10.0.0.2", 7000}}));
    EXPECT_EQ(all[0].lease_duration, seconds(3));
    EXPECT_EQ(all[0].heartbeat_interval, milliseconds(100));
    const Settings core = core_settings(all[0], {1, 2});
    EXPECT_EQ(core.kind, MemberKind::witness);
    EXPECT_EQ(core.priority, 0);
    EXPECT_EQ(core.peer, (Endpoint{"10.0.0.3", 7432}));
    EXPECT_EQ(core.system_identifier, 0u);
    EXPECT_TRUE(core.tracing);
}

TEST(SettingsFile, SectionsAreClustersAndInheritWhatStandsAboveThem) {
    const auto all = parse("node_name = w\nlisten_addresses = 10.0.0.3\npeers = 10.0.0.1\nsecret_file = /a\n"
                           "[east]\nstate_directory = /east\n[west]\nstate_directory = /west\nport = 7433\nsecret_file = /b\n");
    ASSERT_EQ(all.size(), 2u);
    EXPECT_EQ(all[0].section, "east");
    EXPECT_EQ(all[0].port, 7432);
    EXPECT_EQ(all[0].secret_file, "/a");
    EXPECT_EQ(all[1].state_directory, "/west");
    EXPECT_EQ(all[1].port, 7433);
    EXPECT_EQ(all[1].secret_file, "/b");
    EXPECT_EQ(all[1].node_name, "w");
}

TEST(SettingsFile, ClustersMayNotShareADirectoryOrAPort) {
    const std::string twice = complete + "[a]\ntrace = on\n[b]\ntrace = on\n";
    EXPECT_NE(error_of(twice).find("state_directory \"/state\" is used twice"), std::string::npos) << error_of(twice);
    EXPECT_NE(error_of(twice).find("port 7432 is used twice"), std::string::npos);
}

TEST(SettingsFile, EveryMistakeIsNamedWithAHint) {
    const std::map<std::string, std::string> mistakes{
        {"node_name = W", "value \"W\" of \"node_name\""},
        {"port = 0", "value \"0\" of \"port\""},
        {"port = 65536", "\"port\""},
        {"port = 74x", "\"port\""},
        {"port =", "\"port\""},
        {"lease_duration = 2 hours", "\"lease_duration\""},
        {"lease_duration = -2s", "\"lease_duration\""},
        {"lease_duration = 100ms", "lease duration is out of range"},
        {"heartbeat_interval = 1s", "heartbeat interval is too long for the lease"},
        {"peers = a:b", "\"peers\""},
        {"peers = ,", "\"peers\""},
        {"trace = yes", "\"trace\""},
        {"state_directory = here", "\"state_directory\""},
        {"secret_file = secret", "\"secret_file\""},
        {"advertise_address = a:7432", "\"advertise_address\""},
        {"advertise_adress = a", "unknown key \"advertise_adress\""},
        {"[a b]\nport = 7", "unusable section name"},
        {"no equals sign", ""},
    };
    for (const auto &[line, message] : mistakes) {
        std::string rest = complete; // without the good line of the same key
        const std::string key = line.substr(0, line.find(' ')) + " ";
        if (const std::size_t at = rest.find("\n" + key); at != std::string::npos)
            rest.erase(at + 1, rest.find('\n', at + 1) - at);
        else if (rest.starts_with(key))
            rest.erase(0, rest.find('\n') + 1);
        const std::string error = error_of(rest + line + "\n");
        EXPECT_NE(error.find(message), std::string::npos) << line << ": " << error;
        EXPECT_NE(error.find("HINT: "), std::string::npos) << line << ": " << error;
    }
}

TEST(SettingsFile, WhatIsMissingIsSaidAtOnce) {
    const std::string error = error_of("trace = off\n");
    for (const char *key : {"node_name", "peers", "state_directory", "secret_file", "advertise_address"})
        EXPECT_NE(error.find("key \"" + std::string(key) + "\" is missing"), std::string::npos) << key << "\n" << error;
    EXPECT_NE(error_of(complete + "port = 7\nport = 8\n").find("given twice"), std::string::npos);
    EXPECT_NE(error_of(complete + "[west]\nport = 7\n[west]\nport = 8\n").find("given twice"), std::string::npos);
}

TEST(SettingsFile, AFileThatCannotBeReadIsAnErrorAndNoEmptyConfiguration) {
    for (const char *path : {"/nonexistent/file", "/", "/dev/null"})
        EXPECT_THROW(read_settings(path), SettingsError) << path;
}

TEST(SettingsFile, AReloadTakesWhatMayChangeAndNamesTheRest) {
    WitnessSettings running = parse(complete)[0];
    WitnessSettings fresh = running;
    fresh.peers = {{"a", 1}};
    fresh.lease_duration = seconds(5);
    fresh.port = 7000;
    fresh.node_name = "other";
    EXPECT_EQ(take_reloadable(running, fresh), (std::vector<std::string>{"node_name", "port"}));
    EXPECT_EQ(running.peers, fresh.peers);
    EXPECT_EQ(running.lease_duration, seconds(5));
    EXPECT_EQ(running.port, 7432);
    EXPECT_EQ(running.node_name, "w");
}

TEST(SettingsFile, TheExampleIsAGoodConfiguration) {
    EXPECT_EQ(read_settings(PG_HA_SOURCE_DIR "/src/witness/pg_ha_witness.conf").size(), 1u);
}
