// SPDX-License-Identifier: PostgreSQL
//
// One cluster's loop: network, one timer and the descriptor by which the main thread wakes it.
#include "witness.hpp"

#include "log.hpp"

#include <cerrno>
#include <sys/eventfd.h>
#include <system_error>
#include <unistd.h>
#include <utility>

namespace pg_ha {

namespace {

constexpr Duration last_words = std::chrono::milliseconds(20);

LogLevel log_level(NetLogLevel level) {
    switch (level) {
    case NetLogLevel::debug: return LogLevel::debug;
    case NetLogLevel::info: return LogLevel::info;
    case NetLogLevel::warning: return LogLevel::warning;
    }
    return LogLevel::info;
}

[[noreturn]] void fail(const std::string &what, const std::string &hint) {
    throw std::runtime_error(what + "\nHINT: " + hint);
}

ClusterSecret secret_of(const WitnessSettings &settings) {
    try {
        return read_secret(settings.secret_file);
    } catch (const std::exception &error) {
        fail(error.what(), "Copy pg_ha.secret from the data directory of a server to this host; the file must belong to "
                           "the user that runs the witness, with mode 0600.");
    }
}

StateFile open_state(const WitnessSettings &settings) {
    try {
        return StateFile(settings.state_directory);
    } catch (const std::exception &error) {
        fail(error.what(), "Give this witness a state directory of its own, which belongs to its user, with mode 0700. Is it "
                           "running already?");
    }
}

// Empty: the state belongs to this witness, or nothing has been kept yet.
std::string why_foreign(const DurableState &state, const ClusterSecret &secret) {
    const Configuration &configuration = state.configuration;
    if (configuration.cluster == no_cluster || configuration.cluster == secret.cluster)
        return "";
    return "it belongs to cluster " + to_string(configuration.cluster) + ", the secret to cluster " + to_string(secret.cluster);
}

void require_own_name(const DurableState &state, const WitnessSettings &settings) {
    if (state.node_name != settings.node_name)
        fail("state directory \"" + settings.state_directory + "\" belongs to node \"" + state.node_name +
                 "\", but node_name is \"" + settings.node_name + "\"",
             "Set the old name again, or give this witness a state directory of its own.");
}

// A vote that was forgotten must never be cast again: without a good state it is a new member.
DurableState choose_identity(StateFile &file, const WitnessSettings &settings, const ClusterSecret &secret,
                             const std::string &source) {
    std::string why;
    if (file.condition() == StateCondition::valid)
        why = why_foreign(file.loaded(), secret);
    else if (file.condition() != StateCondition::missing)
        why = describe(file.condition());
    if (file.condition() == StateCondition::valid && why.empty()) {
        require_own_name(file.loaded(), settings);
        return file.loaded();
    }
    if (!why.empty()) {
        write_log(LogLevel::warning, source,
                  "the state in \"" + settings.state_directory + "\" is not usable: " + why +
                      ". It is kept aside there; the witness goes on under a new identity, without a vote, until the "
                      "primary admits it.");
        file.set_aside();
    }
    DurableState fresh;
    fresh.self = static_cast<NodeId>(make_secret().cluster.low | 1); // any random number but 0
    fresh.node_name = settings.node_name;
    return fresh;
}

} // namespace

// ---- without PostgreSQL --------------------------------------------------------------------------------

void NoPostgres::note(const Note &note) {
    const std::string change = note.from == note.to ? to_string(note.to) : std::string(to_string(note.from)) + " -> " + to_string(note.to);
    write_log(LogLevel::info, source_, change + ", term " + std::to_string(raw(note.term)) + ": " + note.reason);
}

void NoPostgres::trace(const std::string &line) { write_log(LogLevel::info, source_, "trace: " + line); }

// ---- start -----------------------------------------------------------------------------------------------

Witness::Witness(WitnessSettings settings)
    : settings_(std::move(settings)), source_(settings_.section), secret_(secret_of(settings_)),
      file_(open_state(settings_)), state_(choose_identity(file_, settings_, secret_, source_)), postgres_(source_),
      runtime_(callbacks()) {
    if (!begin_run(state_, file_))
        fail("could not write the state file in \"" + settings_.state_directory + "\"", "Look at the disk and its free space.");
    wake_fd_ = ::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (wake_fd_ < 0)
        throw std::system_error(errno, std::generic_category(), "could not create an eventfd");
    runtime_.watch(wake_fd_, [this] { take_requests(); });
    try {
        open_network();
    } catch (const std::system_error &error) {
        fail(error.what(), "Is another process using port " + std::to_string(settings_.port) +
                               "? Set port and listen_addresses to what is free on this host.");
    }
    agent_.emplace(Ports{runtime_, file_, runtime_, postgres_}, core_settings(settings_, secret_.cluster), state_, LocalState{},
                   make_secret().cluster.high);
    agent_->start();
}

Witness::~Witness() {
    if (wake_fd_ >= 0)
        ::close(wake_fd_);
}

NetCallbacks Witness::callbacks() {
    NetCallbacks calls; // none comes before the agent is there: they are called from run_one()
    calls.received = [this](const Message &message) { agent_->handle(Received{message}); };
    calls.link_up = [this](NodeId peer, const std::string &) { agent_->handle(LinkUp{peer}); };
    calls.peer_gone = [this](NodeId peer) { agent_->handle(PeerGone{peer}); };
    calls.log = [this](NetLogLevel level, const std::string &line) { write_log(log_level(level), source_, line); };
    return calls;
}

NetOptions Witness::net_options() const {
    NetOptions options;
    options.secret = secret_;
    options.listen_addresses = settings_.listen_addresses;
    options.port = settings_.port;
    options.seeds = settings_.peers;
    std::erase(options.seeds, Endpoint{settings_.advertise_address, settings_.port}); // one list may serve all members
    options.self = opened_as_;
    options.node_name = settings_.node_name;
    options.heartbeat_interval = settings_.heartbeat_interval;
    return options;
}

void Witness::open_network() {
    opened_as_ = agent_ ? agent_->durable().self : state_.self;
    opened_with_ = settings_.peers;
    runtime_.close();
    runtime_.open(net_options());
    runtime_.set_peers(agent_ ? agent_->durable().configuration.members : state_.configuration.members);
}

// ---- the loop ----------------------------------------------------------------------------------------------

void Witness::run() {
    while (!stopping_) {
        if (agent_->next_deadline() <= runtime_.now())
            agent_->tick();
        keep_network_current();
        wait_once();
    }
    agent_->handle(ShuttingDown{true});
    runtime_.flush(last_words);
}

void Witness::wait_once() {
    runtime_.arm(agent_->next_deadline(), [] {}); // to wake is all: run() looks what is due
    runtime_.run_one();
}

// Other seeds, or another identity because the primary has voided the old one: greet everybody anew.
void Witness::keep_network_current() {
    if (opened_as_ != agent_->durable().self || opened_with_ != settings_.peers)
        open_network();
}

void Witness::take_requests() {
    std::uint64_t count = 0;
    (void)!::read(wake_fd_, &count, sizeof(count));
    std::optional<WitnessSettings> fresh;
    {
        const std::lock_guard lock(requests_);
        stopping_ = stop_;
        fresh = std::exchange(fresh_, std::nullopt);
    }
    if (!fresh)
        return;
    for (const std::string &key : take_reloadable(settings_, *fresh))
        write_log(LogLevel::warning, source_, "a new value of \"" + key + "\" is used only after a restart");
    agent_->reconfigure(core_settings(settings_, secret_.cluster));
    write_log(LogLevel::info, source_, "configuration read again");
}

void Witness::wake() const {
    const std::uint64_t one = 1;
    (void)!::write(wake_fd_, &one, sizeof(one));
}

void Witness::request_stop() {
    {
        const std::lock_guard lock(requests_);
        stop_ = true;
    }
    wake();
}

void Witness::reload(const WitnessSettings &fresh) {
    {
        const std::lock_guard lock(requests_);
        fresh_ = fresh;
    }
    wake();
}

// ---- --check -------------------------------------------------------------------------------------------------

std::string check_witness(const WitnessSettings &settings) {
    const ClusterSecret secret = secret_of(settings);
    const StateView view = read_state(settings.state_directory);
    std::string state = "no state yet: it will join as a new member";
    if (view.condition == StateCondition::corrupt || !why_foreign(view.state, secret).empty())
        state = "its state is not usable and would be set aside: it would join as a new member";
    else if (view.condition == StateCondition::valid) {
        require_own_name(view.state, settings);
        state = std::string(view.state.configuration.is_voter(view.state.self) ? "a voter" : "no voter") + " by its state, in term " +
                std::to_string(raw(view.state.term));
    }
    return "witness \"" + settings.node_name + "\" of cluster " + to_string(secret.cluster) + ": " + state;
}

} // namespace pg_ha
