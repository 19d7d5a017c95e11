// SPDX-License-Identifier: PostgreSQL
//
// peer_gone: told at once when a process died, and never for anything that only looks like it.
#include "support.hpp"

#include <algorithm>
#include <csignal>
#include <iostream>

namespace pg_ha::test {
namespace {

using Clock = std::chrono::steady_clock;

TEST(Evidence, KilledPeerIsGoneWithinMilliseconds) {
    const std::uint16_t port_1 = next_port();
    const std::uint16_t port_2 = next_port();
    std::vector<std::int64_t> times_us;
    for (int round = 0; round < 10; ++round) {
        ChildNode child(2, port_2, {port_1});
        TestNode n1(1, port_1, {port_2});
        n1.open();
        ASSERT_TRUE(until({&n1}, [&] { return !n1.up.empty() && n1.heard_from(2); })) << n1.dump();
        child.signal(SIGKILL);
        const auto begin = Clock::now();
        ASSERT_TRUE(until({&n1}, [&] { return !n1.gone.empty(); }, 2s)) << n1.dump();
        times_us.push_back(std::chrono::duration_cast<std::chrono::microseconds>(Clock::now() - begin).count());
        EXPECT_EQ(static_cast<NodeId>(2), n1.gone[0]);
        until({&n1}, [] { return false; }, 100ms);
        EXPECT_EQ(1U, n1.gone.size()) << "once for one death";
    }
    std::sort(times_us.begin(), times_us.end());
    std::cout << "kill to peer_gone: median " << times_us[5] << " us, worst " << times_us.back() << " us\n";
    EXPECT_LT(times_us[5], 100000);
}

TEST(Evidence, StoppedPeerIsNotGone) {
    const std::uint16_t port_1 = next_port();
    const std::uint16_t port_2 = next_port();
    ChildNode child(2, port_2, {port_1});
    TestNode n1(1, port_1, {port_2});
    n1.open();
    ASSERT_TRUE(until({&n1}, [&] { return !n1.up.empty() && n1.heard_from(2); })) << n1.dump();
    child.signal(SIGSTOP);
    // Long enough for a lease, for the timeouts of half-open links and for fresh attempts.
    until({&n1}, [&] {
        n1.send(2);
        return !n1.gone.empty();
    }, 4s);
    EXPECT_TRUE(n1.gone.empty()) << n1.dump();
    n1.received.clear();
    child.signal(SIGCONT);
    EXPECT_TRUE(until({&n1}, [&] { return n1.heard_from(2); })) << n1.dump();
    child.signal(SIGSTOP);
    child.signal(SIGKILL);
    EXPECT_TRUE(until({&n1}, [&] { return !n1.gone.empty(); }, 3s)) << n1.dump();
}

TEST(Evidence, RestartedPeerIsFoundAndWatchedAgain) {
    const std::uint16_t port_1 = next_port();
    const std::uint16_t port_2 = next_port();
    auto child = std::make_unique<ChildNode>(2, port_2, std::vector{port_1});
    TestNode n1(1, port_1, {port_2});
    n1.open();
    ASSERT_TRUE(until({&n1}, [&] { return !n1.up.empty(); }));
    child->kill();
    ASSERT_TRUE(until({&n1}, [&] { return !n1.gone.empty(); }, 2s));
    TestNode again(2, port_2, {port_1});
    again.open();
    ASSERT_TRUE(until({&n1, &again}, [&] { return n1.up.size() == 2 && !again.up.empty(); }, 3s)) << n1.dump();
    // The second life is watched like the first.
    again.runtime.close();
    ASSERT_TRUE(until({&n1, &again}, [&] { return n1.gone.size() == 2; }, 2s)) << n1.dump();
}

// A peer whose every move is ours.
class Puppet : public ::testing::Test {
protected:
    Puppet() : puppet_(fixed_secret()), inbound_(fixed_secret()), port_(next_port()), node_(1, next_port(), {port_}) {}

