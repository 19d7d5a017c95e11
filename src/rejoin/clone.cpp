// SPDX-License-Identifier: PostgreSQL
//
// The copy is made inside the data directory, so that it lies on the same file system wherever that is
// mounted.  Then the old directories are hidden as for a rewind, old and new change names, and the new
// ones come to the light: pg_wal last, as always.
#include "clone.hpp"

#include "conninfo.hpp"
#include "files.hpp"
#include "hiding.hpp"
#include "process.hpp"
#include "progress.hpp"
#include "room.hpp"
#include "source.hpp"

#include <stdexcept>

namespace pg_ha::rejoin {

namespace {

std::string copy_directory(const RejoinJournal &j) { return j.data_directory + "/pg_ha.clone"; }
std::string old_directory(const RejoinJournal &j) { return j.data_directory + "/pg_ha.old"; }

std::string own_place_of(const Tablespace &tablespace, const RejoinJournal &journal) {
    return tablespace.location + ".pg_ha-" + std::to_string(journal.began_at);
}

// Where this server's tablespace of that number lies; empty: nowhere.
std::string tablespace_here(const RejoinJournal &j, const std::string &oid) {
    for (const std::string &directory : {hidden_directory(j.data_directory), j.data_directory})
        if (const std::string place = link_target(directory + "/pg_tblspc/" + oid); !place.empty() && exists(place))
            return place;
    return "";
}

// What the primary does not tell is taken to be as big there as it is here.
void require_room(const RejoinJournal &journal, const CloneSource &source) {
    RoomNeeded room;
    room.add(journal.data_directory, tree_bytes(journal.data_directory));
    for (const Tablespace &tablespace : source.tablespaces) {
        const std::string here = tablespace_here(journal, tablespace.oid);
        room.add(own_place_of(tablespace, journal), tablespace.bytes ? *tablespace.bytes : here.empty() ? 0 : tree_bytes(here));
    }
    if (const auto shortage = room.shortage(10))
        throw std::runtime_error("no room for a second copy: " + std::to_string(shortage->needed >> 20) + " MB needed in \"" +
                                 shortage->place + "\", " + std::to_string(shortage->free >> 20) + " MB free");
}

void remove_tablespaces_of(const std::string &directory) {
    if (!exists(directory + "/pg_tblspc"))
        return;
    for (const std::string &link : entries(directory + "/pg_tblspc")) {
        const std::string place = link_target(directory + "/pg_tblspc/" + link);
        if (place.empty() || !exists(place))
            continue;
        for (const std::string &name : entries(place))
            if (name.starts_with("PG_15_"))
                remove_tree(place + "/" + name);
    }
}

} // namespace

void make_clone(const RejoinJournal &journal) {
    const std::string copy = copy_directory(journal);
    remove_tablespaces_of(copy);
    remove_tree(copy);
    const CloneSource source = find_clone_source(journal);
    for (const Tablespace &tablespace : source.tablespaces)
        remove_tree(own_place_of(tablespace, journal));
    require_room(journal, source);
    std::vector<std::string> command = {journal.program_directory + "/pg_basebackup", "-D", copy, "-c", "fast", "-X",
                                        "stream", "--no-manifest", "--progress", "-d", for_command_line(source.conninfo)};
    for (const Tablespace &tablespace : source.tablespaces)
        command.push_back("--tablespace-mapping=" + tablespace.location + "=" + own_place_of(tablespace, journal));
    Progress progress(tell_primary(journal, source.conninfo, true));
    const Ran ran = run(command, Echo::on, [&progress](const std::string &line) { return progress.hear(line); },
                        Family::group);
    if (ran.status != 0)
        throw std::runtime_error("pg_basebackup failed: " + last_lines(ran.output));
}

void swap_clone(const RejoinJournal &journal, const std::string &state_directory) {
    const std::string data = journal.data_directory, hidden = hidden_directory(data);
    if (!exists(copy_directory(journal)) && !exists(hidden))
        return; // all is in its place, and the old server may be gone
    if (!exists(old_directory(journal))) {
        hide(data);
        move(hidden, old_directory(journal));
    }
    if (exists(state_directory + "/state"))
        move(state_directory + "/state", state_directory + "/state.before_clone");
    remove_tree(data + "/pg_ha.echo");
    if (exists(copy_directory(journal)))
        move(copy_directory(journal), hidden);
    bring_back(data);
}

void remove_clone_leftovers(const RejoinJournal &journal) {
    remove_tablespaces_of(old_directory(journal));
    remove_tree(old_directory(journal));
    remove_tablespaces_of(copy_directory(journal));
    remove_tree(copy_directory(journal));
}

} // namespace pg_ha::rejoin
