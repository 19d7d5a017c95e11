// SPDX-License-Identifier: PostgreSQL
//
// Rewinds this server to its primary's history, in this order:
//   requested   the primary is asked; if it is not there, or does not let us, nothing is touched
//   hiding      PostgreSQL's directories leave the reach of a start
//   recovering  single-user crash recovery: pg_rewind wants a server that was shut down
//   saving      what pg_rewind would do is known, so the diverged WAL is kept and our own WAL is copied
//   rewinding   pg_rewind; cut off, it is run again on our own WAL put back
//   finishing   the directories come back
// Until `rewinding` the old server can be had back (`returning`): recovery has appended a checkpoint,
// which must go, or this server would claim a position in elections that no commit has taken it to.
//
// Must never overwrite data before the source was found to be the primary that was meant, and never
// leave the journal at a phase whose files are not durable.
#include "rewind.hpp"

#include "clone.hpp"
#include "conninfo.hpp"
#include "control_data.hpp"
#include "files.hpp"
#include "hiding.hpp"
#include "kept_wal.hpp"
#include "process.hpp"
#include "progress.hpp"
#include "source.hpp"
#include "wal_files.hpp"

#include <ctime>
#include <functional>

namespace pg_ha::rejoin {

namespace {

constexpr unsigned failed_rewinds_max = 2;
constexpr int patience_with_source = 60; // seconds
constexpr std::uint64_t room_to_leave_mb = 64;

class Work {
public:
    explicit Work(const std::string &state) : state_(state), journal_(read_rejoin_journal(state)) {}
    Outcome go_on();

private:
    bool step();
    // Nothing of the old server was overwritten yet.
    bool can_return() const { return journal_.rewinds == 0 && journal_.phase < RejoinPhase::swapping; }
    void enter(RejoinPhase phase);
    void wait_for(const std::string &what);
    bool request(std::string &why);
    void recover();
    bool save(std::string &why);
    bool rewind();
    void finish();
    bool must_clone();
    void clone(const std::string &why);
    void swap();
    Outcome give_up(const std::string &why);
    Outcome take_back();
    void tell_primary_from_now_on();

    bool run_pg_rewind();
    void end_on_a_record();
    std::vector<std::string> pg_rewind() const;
    Lsn redo_of(const Divergence &found, std::uint64_t segment_bytes) const;
    void require_room(const std::string &output) const;
    std::string data() const { return journal_.data_directory; }
    std::string hidden() const { return hidden_directory(data()); }
    std::string program(const char *name) const { return journal_.program_directory + "/" + name; }
    Places places() const { return {state_, journal_.hidden ? hidden() : data()}; }

