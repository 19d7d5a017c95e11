// SPDX-License-Identifier: PostgreSQL
//
// global stays as a stand-in with a copy of the control file, because the server looks for that before it
// loads any library; original and stand-in change places in one step.
#include "hiding.hpp"

#include "files.hpp"

#include <sys/stat.h>
#include <system_error>

namespace pg_ha::rejoin {

namespace {

constexpr const char *directories[] = {"base",          "pg_commit_ts", "pg_dynshmem", "pg_logical", "pg_multixact",
                                       "pg_notify",     "pg_replslot",  "pg_serial",   "pg_snapshots", "pg_stat",
                                       "pg_stat_tmp",   "pg_subtrans",  "pg_tblspc",   "pg_twophase",  "pg_xact"};
constexpr const char *stand_in = "/global/pg_ha.stand_in";

unsigned mode_of(const std::string &directory) {
    struct stat info;
    if (::stat(directory.c_str(), &info) != 0)
        throw std::system_error(errno, std::generic_category(), "could not look at \"" + directory + "\"");
    return info.st_mode & 0777;
}

void move_over(const std::string &name, const std::string &from, const std::string &to) {
    if (exists(from + "/" + name))
        move(from + "/" + name, to + "/" + name);
}

// In any order, because pg_wal is away meanwhile; durable when all are over.
void move_directories(const std::string &from, const std::string &to) {
    for (const char *name : directories)
        if (exists(from + "/" + name))
            move_loosely(from + "/" + name, to + "/" + name);
    sync_directory(to);
    sync_directory(from);
}

void hide_global(const std::string &data, const std::string &hidden) {
    if (exists(data + stand_in))
        return;
    make_directory(hidden + "/global", mode_of(data));
    copy_file(data + "/global/pg_control", hidden + "/global/pg_control");
    write_file(hidden + stand_in, "pg_ha rewinds this server; the original is in pg_ha.rejoin\n");
    exchange(data + "/global", hidden + "/global");
}

} // namespace

std::string hidden_directory(const std::string &data_directory) { return data_directory + "/pg_ha.rejoin"; }

void hide(const std::string &data) {
    const std::string hidden = hidden_directory(data);
    make_directory(hidden, mode_of(data));
    move_over("pg_wal", data, hidden);
    hide_global(data, hidden);
    move_directories(data, hidden);
    copy_file(data + "/PG_VERSION", hidden + "/PG_VERSION");
}

void bring_back(const std::string &data) {
    const std::string hidden = hidden_directory(data);
    if (!exists(hidden))
        return;
    move_directories(hidden, data);
    move_over("backup_label", hidden, data); // where recovery has to begin after a rewind
    if (exists(data + stand_in))
        exchange(data + "/global", hidden + "/global");
    move_over("pg_wal", hidden, data);
    remove_tree(hidden); // what pg_rewind has copied besides: settings of the source
    sync_directory(data);
}

} // namespace pg_ha::rejoin
