// SPDX-License-Identifier: PostgreSQL
//
// The copy is made inside the data directory, so that it lies on the same file system wherever that is
// mounted.  Then the old directories are hidden as for a rewind, old and new change names, and the new
// ones come to the light: pg_wal last, as always.
#include "clone.hpp"

#include "files.hpp"
#include "hiding.hpp"
#include "process.hpp"
#include "progress.hpp"
#include "source.hpp"

#include <stdexcept>

namespace pg_ha::rejoin {

namespace {

std::string copy_directory(const RejoinJournal &j) { return j.data_directory + "/pg_ha.clone"; }
std::string old_directory(const RejoinJournal &j) { return j.data_directory + "/pg_ha.old"; }

std::string own_place_of(const std::string &tablespace, const RejoinJournal &journal) {
    return tablespace + ".pg_ha-" + std::to_string(journal.began_at);
}

void require_room(const RejoinJournal &journal) {
    const std::uint64_t needed = tree_bytes(journal.data_directory), free = free_bytes(journal.data_directory);
    if (free < needed + needed / 10)
        throw std::runtime_error("no room for a second copy: " + std::to_string(needed >> 20) + " MB needed in \"" +
                                 journal.data_directory + "\", " + std::to_string(free >> 20) + " MB free");
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
    require_room(journal);
    const CloneSource source = find_clone_source(journal);
    std::vector<std::string> command = {journal.program_directory + "/pg_basebackup", "-D", copy, "-c", "fast", "-X",
                                        "stream", "--no-manifest", "--progress", "-d", source.conninfo};
    for (const std::string &tablespace : source.tablespaces) {
        remove_tree(own_place_of(tablespace, journal));
        command.push_back("--tablespace-mapping=" + tablespace + "=" + own_place_of(tablespace, journal));
    }
    Progress progress(tell_primary(journal, source.conninfo, true));
    const Ran ran = run(command, Echo::on, [&progress](const std::string &line) { return progress.hear(line); },
                        Family::group);
    if (ran.status != 0)
        throw std::runtime_error("pg_basebackup failed: " + last_lines(ran.output));
}

void swap_clone(const RejoinJournal &journal, const std::string &state_directory) {
    const std::string data = journal.data_directory, hidden = hidden_directory(data);
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