    void SetUp() override {
        ASSERT_TRUE(puppet_.listen(port_));
        node_.open();
        answer_dial(puppet_);
        ASSERT_EQ(1U, node_.up.size());
        ASSERT_TRUE(inbound_.connect(node_.options.port));
        ASSERT_TRUE(until({&node_}, [&] { return inbound_.handshake(); }));
        ASSERT_TRUE(inbound_.send_frame(encode(greeting_of(2, "n2", 5))));
        ASSERT_TRUE(until({&node_}, [&] {
            inbound_.receive();
            return !inbound_.frames().empty();
        }));
    }
    void answer_dial(RawPeer &peer) {
        const std::size_t up_before = node_.up.size();
        ASSERT_TRUE(until({&node_}, [&] { return peer.accept(); }));
        ASSERT_TRUE(until({&node_}, [&] { return peer.handshake(); }));
        ASSERT_TRUE(peer.send_frame(encode(Answer{HandshakeRefusal::none, greeting_of(2, "n2", 5)})));
        ASSERT_TRUE(until({&node_}, [&] { return node_.up.size() > up_before; })) << node_.dump();
    }
    void wait(std::chrono::milliseconds time) {
        until({&node_}, [] { return false; }, time);
    }

    RawPeer puppet_;  // the link that the node dialled
    RawPeer inbound_; // the link that the puppet dialled
    std::uint16_t port_;
    TestNode node_;
};

TEST_F(Puppet, ClosedAndRefusedIsGone) {
    puppet_.stop_listening();
    puppet_.hang_up();
    EXPECT_TRUE(until({&node_}, [&] { return !node_.gone.empty(); }, 1s)) << node_.dump();
}

TEST_F(Puppet, ClosedButAcceptingAgainIsNotGone) {
    puppet_.hang_up();
    answer_dial(puppet_);
    wait(300ms);
    EXPECT_TRUE(node_.gone.empty()) << node_.dump();
}

TEST_F(Puppet, ListenerThatDiesAfterTheLinkIsGoneAllTheSame) {
    puppet_.hang_up();
    ASSERT_TRUE(until({&node_}, [&] { return puppet_.accept(); })); // the kernel still accepts
    puppet_.stop_listening();
    puppet_.hang_up();
    EXPECT_TRUE(until({&node_}, [&] { return !node_.gone.empty(); }, 1s)) << node_.dump();
}

TEST_F(Puppet, InboundClosedFirstAndRefusedIsGone) {
    puppet_.stop_listening();
    inbound_.hang_up();
    EXPECT_TRUE(until({&node_}, [&] { return !node_.gone.empty(); }, 1s)) << node_.dump();
    puppet_.hang_up();
    wait(200ms);
    EXPECT_EQ(1U, node_.gone.size()) << "once for one death";
}

TEST_F(Puppet, InboundClosedButListeningIsNotGone) {
    inbound_.hang_up();
    wait(500ms);
    EXPECT_TRUE(node_.gone.empty()) << node_.dump();
    EXPECT_EQ(1U, node_.up.size()) << "the dialled link stands";
}

TEST_F(Puppet, LinkThatIsClosedAgainAndAgainIsDialledInPeace) {
    puppet_.hang_up();
    int dialled = 0;
    bool connected = false;
    until({&node_}, [&] {
        if (!connected && puppet_.accept()) {
            connected = true;
            ++dialled;
        }
        if (connected && puppet_.handshake()) {
            puppet_.send_frame(encode(Answer{HandshakeRefusal::none, greeting_of(2, "n2", 5)}));
            puppet_.hang_up();
            connected = false;
        }
        return false;
    }, 1500ms);
    EXPECT_GT(dialled, 3);
    EXPECT_LT(dialled, 60) << node_.dump();
    EXPECT_TRUE(node_.gone.empty());
    EXPECT_LT(node_.log.size(), 12U + static_cast<std::size_t>(dialled)) << node_.dump();
    puppet_.stop_listening();
    EXPECT_TRUE(until({&node_}, [&] { return !node_.gone.empty(); }, 3s)) << node_.dump();
}

TEST_F(Puppet, SilenceIsNotGone) {
    puppet_.stop_listening();
    wait(1500ms);
    EXPECT_TRUE(node_.gone.empty()) << node_.dump();
}

TEST_F(Puppet, ProtocolErrorIsNotGone) {
    puppet_.stop_listening();
    ASSERT_TRUE(puppet_.send("\xFF\xFF\xFF\xFF"));
    wait(500ms);
    EXPECT_TRUE(node_.gone.empty()) << "we closed that link, not the peer's kernel";
}

} // namespace
} // namespace pg_ha::test
