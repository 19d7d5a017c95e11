// SPDX-License-Identifier: PostgreSQL
//
// The node worker's part of a rejoin: the request, when to try again, and the report.
#include "agent/conninfo_value.hpp"
#include "agent/rejoin_journal.hpp"

#include "backend.hpp"
#include "guc.hpp"
#include "rejoin.hpp"

extern "C" {
#include "access/xlog.h"
#include "miscadmin.h"
#include "postmaster/postmaster.h"
#include "utils/guc.h"
#include "utils/timestamp.h"
}

#include <algorithm>
#include <ctime>
#include <stdexcept>
#include <unistd.h>

namespace pg_ha {

namespace {

using std::chrono::seconds;

constexpr seconds pause_first{5};
constexpr seconds pause_last{300};
constexpr seconds pause_clone{3600}; // what is there can be read meanwhile
constexpr seconds pause_unheard{30};
constexpr unsigned doublings_max = 6;

std::string setting(const char *name) {
    const char *value = nullptr;
    guarded([name, &value] { value = GetConfigOption(name, false, false); });
    return value;
}

std::string conninfo_of(const Endpoint &postgres) {
    return std::string(guc_replication_conninfo) + " host=" + quote_conninfo(postgres.host) +
           " port=" + std::to_string(postgres.port);
}

std::string directory_of_programs() {
    const std::string path = my_exec_path;
    return path.substr(0, path.rfind('/'));
}

} // namespace

Duration rejoin_pause(bool clone) {
    const RejoinJournal last = read_rejoin_journal(state_directory());
    if (last.postmaster_started != PgStartTime)
        return Duration{0}; // whoever restarted the server may have mended what was in the way
    const bool unheard = last.phase == RejoinPhase::requested; // the helper could not even begin
    if (!unheard && (last.phase != RejoinPhase::given_up || last.failures == 0))
        return Duration{0};
    const seconds pause =
        unheard ? pause_unheard : clone && !last.clone.empty() ? pause_clone : std::min(pause_last, pause_first * (1 << std::min(last.failures - 1, doublings_max)));
    const seconds gone{std::time(nullptr) - last.at};
    return gone < seconds{0} ? pause : std::max(seconds{0}, pause - gone);
}

void rejoin_request(const Rejoin &rejoin, const Configuration &configuration, NodeId self,
                    const std::string &clone) {
    const RejoinJournal last = read_rejoin_journal(state_directory());
    RejoinJournal journal;
    journal.phase = RejoinPhase::requested;
    journal.postmaster = restart_after_crash ? PostmasterPid : 0;
    journal.postmaster_started = PgStartTime;
    journal.data_directory = DataDir;
    journal.config_file = ConfigFileName;
    journal.program_directory = directory_of_programs();
    journal.system_identifier = GetSystemIdentifier();
    journal.clone = clone;
    journal.self = self;
    journal.leader = rejoin.leader_name;
    journal.conninfo = conninfo_of(rejoin.postgres);
    for (const Member &member : configuration.members)
        if (member.kind == MemberKind::data && member.id != self)
            journal.candidates[member.name] = conninfo_of(member.postgres);
    journal.term = rejoin.term;
    journal.timeline = rejoin.timeline;
    journal.own = rejoin.own;
    journal.fork = rejoin.fork;
    journal.numbers_shared = rejoin.numbers_shared;
    journal.failures = last.phase == RejoinPhase::given_up ? last.failures : 0;
    journal.began_at = journal.at = std::time(nullptr);
    for (const char *name : recovery_parameter_names)
        journal.parameters[name] = setting(name);
    const std::string helper = journal.program_directory + "/pg_ha_rejoin";
    if (access(helper.c_str(), X_OK) != 0)
        throw std::runtime_error("the program \"" + helper + "\" is missing: make install of pg_ha puts it there");
    write_rejoin_journal(state_directory(), journal);
}

bool rejoin_was_done() {
    const RejoinJournal journal = read_rejoin_journal(state_directory());
    return journal.phase == RejoinPhase::done && !journal.reported;
}

std::string rejoin_take_report() {
    RejoinJournal journal = read_rejoin_journal(state_directory());
    const bool ended = journal.phase == RejoinPhase::done || journal.phase == RejoinPhase::given_up;
    if (!ended || journal.reported)
        return "";
    journal.reported = true;
    write_rejoin_journal(state_directory(), journal);
    return (journal.phase == RejoinPhase::done ? "" : "not rewound, as it was: ") + journal.text;
}

} // namespace pg_ha
