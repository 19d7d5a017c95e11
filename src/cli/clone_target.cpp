// SPDX-License-Identifier: PostgreSQL
#include "clone_target.hpp"

#include "failure.hpp"
#include "rejoin/files.hpp"
#include "rejoin/process.hpp"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <fstream>
#include <iostream>
#include <sys/file.h>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>

namespace pg_ha::cli {

using namespace rejoin;

namespace {

constexpr int patience = 5; // seconds, for programs of an interrupted run to notice that they are alone

// A file system of its own has this directory, which is nobody's.
std::vector<std::string> contents(const std::string &directory) {
    std::vector<std::string> names = entries(directory);
    std::erase(names, "lost+found");
    return names;
}

[[noreturn]] void fail(const std::string &what, const std::string &path) {
    throw std::system_error(errno, std::generic_category(), "could not " + what + " \"" + path + "\"");
}

} // namespace

CloneTarget::CloneTarget(std::string directory) : directory_(std::move(directory)), marker_(directory_ + "/pg_hactl.clone") {
    if (const std::string parent = directory_.substr(0, std::max<std::size_t>(directory_.rfind('/'), 1)); !exists(parent))
        throw Failure("directory \"" + parent + "\" does not exist", "Make it, owned by the server's user.");
    if (!exists(directory_))
        return;
    struct stat info;
    if (::stat(directory_.c_str(), &info) != 0)
        fail("look at", directory_);
    if (!S_ISDIR(info.st_mode))
        throw Failure("\"" + directory_ + "\" is not a directory");
    if (info.st_uid != ::geteuid())
        throw Failure("directory \"" + directory_ + "\" belongs to another user", "Run pg_hactl as the server's user.");
    if (exists(marker_)) {
        unfinished_ = true;
        complete_ = exists(directory_ + "/PG_VERSION");
        read_marker();
        return;
    }
    if (!contents(directory_).empty())
        throw Failure("directory \"" + directory_ + "\" is not empty",
                      exists(directory_ + "/PG_VERSION")
                          ? "If it was restored from a backup, adopt it with --restored. Otherwise remove it yourself, if "
                            "nobody needs it, or name another directory."
                          : "Name another directory, or empty it yourself.");
}

CloneTarget::~CloneTarget() {
    if (fd_ >= 0)
        ::close(fd_);
}

// A last line that was cut off was not acted on yet.
void CloneTarget::read_marker() {
    std::ifstream in(marker_);
    for (std::string line; std::getline(in, line) && !in.eof();) {
        const std::size_t blank = line.find(' ');
        const std::string key = line.substr(0, blank), value = blank == std::string::npos ? "" : line.substr(blank + 1);
        if (key == "entry")
            moved_.push_back(value);
        else if (key == "tablespace" || key == "tablespace-made")
            tablespaces_[value] = key == "tablespace-made";
        else if (key == "directory-made")
            directory_made_ = true;
    }
}

void CloneTarget::check_place_for(const std::string &tablespace) const {
    if (tablespaces_.contains(tablespace) || !exists(tablespace) || contents(tablespace).empty())
        return;
    throw Failure("directory \"" + tablespace + "\", where a tablespace would go, is not empty",
                  "Choose another place with --tablespace-mapping=" + tablespace + "=NEW, or empty it yourself.");
}

void CloneTarget::lock() {
    // Our children inherit it: the lock is free when the last of them is gone.
    fd_ = ::open(marker_.c_str(), O_RDWR | O_CREAT | O_APPEND, 0600);
    if (fd_ < 0)
        fail("open", marker_);
    for (int waited = 0; ::flock(fd_, LOCK_EX | LOCK_NB) != 0; waited++) {
        if (errno != EWOULDBLOCK && errno != EINTR)
            fail("lock", marker_);
        if (waited == 0)
            std::cerr << "waiting for another clone into this directory to end\n";
        if (waited >= patience)
            throw Failure("another pg_hactl clone is at work in \"" + directory_ + "\"");
        wait_a_second();
    }
    // Whoever held it may have removed the file, and then it is not the marker any more.
    struct stat ours, there;
    if (::fstat(fd_, &ours) != 0 || ::stat(marker_.c_str(), &there) != 0 || ours.st_ino != there.st_ino)
        throw Failure("another pg_hactl clone in \"" + directory_ + "\" has just ended");
}

void CloneTarget::check_nothing_else() const {
    std::vector<std::string> rest = contents(directory_);
    std::erase(rest, "pg_hactl.clone");
    if (!rest.empty())
        throw Failure("directory \"" + directory_ + "\" contains \"" + rest.front() + "\", which pg_hactl did not make",
                      "Remove it yourself, if nobody needs it, or name another directory.");
}

void CloneTarget::note(const std::string &line) {
    const std::string text = line + "\n";
    if (::write(fd_, text.data(), text.size()) != static_cast<ssize_t>(text.size()) || ::fsync(fd_) != 0)
        fail("write", marker_);
}

void CloneTarget::remove_tablespace(const std::string &place, bool made_by_us) {
    if (!exists(place))
        return;
    for (const std::string &name : contents(place))
        if (name.starts_with("PG_")) // it was empty before us; PostgreSQL makes nothing else there
            remove_tree(place + "/" + name);
    if (made_by_us && contents(place).empty())
        remove_tree(place);
}

void CloneTarget::remove_leftovers() {
    lock();
    read_marker(); // whoever was at work may have written on
    if (exists(directory_ + "/PG_VERSION"))
        throw Failure("another pg_hactl clone has just finished in \"" + directory_ + "\"");
    for (const auto &[place, made_by_us] : tablespaces_)
        remove_tablespace(place, made_by_us);
    remove_tree(copy());
    for (const std::string &name : moved_)
        remove_tree(directory_ + "/" + name);
    moved_.clear();
    tablespaces_.clear();
    check_nothing_else();
}

void CloneTarget::begin(const std::vector<std::string> &tablespaces) {
    if (!exists(directory_)) {
        make_directory(directory_, 0700);
        directory_made_ = true;
    } else if (::chmod(directory_.c_str(), 0700) != 0) {
        fail("change the mode of", directory_);
    }
    if (fd_ < 0)
        lock();
    check_nothing_else();
    if (::ftruncate(fd_, 0) != 0)
        fail("write", marker_);
    note("Made by pg_hactl clone, which has not finished: run it again, or remove this directory.");
    if (directory_made_)
        note("directory-made");
    for (const std::string &place : tablespaces) {
        tablespaces_[place] = !exists(place);
        note((tablespaces_[place] ? "tablespace-made " : "tablespace ") + place);
    }
    sync_directory(directory_);
}

void CloneTarget::bring_out() {
    std::vector<std::string> names = entries(copy());
    for (const std::string &name : names)
        note("entry " + name);
    std::erase(names, "PG_VERSION");
    names.push_back("PG_VERSION");
    for (const std::string &name : names)
        move(copy() + "/" + name, directory_ + "/" + name);
}

void CloneTarget::finish() {
    remove_tree(copy()); // empty by now
    remove_tree(marker_);
}

void CloneTarget::remove() {
    for (const auto &[place, made_by_us] : tablespaces_)
        remove_tablespace(place, made_by_us);
    remove_tree(copy());
    remove_tree(marker_);
    if (directory_made_)
        ::rmdir(directory_.c_str());
}

} // namespace pg_ha::cli
