// SPDX-License-Identifier: PostgreSQL
//
// The directory that a clone is made in.  The copy grows in a subdirectory, so that PostgreSQL cannot open
// it before it is whole, and on a mount point, too; a marker file beside it remembers what was made, so
// that the next run can remove it after an interruption, and nothing else.  PG_VERSION comes to its place
// last: where it is, the clone is complete.
//
// The marker is locked, also by the programs that we started, as long as one of them lives.
#pragma once

#include <map>
#include <string>
#include <vector>

namespace pg_ha::cli {

class CloneTarget {
public:
    // Throws Failure if the directory cannot be ours: neither missing, nor empty, nor left unfinished by us.
    explicit CloneTarget(std::string directory);
    ~CloneTarget();
    CloneTarget(const CloneTarget &) = delete;
    CloneTarget &operator=(const CloneTarget &) = delete;

    bool unfinished() const { return unfinished_; } // an interrupted run left something here
    bool complete() const { return complete_; }     // ... which is a whole clone
    // Empty, or to be emptied by remove_leftovers().  Throws Failure.
    void check_place_for(const std::string &tablespace) const;

    void remove_leftovers(); // of an earlier run; throws Failure if another one is at work
    void begin(const std::vector<std::string> &tablespaces);
    std::string copy() const { return directory_ + "/pg_hactl.copy"; } // what pg_basebackup makes
    void bring_out(); // the copy becomes the data directory
    void finish();    // it is a server's now, and none of our business any more
    void remove();    // everything that was made since begin()

private:
    void read_marker();
    void lock();
    void check_nothing_else() const;
    void note(const std::string &line); // durable when it returns
    void remove_tablespace(const std::string &place, bool made_by_us);

    std::string directory_, marker_;
    int fd_ = -1;
    bool unfinished_ = false, complete_ = false, directory_made_ = false;
    std::vector<std::string> moved_;
    std::map<std::string, bool> tablespaces_; // and whether the directory was made by us
};

} // namespace pg_ha::cli
