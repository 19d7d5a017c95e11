// SPDX-License-Identifier: PostgreSQL
//
// Nodes that behave: they find each other, talk, answer, refuse by the rules, and come back.
#include "support.hpp"

#include <sys/eventfd.h>
#include <unistd.h>

namespace pg_ha::test {
namespace {

TEST(Runtime, TwoNodesTalkBothWays) {
    const std::uint16_t port_1 = next_port();
    const std::uint16_t port_2 = next_port();
    TestNode n1(1, port_1, {port_2});
    TestNode n2(2, port_2, {port_1});
    n1.open();
    n2.open();
    ASSERT_TRUE(until({&n1, &n2}, [&] { return !n1.up.empty() && !n2.up.empty(); })) << n1.dump() << n2.dump();
    EXPECT_EQ(static_cast<NodeId>(2), n1.up[0]);
    n1.send(2);
    n2.send(1);
    ASSERT_TRUE(until({&n1, &n2}, [&] { return n2.heard_from(1) && n1.heard_from(2); }));
    EXPECT_FALSE(n1.warned() || n2.warned()) << n1.dump() << n2.dump();
    EXPECT_TRUE(n1.logged("connected to peer \"n2\""));
}

TEST(Runtime, ManyAndLargeMessagesArriveInOrder) {
    const std::uint16_t port_1 = next_port();
    const std::uint16_t port_2 = next_port();
    TestNode n1(1, port_1, {port_2});
    TestNode n2(2, port_2);
    n1.open();
    n2.open();
    ASSERT_TRUE(until({&n1, &n2}, [&] { return !n1.up.empty(); }));
    for (std::uint32_t i = 0; i < 200; ++i) {
        Message message = heartbeat(static_cast<NodeId>(1), static_cast<NodeId>(2), i % 33);
        message.term = static_cast<Term>(i);
        n1.runtime.send(message);
    }
    ASSERT_TRUE(until({&n1, &n2}, [&] { return n2.received.size() == 200; })) << n2.received.size();
    for (std::uint32_t i = 0; i < 200; ++i) {
        ASSERT_EQ(static_cast<Term>(i), n2.received[i].term);
        ASSERT_EQ(i % 33, std::get<Heartbeat>(n2.received[i].body).table.size());
    }
}

TEST(Runtime, FlushHandsEverythingToTheKernel) {
    const std::uint16_t port_1 = next_port();
    const std::uint16_t port_2 = next_port();
    auto n1 = std::make_unique<TestNode>(1, port_1, std::vector{port_2});
    TestNode n2(2, port_2);
    n1->open();
    n2.open();
    ASSERT_TRUE(until({n1.get(), &n2}, [&] { return !n1->up.empty(); }));
    n1->send(2);
    n1->runtime.flush(100ms);
    n1.reset(); // the process ends right after its last word
    ASSERT_TRUE(until({&n2}, [&] { return n2.heard_from(1); }));
}

TEST(Runtime, AnswersTravelOnTheInboundLinkWhenThereIsNoOther) {
    const std::uint16_t port_1 = next_port();
    TestNode n1(1, port_1);
    TestNode n2(2, next_port(), {port_1});
    n1.open();
    n2.open();
    ASSERT_TRUE(until({&n1, &n2}, [&] { return !n2.up.empty(); }));
    n2.send(1);
    ASSERT_TRUE(until({&n1, &n2}, [&] { return n1.heard_from(2); }));
    EXPECT_TRUE(n1.up.empty());
    n1.send(2);
    ASSERT_TRUE(until({&n1, &n2}, [&] { return n2.heard_from(1); }));
}

TEST(Runtime, UnknownReceiversAreDropped) {
    TestNode n1(1, next_port());
    n1.send(9);
    n1.open();
    n1.send(9);
    n1.turn();
    EXPECT_FALSE(n1.warned()) << n1.dump();
}

TEST(Runtime, MembersAreDialledAndDroppedAsTheConfigurationSays) {
    const std::uint16_t port_1 = next_port();
    const std::uint16_t port_2 = next_port();
    TestNode n1(1, port_1);
    TestNode n2(2, port_2);
    n1.open();
    n2.open();
    Member self;
    self.id = static_cast<NodeId>(1);
    self.peer = {"127.0.0.1", port_1};
    Member other;
    other.id = static_cast<NodeId>(2);
    other.peer = {"localhost", port_2};
    n1.runtime.set_peers({self, other});
    ASSERT_TRUE(until({&n1, &n2}, [&] { return n1.up == std::vector{static_cast<NodeId>(2)}; })) << n1.dump();
    n1.runtime.set_peers({self, other});
    n1.runtime.set_peers({self});
    n1.send(2);
    n1.runtime.set_peers({self, other});
    ASSERT_TRUE(until({&n1, &n2}, [&] { return n1.up.size() == 2; }));
    EXPECT_FALSE(n2.heard_from(1));
    EXPECT_TRUE(n1.gone.empty() && n2.gone.empty());
}

TEST(Runtime, OwnAddressAmongTheSeedsIsNoPeer) {
    const std::uint16_t port_1 = next_port();
    const std::uint16_t port_2 = next_port();
    TestNode n1(1, port_1, {port_1, port_2});
    TestNode n2(2, port_2);
    n1.open();
    n2.open();
    ASSERT_TRUE(until({&n1, &n2}, [&] { return !n1.up.empty(); }));
    until({&n1, &n2}, [] { return false; }, 300ms);
    EXPECT_EQ(std::vector{static_cast<NodeId>(2)}, n1.up);
    EXPECT_FALSE(n1.warned()) << n1.dump();
}

TEST(Runtime, TwoNamesOfOnePeerMakeOneLink) {
    const std::uint16_t port_1 = next_port();
    TestNode n1(1, port_1);
    TestNode n2(2, next_port());
    n2.options.seeds = {{"localhost", port_1}, {"127.0.0.1", port_1}};
    n1.open();
    n2.open();
    ASSERT_TRUE(until({&n1, &n2}, [&] { return !n2.up.empty(); }));
    until({&n1, &n2}, [] { return false; }, 700ms);
    EXPECT_EQ(1U, n2.up.size()) << n2.dump();
    n2.send(1);
    ASSERT_TRUE(until({&n1, &n2}, [&] { return n1.heard_from(2); }));
    EXPECT_EQ(1U, n1.received.size());
}

TEST(Runtime, PeerThatOpensLaterIsFound) {
    const std::uint16_t port_2 = next_port();
    TestNode n1(1, next_port(), {port_2});
    TestNode n2(2, port_2);
    n1.open();
    until({&n1}, [] { return false; }, 200ms);
    EXPECT_TRUE(n1.gone.empty()) << "it was never there";
    n2.open();
    ASSERT_TRUE(until({&n1, &n2}, [&] { return !n1.up.empty(); }, 3s));
}

TEST(Runtime, LinkComesBackAfterARestart) {
    const std::uint16_t port_1 = next_port();
    const std::uint16_t port_2 = next_port();
    TestNode n1(1, port_1, {port_2});
    auto n2 = std::make_unique<TestNode>(2, port_2, std::vector{port_1});
    n1.open();
    n2->open();
    ASSERT_TRUE(until({&n1, n2.get()}, [&] { return !n1.up.empty() && !n2->up.empty(); }));
    n2 = nullptr;
    ASSERT_TRUE(until({&n1}, [&] { return !n1.gone.empty(); }));
    n2 = std::make_unique<TestNode>(2, port_2, std::vector{port_1});
    n2->open();
    ASSERT_TRUE(until({&n1, n2.get()}, [&] { return n1.up.size() == 2 && !n2->up.empty(); }, 3s)) << n1.dump();
    n1.send(2);
    n2->send(1);
    ASSERT_TRUE(until({&n1, n2.get()}, [&] { return n2->heard_from(1) && n1.heard_from(2); }));
    EXPECT_EQ(1U, n1.gone.size());
}

TEST(Runtime, CallbackMayCloseTheNetwork) {
    const std::uint16_t port_1 = next_port();
    TestNode n1(1, port_1);
    TestNode n2(2, next_port(), {port_1});
    n1.open();
    n2.open();
    n1.on_received = [&](const Message &) { n1.runtime.close(); };
    ASSERT_TRUE(until({&n1, &n2}, [&] { return !n2.up.empty(); }));
    for (int i = 0; i < 5; ++i)
        n2.send(1);
    ASSERT_TRUE(until({&n1, &n2}, [&] { return !n1.runtime.is_open(); }));
    EXPECT_EQ(1U, n1.received.size());
    ASSERT_TRUE(until({&n1, &n2}, [&] { return !n2.gone.empty(); }));
    n1.on_received = nullptr;
    n1.open();
    ASSERT_TRUE(until({&n1, &n2}, [&] { return n2.up.size() == 2; }, 3s));
}

TEST(Runtime, OccupiedPortIsAnErrorThatNamesIt) {
    const std::uint16_t port = next_port();
    TestNode n1(1, port);
    TestNode n2(2, port);
    n1.open();
    try {
        n2.open();
        FAIL() << "two listeners on one port";
    } catch (const std::system_error &error) {
        EXPECT_NE(std::string::npos, std::string(error.what()).find(std::to_string(port))) << error.what();
    }
    EXPECT_FALSE(n2.runtime.is_open());
    n2.options.listen_addresses = {"db1.example.com"};
    EXPECT_THROW(n2.open(), std::system_error);
}

TEST(Runtime, StarListensOnEveryAddress) {
    const std::uint16_t port = next_port();
    TestNode n1(1, port);
    n1.options.listen_addresses = {"*"};
    TestNode n2(2, next_port(), {port});
    n1.open();
    n2.open();
    ASSERT_TRUE(until({&n1, &n2}, [&] { return !n2.up.empty(); }));
}

TEST(Runtime, WatchesAndTheTimerWorkWithoutANetwork) {
    TestNode n1(1, next_port());
    const int event = ::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    int ready = 0;
    n1.runtime.watch(event, [&] {
        if (++ready < 3)
            return; // input left where it is must be told of again
        eventfd_t value = 0;
        ::eventfd_read(event, &value);
    });
    ::eventfd_write(event, 1);
    const Instant begin = n1.runtime.now();
    bool early = false;
    bool expired = false;
    n1.runtime.arm(begin + 10ms, [&] { early = true; });
    n1.runtime.arm(begin + 40ms, [&] { expired = true; }); // replaces
    while (!expired)
        n1.runtime.run_one();
    EXPECT_GE(n1.runtime.now() - begin, Duration(40ms));
    EXPECT_FALSE(early);
    EXPECT_EQ(3, ready);
    bool past = false;
    n1.runtime.arm(begin, [&] { past = true; });
    while (!past)
        n1.runtime.run_one();
    ::close(event);
}

TEST(Runtime, ExceptionFromAWatchReachesTheCaller) {
    TestNode n1(1, next_port());
    const int event = ::eventfd(1, EFD_NONBLOCK | EFD_CLOEXEC);
    int calls = 0;
    n1.runtime.watch(event, [&] {
        if (++calls == 1)
            throw std::runtime_error("from the caller's own code");
        eventfd_t value = 0;
        ::eventfd_read(event, &value);
    });
    EXPECT_THROW(n1.runtime.run_one(), std::runtime_error);
    until({&n1}, [&] { return calls == 2; });
    EXPECT_EQ(2, calls);
    ::close(event);
}

// ---- refusals: one clear line on both sides --------------------------------------------------------

struct RefusalCase {
    std::string title;
    std::function<void(NetOptions &)> change; // of the dialling node 2
    std::string listener_says;
    std::string dialler_says;
};

class Refusals : public ::testing::TestWithParam<RefusalCase> {};

TEST_P(Refusals, AreLoggedOnBothSides) {
    const RefusalCase &param = GetParam();
    const std::uint16_t port_1 = next_port();
    TestNode n1(1, port_1);
    TestNode n2(2, next_port(), {port_1});
    param.change(n2.options);
    n1.open();
    n2.open();
    ASSERT_TRUE(until({&n1, &n2}, [&] { return n1.warned() && n2.warned(); })) << n1.dump() << n2.dump();
    EXPECT_TRUE(n1.logged(param.listener_says)) << n1.dump();
    EXPECT_TRUE(n2.logged(param.dialler_says)) << n2.dump();
    EXPECT_TRUE(n1.up.empty() && n2.up.empty());
    EXPECT_TRUE(n1.gone.empty() && n2.gone.empty());
    // Retries don't fill the log.
    until({&n1, &n2}, [] { return false; }, 1500ms);
    for (const TestNode *node : {&n1, &n2}) {
        int warnings = 0;
        for (const LogLine &line : node->log)
            warnings += line.level == NetLogLevel::warning ? 1 : 0;
        EXPECT_EQ(1, warnings) << node->dump();
    }
}

INSTANTIATE_TEST_SUITE_P(
    Handshake, Refusals,
    ::testing::Values(
        RefusalCase{"wrong_secret", [](NetOptions &o) { o.secret = fixed_secret(7, 2); },
                    "its cluster secret differs from ours", "its cluster secret differs from ours"},
        RefusalCase{"another_cluster", [](NetOptions &o) { o.secret = fixed_secret(8, 2); },
                    "it belongs to another cluster", "it does not know this cluster"},
        RefusalCase{"name_in_use", [](NetOptions &o) { o.node_name = "n1"; }, "both servers have pg_ha.node_name \"n1\"",
                    "it refused this node: both servers have pg_ha.node_name \"n1\""},
        RefusalCase{"cloned_identity", [](NetOptions &o) { o.self = static_cast<NodeId>(1); },
                    "both servers have the same node identity", "both servers have the same node identity"},
        RefusalCase{"other_database_system", [](NetOptions &o) { o.system_identifier = 4712; },
                    "its database system identifier is 4712, here it is 4711",
                    "its database system identifier is 4711, here it is 4712"}),
    [](const auto &info) { return info.param.title; });

TEST(Runtime, WitnessWithoutDataIsWelcome) {
    const std::uint16_t port_1 = next_port();
    TestNode n1(1, port_1);
    TestNode n2(2, next_port(), {port_1});
    n2.options.system_identifier = 0;
    n1.open();
    n2.open();
    ASSERT_TRUE(until({&n1, &n2}, [&] { return !n2.up.empty(); })) << n2.dump();
}

TEST(Runtime, SecondProcessWithTheSameIdentityIsRefused) {
    const std::uint16_t port_1 = next_port();
    TestNode n1(1, port_1);
    TestNode n2(2, next_port(), {port_1});
    TestNode copy(2, next_port(), {port_1});
    n1.open();
    n2.open();
    ASSERT_TRUE(until({&n1, &n2}, [&] { return !n2.up.empty(); }));
    copy.open();
    ASSERT_TRUE(until({&n1, &n2, &copy}, [&] {
        n2.send(1);
        return copy.warned();
    })) << copy.dump();
    EXPECT_TRUE(n1.logged("two running processes have the identity of node \"n2\"")) << n1.dump();
    EXPECT_TRUE(copy.logged("The state directory was copied")) << copy.dump();
    EXPECT_TRUE(copy.up.empty());
    EXPECT_TRUE(until({&n1, &n2}, [&] { return n1.heard_from(2); })) << "the first one must not suffer";
}

} // namespace
} // namespace pg_ha::test
