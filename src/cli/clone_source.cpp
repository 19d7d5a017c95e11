// SPDX-License-Identifier: PostgreSQL
#include "clone_source.hpp"

#include "failure.hpp"

#include <algorithm>
#include <cstdlib>
#include <iostream>

namespace pg_ha::cli {

namespace {

constexpr int walsenders_needed = 2; // of pg_basebackup: one for the files, one for the WAL

std::uint64_t number(const std::string &text) { return std::strtoull(text.c_str(), nullptr, 10); }
Endpoint endpoint(const Answer &answer, std::size_t row, const char *host, const char *port) {
    return {answer.text(row, host), static_cast<std::uint16_t>(number(answer.text(row, port)))};
}

std::vector<MemberInfo> ask_members(Session &session) {
    const auto schema = session.schema();
    if (!schema)
        return {};
    const auto cluster = session.try_ask("SELECT role, reason FROM " + *schema + "ha_cluster");
    if (cluster && cluster->text(0, "role") == "passive")
        throw Failure(session.server() + " is not a member of a cluster: " + cluster->text(0, "reason"));
    const auto answer = session.try_ask("SELECT * FROM " + *schema + "ha_members ORDER BY name");
    return answer ? members_of(*answer) : std::vector<MemberInfo>{};
}

// As much as every role may know: the source itself.
MemberInfo source_as_member(Session &session) {
    const auto setting = [&session](const char *name) {
        return session.value("SELECT pg_catalog.current_setting($1)", {name});
    };
    const auto port_of = [&setting](const char *name) { return static_cast<std::uint16_t>(number(setting(name))); };
    MemberInfo member;
    member.name = setting("pg_ha.node_name");
    member.primary = session.value("SELECT pg_catalog.pg_is_in_recovery()") == "f";
    member.streaming = !member.primary;
    member.peer = {setting("pg_ha.advertise_address"), port_of("pg_ha.port")};
    if (member.peer.host.empty())
        member.peer.host = session.conninfo().get("host");
    member.postgres = {member.peer.host, port_of("port")};
    return member;
}

const MemberInfo &find_member(const std::vector<MemberInfo> &members, const std::string &name) {
    if (members.empty())
        throw Failure("the role may not read ha_members, so member \"" + name + "\" cannot be found",
                      "GRANT pg_monitor to the role and CREATE EXTENSION pg_ha in that database, or name the server in --from.");
    const auto found = std::find_if(members.begin(), members.end(), [&](const MemberInfo &m) { return m.name == name; });
    if (found == members.end() || !found->data)
        throw Failure("the cluster has no server \"" + name + "\"", "\"pg_hactl status\" shows its members.");
    return *found;
}

// Its copy would be that of a server which is on its way out of the cluster, or into it.
void check_follows(const CloneSource &source, const std::string &name) {
    for (const MemberInfo &member : source.members)
        if (member.name == name && !member.primary && !member.streaming)
            throw Failure("member \"" + name + "\" does not stream from the primary",
                          "Clone from another member; its reason in \"pg_hactl status\" says what is wrong with it.");
}

void check_server(Session &session, int local_version) {
    if (session.version() / 10000 != local_version / 10000)
        throw Failure(session.server() + " is PostgreSQL " + std::to_string(session.version() / 10000) + " and this is " +
                          std::to_string(local_version / 10000),
                      "Install the same major version here.");
    // A name in postgresql.conf that no library has claimed is not in this view.
    if (session.value("SELECT count(*) FROM pg_catalog.pg_settings WHERE name = 'pg_ha.port'") != "1")
        throw Failure(session.server() + " has not loaded pg_ha", "Clone from a member of the cluster.");
    if (session.value("SELECT pg_catalog.current_setting('wal_level')") == "minimal")
        throw Failure("wal_level of " + session.server() + " is minimal", "Set it to replica there, and restart.");
    if (session.value("SELECT pg_catalog.pg_is_in_recovery()") == "t" &&
        session.value("SELECT pg_catalog.current_setting('full_page_writes')") == "off")
        throw Failure("a standby cannot be copied while full_page_writes is off", "Set it to on, or clone from the primary.");
}

void ask_sizes(CloneSource &source) {
    source.bytes = number(source.session->value(
        "SELECT coalesce(sum(pg_catalog.pg_database_size(oid)), 0) FROM pg_catalog.pg_database "
        "WHERE pg_catalog.has_database_privilege(oid, 'CONNECT') OR pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE')"));
    const Answer found = source.session->ask("SELECT oid, spcname, pg_catalog.pg_tablespace_location(oid) AS location FROM "
                                             "pg_catalog.pg_tablespace WHERE pg_catalog.pg_tablespace_location(oid) LIKE '/%'");
    for (std::size_t row = 0; row < found.rows(); row++) {
        Tablespace tablespace{found.text(row, "spcname"), found.text(row, "location")};
        const auto size = source.session->try_ask("SELECT pg_catalog.pg_tablespace_size($1::oid) AS size", {found.text(row, "oid")});
        tablespace.size_known = size.has_value();
        tablespace.bytes = size ? number(size->text(0, "size")) : 0;
        source.tablespaces.push_back(tablespace);
    }
}

} // namespace

std::vector<MemberInfo> members_of(const Answer &a) {
    std::vector<MemberInfo> members;
    for (std::size_t row = 0; row < a.rows(); row++)
        members.push_back({a.text(row, "name"), a.text(row, "kind") != "witness", a.is_true(row, "is_primary"),
                           a.is_true(row, "streaming"), a.text(row, "liveness") == "unreachable",
                           endpoint(a, row, "peer_host", "peer_port"),
                           endpoint(a, row, "postgres_host", "postgres_port")});
    return members;
}

CloneSource open_source(const CloneOptions &options, int local_version) {
    CloneSource source;
    source.session = std::make_unique<Session>(options.from);
    source.members = ask_members(*source.session);
    if (!options.source.empty()) {
        const MemberInfo member = find_member(source.members, options.source);
        Conninfo conninfo = options.from;
        conninfo.set_server(member.postgres.host, std::to_string(member.postgres.port));
        source.session = std::make_unique<Session>(conninfo);
    }
    check_server(*source.session, local_version);
    if (source.members.empty()) {
        std::cerr << "WARNING:  the role may not read ha_members in this database, so the new server is compared with "
                  << source.session->server() << " only\n";
        source.members = {source_as_member(*source.session)};
    }
    const std::string name = source.session->value("SELECT pg_catalog.current_setting('pg_ha.node_name')");
    if (!options.source.empty() && name != options.source)
        throw Failure("at " + source.session->server() + " is \"" + name + "\", not \"" + options.source + "\"");
    check_follows(source, name);
    Session replication(source.session->conninfo(), Session::Kind::replication);
    const Answer system = replication.command("IDENTIFY_SYSTEM");
    source.system_identifier = system.text(0, "systemid");
    source.timeline = system.text(0, "timeline");
    ask_sizes(source);
    return source;
}

void check_room_on_source(CloneSource &source) {
    const auto free = [&source](const char *setting, const char *view) {
        return std::atoll(source.session->value(std::string("SELECT pg_catalog.current_setting('") + setting +
                                                "')::bigint - (SELECT count(*) FROM pg_catalog." + view + ")").c_str());
    };
    if (const long long left = free("max_wal_senders", "pg_stat_replication"); left < walsenders_needed)
        throw Failure(source.session->server() + " has " + std::to_string(std::max(left, 0LL)) +
                          " WAL senders left, and a clone needs " + std::to_string(walsenders_needed),
                      "Raise max_wal_senders there, or clone from another member with --source.");
    if (free("max_replication_slots", "pg_replication_slots") < 1)
        throw Failure(source.session->server() + " has no replication slot left, and a clone needs one",
                      "Raise max_replication_slots there, or clone from another member with --source.");
}

std::vector<std::string> check_streaming(const CloneSource &source, const std::string &replication_conninfo) {
    std::vector<std::string> warnings;
    for (const MemberInfo &member : source.members) {
        if (!member.data || member.gone)
            continue;
        Conninfo conninfo(replication_conninfo);
        conninfo.set_server(member.postgres.host, std::to_string(member.postgres.port));
        try {
            Session(conninfo, Session::Kind::replication).command("IDENTIFY_SYSTEM");
        } catch (const Failure &failure) {
            const std::string text = "the new server could not stream from \"" + member.name + "\": " + failure.what();
            if (member.primary)
                throw Failure(text, failure.hint().empty() ? "Correct pg_ha.replication_conninfo (-c pg_ha.replication_conninfo=...)."
                                                           : failure.hint(), failure.status());
            warnings.push_back(text);
        }
    }
    return warnings;
}

} // namespace pg_ha::cli