    std::string state_; // directory
    RejoinJournal journal_;
    std::function<void(const Amount &)> tell_; // the primary, and through it all members; empty: it cannot be reached
};

void Work::enter(RejoinPhase phase) {
    journal_.phase = phase;
    journal_.at = std::time(nullptr);
    write_rejoin_journal(state_, journal_);
    say(to_string(phase) + (rejoin_unfinished(phase) ? std::string() : ": " + journal_.text));
}

// An earlier session may have died with its server; and the primary shows one at a time.
void Work::tell_primary_from_now_on() {
    tell_ = {};
    tell_ = tell_primary(journal_, journal_.conninfo, false);
}

// What cannot be undone any more waits for as long as it takes; the reason is said once.
void Work::wait_for(const std::string &what) {
    if (journal_.text != what) {
        journal_.text = what;
        enter(journal_.phase);
        say("waits: " + what);
    }
    wait_a_second();
}

// False: there is a primary, but pg_rewind cannot work with it, and `why` says why not.
bool Work::request(std::string &why) {
    if (!journal_.clone.empty()) {
        why = journal_.clone;
        find_clone_source(journal_);
        return false;
    }
    say("rewinding to timeline " + std::to_string(raw(journal_.timeline)) + " of " + journal_.leader + ", own WAL ends at " +
        to_string(journal_.own));
    try {
        check_source(journal_);
        if (!journal_.numbers_shared)
            return true;
        why = "a promotion by hand made timeline " + std::to_string(raw(journal_.own.timeline)) +
              " here, and pg_rewind compares numbers only";
    } catch (const CannotRewind &cannot) {
        why = cannot.what();
    } catch (const std::runtime_error &cannot) { // perhaps replication is all that it allows us
        why = cannot.what();
        try {
            find_clone_source(journal_);
        } catch (const std::runtime_error &) {
            throw std::runtime_error(why);
        }
    }
    return false;
}

// Without our library, archiver and log collector; and no segment may be recycled, pg_rewind reads them.
void Work::recover() {
    const ControlData control = read_control_data(journal_.program_directory, hidden());
    if (control.system_identifier != journal_.system_identifier)
        throw std::runtime_error("the data directory belongs to another database system");
    if (control.shut_down())
        return;
    keep_tail(places(), control, journal_.own);
    const Ran ran = run({program("postgres"), "--single", "-D", hidden(), "-c", "config_file=" + journal_.config_file,
                         "-c", "data_directory=" + hidden(), "-c", "shared_preload_libraries=", "-c", "archive_mode=off",
                         "-c", "external_pid_file=", "-c", "logging_collector=off", "-c", "log_destination=stderr", "-c",
                         "wal_keep_size=2000GB", "-c", "max_slot_wal_keep_size=-1", "-c", "synchronous_standby_names=",
                         "template1"});
    if (ran.status != 0 || !read_control_data(journal_.program_directory, hidden()).shut_down())
        throw std::runtime_error("crash recovery in single-user mode failed: " + last_lines(ran.output));
}

std::vector<std::string> Work::pg_rewind() const {
    return {program("pg_rewind"), "-D", hidden(), "--no-ensure-shutdown", "--progress", "--source-server",
            for_command_line(journal_.conninfo + " dbname=postgres application_name=pg_ha_rejoin")};
}

// Where replay has to begin if it begins with that checkpoint, which may be in an older segment.  The file is named,
// or pg_waldump looks for the segment size in any file, perhaps in one that waits, empty, for its turn.
Lsn Work::redo_of(const Divergence &found, std::uint64_t segment_bytes) const {
    const Position &at = found.checkpoint;
    const Ran ran = run({program("pg_waldump"), "-p", hidden() + "/pg_wal", "-t", std::to_string(raw(at.timeline)), "-s",
                         to_string(at.lsn), "-n", "1", segment_name({at.timeline, raw(at.lsn) / segment_bytes}, segment_bytes)},
                        Echo::off);
    if (const std::optional<Lsn> redo = parse_redo(ran.output); ran.status == 0 && redo)
        return *redo;
    throw std::runtime_error("pg_waldump does not tell where replay begins: " + last_lines(ran.output));
}

// A rewind that runs out of space half-way leaves a server that is down.  Much of what is copied takes the place of older
// files; how much of it cannot be told before.
void Work::require_room(const std::string &output) const {
    const std::optional<std::uint64_t> needed = parse_need_mb(output);
    const std::uint64_t free = free_bytes(hidden()) >> 20;
    if (needed && free < *needed + room_to_leave_mb)
        throw std::runtime_error("no room to rewind: " + std::to_string(*needed) + " MB to be copied into \"" + data() + "\", " +
                                 std::to_string(free) + " MB free");
}

bool Work::save(std::string &why) {
    check_source(journal_);
    std::vector<std::string> command = pg_rewind();
    command.push_back("--dry-run");
    // It would fetch everything once for nothing; all that can be known before has been said then.
    const Ran ran = run(command, Echo::off, [](const std::string &line) {
        return line.find("need to copy") == std::string::npos ? Heard::a_line : Heard::enough;
    });
    const std::optional<Divergence> found = parse_divergence(ran.output);
    if (ran.status != 0 || !found) {
        check_source(journal_); // if it is gone, that is the reason
        why = "pg_rewind cannot be used: " + last_lines(ran.output);
        return false;
    }
    require_room(ran.output);
    const ControlData control = read_control_data(journal_.program_directory, hidden());
    journal_.fork = found->fork;
    journal_.aside = keep_diverged_wal(places(), journal_, control.segment_bytes, *found, redo_of(*found, control.segment_bytes));
    make_tablespace_directories(journal_, hidden() + "/pg_tblspc");
    check_source(journal_);
    return true;
}

// True: the data directory is now the source's as of some moment, plus WAL to replay.
bool Work::run_pg_rewind() {
    if (journal_.rewinds > 0)
        put_back_saved_wal(places());
    journal_.rewinds++;
    enter(RejoinPhase::rewinding);
    make_tablespace_directories(journal_, hidden() + "/pg_tblspc");
    tell_primary_from_now_on();
    Progress progress(tell_);
    const Ran ran = run(pg_rewind(), Echo::on, [&progress](const std::string &line) { return progress.hear(line); });
    if (ran.status == 0)
        return true;
    journal_.rewinds_failed++;
    wait_for("pg_rewind failed: " + last_lines(ran.output));
    return false;
}

// What was copied so far belongs to the history of the primary we began with, not to a later one's.
bool Work::must_clone() {
    try {
        const Timeline timeline = find_clone_source(journal_).timeline;
        return timeline > journal_.timeline || journal_.at + patience_with_source < std::time(nullptr);
    } catch (const std::runtime_error &) {
        return false; // nobody to clone from either
    }
}

// A source that is gone by now is followed by one that begins with a record.
void Work::end_on_a_record() {
    try {
        write_a_record(journal_);
    } catch (const std::runtime_error &) {
    }
}

// False: it has failed as often as makes sense.
bool Work::rewind() {
    while (journal_.rewinds_failed < failed_rewinds_max) {
        try {
            check_source(journal_);
            if (run_pg_rewind()) {
                end_on_a_record();
                return true;
            }
        } catch (const std::runtime_error &why) {
            if (journal_.rewinds == 0)
                throw;
            if (must_clone())
                return false;
            wait_for(why.what());
        }
    }
    return false;
}

void Work::finish() {
    add_older_wal(places(), journal_.fork);
    bring_back(data());
    const std::uint64_t bytes = raw(journal_.own.lsn) - raw(journal_.fork.lsn);
    journal_.failures = 0;
    journal_.text = "rewound to " + journal_.leader + "'s history, left at " + to_string(journal_.fork) + "; own WAL up to " +
                    to_string(journal_.own) + " (" + std::to_string(bytes) + " bytes) is kept in " + journal_.aside;
    enter(RejoinPhase::done);
    remove_kept(places());
}

// As often as it takes, if there is no way back.
void Work::clone(const std::string &why) {
    if (journal_.aside.empty())
        journal_.aside = keep_diverged_wal(places(), journal_);
    journal_.text = why;
    enter(RejoinPhase::cloning);
    say("cloning anew: " + why);
    tell_ = {}; // make_clone() tells what it does
    for (;;) {
        try {
            make_clone(journal_);
            return;
        } catch (const std::runtime_error &error) {
            if (journal_.rewinds == 0)
                throw;
            wait_for(error.what());
        }
    }
}

// What is left over goes before this is done: nobody would come back for it.  It takes room and harms nobody, so a server
// is not kept from its start by what cannot be removed.
void Work::swap() {
    enter(RejoinPhase::swapping);
    swap_clone(journal_, state_);
    try {
        remove_clone_leftovers(journal_);
        remove_kept(places());
    } catch (const std::runtime_error &error) {
        say(error.what());
    }
    journal_.failures = 0;
    journal_.text = "cloned anew from the primary; own WAL up to " + to_string(journal_.own) + " is kept in " +
                    journal_.aside + "; not rewound because: " + journal_.text;
    enter(RejoinPhase::done);
}

Outcome Work::take_back() {
    if (journal_.hidden) {
        put_back_tail(places());
        bring_back(data());
    }
    remove_clone_leftovers(journal_);
    if (!journal_.aside.empty()) // that WAL is still where it was; the next attempt would set it aside again
        remove_tree(journal_.aside);
    journal_.aside.clear();
    journal_.failures++;
    enter(RejoinPhase::given_up);
    remove_kept(places());
    return Outcome::given_up;
}

Outcome Work::give_up(const std::string &why) {
    journal_.text = why;
    if (journal_.phase == RejoinPhase::requested) {
        journal_.failures++;
        enter(RejoinPhase::given_up);
        return Outcome::given_up;
    }
    enter(RejoinPhase::returning);
    return take_back();
}

// One step; true: there are more.
bool Work::step() {
    std::string why;
    switch (journal_.phase) {
    case RejoinPhase::requested:
        remove_kept(places());
        if (!request(why)) {
            clone(why);
            break;
        }
        journal_.hidden = true;
        enter(RejoinPhase::hiding);
        tell_primary_from_now_on();
        break;
    case RejoinPhase::hiding:
        hide(data());
        enter(RejoinPhase::recovering);
        break;
    case RejoinPhase::recovering:
        recover();
        enter(RejoinPhase::saving);
        break;
    case RejoinPhase::saving:
        if (!save(why))
            clone(why);
        else
            journal_.phase = RejoinPhase::rewinding; // written when it begins
        break;
    case RejoinPhase::rewinding:
        if (rewind())
            enter(RejoinPhase::finishing);
        else
            clone(journal_.text);
        break;
    case RejoinPhase::finishing:
        finish();
        return false;
    case RejoinPhase::cloning:
        clone(journal_.text);
        swap();
        return false;
    case RejoinPhase::swapping:
        swap();
        return false;
    default:
        return false;
    }
    return true;
}

Outcome Work::go_on() {
    if (journal_.phase == RejoinPhase::returning)
        return take_back();
    try {
        while (step())
            continue;
        return journal_.phase == RejoinPhase::done ? Outcome::done : Outcome::given_up;
    } catch (const std::runtime_error &why) {
        if (!can_return())
            throw;
        return give_up(why.what());
    }
}

} // namespace

Outcome carry_out(const std::string &state_directory) { return Work(state_directory).go_on(); }

} // namespace pg_ha::rejoin
