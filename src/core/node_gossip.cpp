// SPDX-License-Identifier: PostgreSQL
//
// Who is spoken to in a round, what is passed on, and who is believed to live.  Up to 17 members everybody
// speaks to everybody; beyond, gossip.hpp chooses, so that a node's cost stays flat.  A primary speaks to
// the voters in every round whatever their number allows: they renew its lease.  Nothing here may decide
// about votes, leases or the configuration.
#include "node_impl.hpp"

#include <algorithm>
#include <utility>

namespace pg_ha {

namespace {
constexpr std::uint64_t rounds_between_questions = 8; // heartbeats of a standby that want an answer, all to all
constexpr std::uint64_t rounds_between_greetings = 4; // to a primary that an answer has just told the same
constexpr std::size_t peers_per_round_primary = 12;
constexpr std::size_t others_per_round_primary = 3;   // at the least, however many vote
constexpr std::size_t peers_per_round_standby = 8;    // one of them probed
constexpr std::size_t table_rows_per_heartbeat = 8;
constexpr std::size_t rows_in_turn_at_scale = 4;
constexpr std::size_t rumours_per_heartbeat = 12;
constexpr std::size_t configurations_per_round = 4;   // to members that have shown an older one
// A heartbeat in a large cluster, its configuration apart, fits into one packet.
constexpr std::size_t heartbeat_bytes = 1200;
constexpr std::size_t envelope_bytes = 110, report_bytes = 86, link_bytes = 20, rejoin_bytes = 20, lineage_entry_bytes = 14, rumour_bytes = 24;

std::size_t bytes_of(const MemberReport &report) {
    return report_bytes + report.reason.size() + report.links.size() * link_bytes +
           report.rejoins.size() * rejoin_bytes;
}
} // namespace

void Node::Impl::know_members() {
    if (gossip_version == configuration().version)
        return;
    gossip_version = configuration().version;
    gossip.set_members(configuration(), durable.self, durable.incarnation);
}

// ---- whom ---------------------------------------------------------------------------------------------

void Node::Impl::gossip_round() {
    if (!gossip.at_scale())
        return;
    const bool late = now - heartbeat_due > settings.heartbeat_interval;
    configurations_pushed = 0;
    configuration_asked = false;
    gossip_due = gossip.next_round(late, acts() ? 0 : peers_per_round_standby);
    for (const auto &[helper, target] : gossip_due->ask)
        send(helper, IndirectProbe{target});
    for (const auto &[asker, target] : gossip_due->deny)
        send(asker, IndirectReply{target, false});
}

std::vector<Node::Impl::Peer> Node::Impl::peers_of_round() {
    if (gossip.at_scale())
        return acts() ? primary_peers() : gossip_peers();
    const bool asks = acts() || rounds % rounds_between_questions == 0;
    const bool answered = std::exchange(answered_leader, false) && rounds % rounds_between_greetings != 0;
    std::vector<NodeId> ids;
    for (const Member &member : configuration().members)
        if (member.id != durable.self && !(answered && member.id == leader))
            ids.push_back(member.id);
    std::vector<Peer> peers;
    for (std::size_t i = 0; i < ids.size(); ++i)
        peers.push_back({ids[turn++ % ids.size()], asks}); // nobody is always the first
    return peers;
}

// All answer a primary, so each of its heartbeats is a probe.  Voters in turn, if they are many.
std::vector<Node::Impl::Peer> Node::Impl::primary_peers() {
    std::vector<NodeId> ids, voters;
    for (const Member &member : configuration().members)
        if (member.voter && member.id != durable.self)
            voters.push_back(member.id);
    const std::size_t served = std::min(voters.size(), peers_per_round_primary - others_per_round_primary);
    for (std::size_t i = 0; i < served; ++i)
        ids.push_back(voters[turn++ % voters.size()]);
    if (gossip_due)
        ids.insert(ids.end(), gossip_due->probe.begin(), gossip_due->probe.end());
    gossip_due.reset();
    std::size_t room = configuration().members.size() - 1;
    for (room = std::min(room, peers_per_round_primary); ids.size() < room;)
        ids.push_back(gossip.next_to_greet());
    std::vector<Peer> peers;
    for (const NodeId id : ids)
        if (std::none_of(peers.begin(), peers.end(), [&](const Peer &peer) { return peer.id == id; }))
            peers.push_back({id, true});
    return peers;
}

std::vector<Node::Impl::Peer> Node::Impl::gossip_peers() {
    std::vector<Peer> peers;
    if (!gossip_due)
        return peers;
    for (const NodeId id : gossip_due->probe)
        peers.push_back({id, true});
    for (const NodeId id : gossip_due->greet)
        peers.push_back({id, false});
    gossip_due.reset();
    return peers;
}

// ---- what ---------------------------------------------------------------------------------------------

// In a small cluster whoever is not known to have it gets the configuration.  In a large one it is long, and what
// is known of most members is old: only voters do not wait until they have shown that they lack it.
bool Node::Impl::lacks_configuration(NodeId to) const {
    if ((!acts() && role != Role::standby) || (gossip.at_scale() && !(acts() && configuration().is_voter(to))))
        return false;
    auto known = stored_versions.find(to);
    return known == stored_versions.end() || known->second < configuration().version;
}

// Links are bulky: the same for all heartbeats of a round.
const std::vector<LinkReport> &Node::Impl::link_reports() {
    if (links_of_round != rounds || links_reported.empty()) {
        links_reported = table.links(configuration(), durable.self, now);
        links_of_round = rounds;
    }
    return links_reported;
}

// News first, then rows in turn; in a large cluster as many as fit.
void Node::Impl::add_news(NodeId to, std::size_t bytes, std::vector<MemberReport> &rows, std::vector<Rumour> &rumours) {
    if (!gossip.at_scale()) {
        rows = table.some_rows(durable.self, to, table_rows_per_heartbeat);
        return;
    }
    rumours = gossip.rumours_for(to, rumours_per_heartbeat);
    bytes += rumours.size() * rumour_bytes;
    const auto add = [&](const MemberReport &row) {
        const bool fits = rows.size() < table_rows_per_heartbeat && bytes + bytes_of(row) <= heartbeat_bytes;
        if (fits) {
            bytes += bytes_of(row);
            rows.push_back(row);
            rows.back().links.clear();
        }
        return fits;
    };
    for (const NodeId id : gossip.newest_rows(table_rows_per_heartbeat)) {
        const MemberTable::Row *row = table.find(id);
        if (!row || id == to || add(row->report))
            gossip.row_passed_on(id);
    }
    const std::size_t more = std::min(rows_in_turn_at_scale, table_rows_per_heartbeat - rows.size());
    for (MemberReport &row : table.some_rows(durable.self, to, more))
        if (!add(row))
            return;
}

void Node::Impl::add_news(NodeId to, Heartbeat &heartbeat) {
    const std::size_t bytes = envelope_bytes + bytes_of(heartbeat.self) + heartbeat.lineage.size() * lineage_entry_bytes;
    add_news(to, bytes, heartbeat.table, heartbeat.rumours);
}

void Node::Impl::add_news(NodeId to, HeartbeatReply &reply) {
    if (gossip.at_scale())
        add_news(to, envelope_bytes + bytes_of(reply.self), reply.table, reply.rumours);
}

// ---- what others say ----------------------------------------------------------------------------------

void Node::Impl::learn(const MemberReport &report) {
    const MemberTable::Learned learned = table.learn(report, now);
    if (!gossip.at_scale())
        return;
    if (learned.changed)
        gossip.changed(report.id);
    if (learned.lives)
        gossip.lives(report.id, {report.incarnation, report.refutations});
}

void Node::Impl::learn(NodeId from, const std::vector<MemberReport> &rows, const std::vector<Rumour> &rumours) {
    for (const MemberReport &report : rows)
        if (report.id != durable.self && configuration().find(report.id))
            learn(report);
    if (!gossip.at_scale())
        return;
    bool refute = false;
    for (const Rumour &rumour : rumours) {
        if (rumour.member == durable.self) {
            refute |= rumour.state != Liveness::alive && gossip.accused(rumour.life);
            continue;
        }
        if (!configuration().find(rumour.member))
            continue;
        const MemberTable::Row *row = table.find(rumour.member);
        const bool just_heard = row && row->heard != long_ago && now - row->heard < 3 * settings.heartbeat_interval;
        if (gossip.told(rumour, row ? row->life : Life{}, just_heard || rumour.member == from))
            table.raise_life(rumour.member, rumour.life);
    }
    if (refute) // at once: the next round of a node that is late may come too late
        for (std::size_t i = 0; i < peers_per_round_standby / 2; ++i)
            greet(gossip.next_to_greet(), false);
}

void Node::Impl::asked(NodeId peer) {
    table.asked(peer);
    const MemberTable::Row *row = table.find(peer);
    if (gossip.at_scale())
        gossip.probing(peer, row ? row->life : Life{});
}

void Node::Impl::greet(NodeId peer, bool with_configuration) {
    Heartbeat heartbeat = make_heartbeat(peer, false);
    if (with_configuration && (acts() || role == Role::standby))
        heartbeat.configuration = configuration();
    send(peer, std::move(heartbeat));
}

// A configuration that the other side has just shown to lack goes over at once, to so many in a round; one that
// this side lacks is asked for by showing so, to one member in a round.
void Node::Impl::compare_configurations(NodeId peer, Version theirs, bool told_ours) {
    if (!gossip.at_scale() || theirs == configuration().version)
        return;
    if (theirs < configuration().version && configurations_pushed < configurations_per_round) {
        ++configurations_pushed;
        greet(peer, true);
    } else if (theirs > configuration().version && !told_ours && !configuration_asked) {
        configuration_asked = true;
        greet(peer, false);
    }
}

// ---- indirect probes ----------------------------------------------------------------------------------

void Node::Impl::heard_from(NodeId peer) {
    for (const NodeId asker : gossip.heard(peer))
        send(asker, IndirectReply{peer, true});
}

void Node::Impl::on_indirect_probe(const Message &message, const IndirectProbe &probe) {
    const MemberTable::Row *row = table.find(probe.target);
    if (probe.target == durable.self || !configuration().find(probe.target))
        return;
    const bool heard = row && row->heard != long_ago && now - row->heard < settings.heartbeat_interval;
    if (heard)
        send(message.from, IndirectReply{probe.target, true});
    else if (gossip.relay(message.from, probe.target))
        send(probe.target, make_heartbeat(probe.target, true));
}

void Node::Impl::on_indirect_reply(const IndirectReply &reply) { gossip.helper_answered(reply.target, reply.reached); }

// ---- who lives ----------------------------------------------------------------------------------------

Liveness Node::Impl::liveness(NodeId id, Instant at) const {
    if (!gossip.at_scale())
        return table.liveness(id, settings, at);
    const MemberTable::Row *row = table.find(id);
    if (!row || row->report.id == NodeId::none)
        return Liveness::unreachable;
    if (row->heard != long_ago && at - row->heard < std::max(settings.heartbeat_interval * 3, settings.lease_duration / 2))
        return Liveness::alive;
    if (gossip.silent(static_cast<std::uint64_t>(settings.lease_duration / settings.heartbeat_interval)))
        return Liveness::unreachable; // nobody is heard: it is this node that is cut off
    return gossip.liveness(id);
}

std::vector<Doubted> Node::Impl::doubts(Instant at) const {
    std::vector<Doubted> out;
    if (gossip.at_scale()) {
        out = gossip.doubts();
        for (Doubted &one : out)
            one.liveness = liveness(one.member, at);
    } else {
        for (const Member &member : configuration().members)
            if (member.id != durable.self)
                out.push_back({member.id, liveness(member.id, at), true});
    }
    std::erase_if(out, [](const Doubted &one) { return one.liveness == Liveness::alive; });
    return out;
}

} // namespace pg_ha
