// SPDX-License-Identifier: PostgreSQL
//
// Strangers and peers that misbehave: they are cut off in time, cost little, and harm nobody else.
#include "support.hpp"

#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

namespace pg_ha::test {
namespace {

// A raw peer that finished TLS and the greeting with this node.
std::unique_ptr<RawPeer> admitted_peer(TestNode &node, const Greeting &greeting) {
    auto peer = std::make_unique<RawPeer>(fixed_secret());
    if (!peer->connect(node.options.port) || !until({&node}, [&] { return peer->handshake(); }) ||
        !peer->send_frame(encode(greeting)))
        return nullptr;
    std::vector<std::string> answers;
    const bool answered = until({&node}, [&] {
        peer->receive();
        answers = peer->frames();
        return !answers.empty();
    });
    if (!answered || decode_answer(answers[0])->refusal != HandshakeRefusal::none)
        return nullptr;
    return peer;
}

bool cut_off(TestNode &node, RawPeer &peer, std::chrono::milliseconds patience = 5s) {
    return until({&node}, [&] { return !peer.receive(); }, patience);
}

TEST(Hostile, PlaintextIsRefused) {
    TestNode n1(1, next_port());
    n1.open();
    const int fd = tcp_connect(n1.options.port);
    const std::string request = "GET / HTTP/1.0\r\n\r\n";
    ASSERT_EQ(static_cast<ssize_t>(request.size()), ::send(fd, request.data(), request.size(), 0));
    ASSERT_TRUE(until({&n1}, [&] { return closed_by_other(fd); }));
    EXPECT_TRUE(n1.logged("Only pg_ha nodes should connect")) << n1.dump();
    ::close(fd);
}

TEST(Hostile, TlsWithoutTheSecretIsRefused) {
    TestNode n1(1, next_port());
    n1.open();
    const std::unique_ptr<SSL_CTX, decltype(&SSL_CTX_free)> context(SSL_CTX_new(TLS_client_method()), &SSL_CTX_free);
    const SslPtr ssl(SSL_new(context.get()));
    const int fd = tcp_connect(n1.options.port);
    SSL_set_fd(ssl.get(), fd);
    int error = 0;
    ASSERT_TRUE(until({&n1}, [&] {
        const int result = SSL_connect(ssl.get());
        error = SSL_get_error(ssl.get(), result);
        return result == 1 || (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE);
    }));
    EXPECT_EQ(SSL_ERROR_SSL, error);
    EXPECT_TRUE(until({&n1}, [&] { return n1.warned(); }));
    ::close(fd);
}

TEST(Hostile, EveryLinkHasForwardSecrecyAndNoTickets) {
    TestNode n1(1, next_port());
    n1.open();
    const auto peer = admitted_peer(n1, greeting_of(2, "n2", 5));
    ASSERT_NE(nullptr, peer);
    EXPECT_TRUE(TlsPsk::secured(peer->ssl()));
    EXPECT_NE(NID_undef, SSL_get_negotiated_group(const_cast<SSL *>(peer->ssl()))) << "key without (EC)DHE";
    EXPECT_STREQ("TLS_AES_128_GCM_SHA256", SSL_get_cipher_name(peer->ssl()));
    EXPECT_EQ(nullptr, SSL_get0_peer_certificate(peer->ssl()));
    EXPECT_EQ(0, SSL_SESSION_has_ticket(SSL_get_session(peer->ssl())));
}

TEST(Hostile, ServerWithoutTheSecretIsRefused) {
    const std::uint16_t port = next_port();
    RawPeer impostor(fixed_secret(7, 9));
    ASSERT_TRUE(impostor.listen(port));
    TestNode n1(1, next_port(), {port});
    n1.open();
    ASSERT_TRUE(until({&n1}, [&] { return impostor.accept(); }));
    ASSERT_TRUE(until({&n1}, [&] {
        impostor.handshake();
        return n1.warned();
    })) << n1.dump();
    EXPECT_TRUE(n1.up.empty());
}

TEST(Hostile, SilentConnectionIsCutInTime) {
    TestNode n1(1, next_port());
    n1.open();
    const int fd = tcp_connect(n1.options.port);
    const auto begin = std::chrono::steady_clock::now();
    ASSERT_TRUE(until({&n1}, [&] { return closed_by_other(fd); }, 4s));
    EXPECT_GE(std::chrono::steady_clock::now() - begin, 1900ms);
    ::close(fd);
}

TEST(Hostile, ByteByByteHandshakeIsCutInTime) {
    TestNode n1(1, next_port());
    n1.open();
    const int fd = tcp_connect(n1.options.port);
    const char start_of_a_hello[] = {0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0x00};
    std::size_t sent = 0;
    auto next = std::chrono::steady_clock::now();
    ASSERT_TRUE(until({&n1}, [&] {
        if (std::chrono::steady_clock::now() >= next && sent < sizeof(start_of_a_hello)) {
            ::send(fd, start_of_a_hello + sent++, 1, MSG_NOSIGNAL);
            next += 250ms;
        }
        return closed_by_other(fd);
    }, 4s));
    ::close(fd);
}

TEST(Hostile, SecuredButSilentPeerIsCutInTime) {
    TestNode n1(1, next_port());
    n1.open();
    RawPeer peer(fixed_secret());
    ASSERT_TRUE(peer.connect(n1.options.port));
    ASSERT_TRUE(until({&n1}, [&] { return peer.handshake(); }));
    EXPECT_TRUE(cut_off(n1, peer, 4s));
}

TEST(Hostile, HalfAFrameIsCutInTime) {
    TestNode n1(1, next_port());
    n1.open();
    const auto peer = admitted_peer(n1, greeting_of(2, "n2", 5));
    ASSERT_NE(nullptr, peer);
    ASSERT_TRUE(peer->send(std::string("\0\0\x10\0abc", 7)));
    EXPECT_TRUE(cut_off(n1, *peer, 4s));
}

TEST(Hostile, SlowButWholeFramesAreFine) {
    TestNode n1(1, next_port());
    n1.open();
    const auto peer = admitted_peer(n1, greeting_of(2, "n2", 5));
    ASSERT_NE(nullptr, peer);
    // Every write ends inside a frame for longer than a frame may take, but no frame takes that long.
    std::string stream;
    for (int i = 0; i < 12; ++i)
        append_frame(stream, encode(heartbeat(static_cast<NodeId>(2), static_cast<NodeId>(1))));
    const std::size_t chunk = stream.size() / 12;
    auto next = std::chrono::steady_clock::now();
    ASSERT_TRUE(until({&n1}, [&] {
        if (std::chrono::steady_clock::now() >= next && !stream.empty()) {
            const std::size_t size = stream.size() > 11 * chunk ? chunk / 2 : std::min(chunk, stream.size());
            peer->send(stream.substr(0, size));
            stream.erase(0, size);
            next += 250ms;
        }
        return n1.received.size() == 12;
    }, 6s)) << n1.received.size() << n1.dump();
}

// The address sanitizer keeps freed memory, so there is nothing to be seen under it.
long resident_kib() {
#ifdef __SANITIZE_ADDRESS__
    return 0;
#endif
    rusage usage{};
    ::getrusage(RUSAGE_SELF, &usage);
    return usage.ru_maxrss;
}

TEST(Hostile, OversizedFrameClosesTheLinkWithoutAllocation) {
    TestNode n1(1, next_port());
    n1.open();
    const auto peer = admitted_peer(n1, greeting_of(2, "n2", 5));
    ASSERT_NE(nullptr, peer);
    const long before = resident_kib();
    ASSERT_TRUE(peer->send("\xFF\xFF\xFF\xFF"));
    EXPECT_TRUE(cut_off(n1, *peer, 1s));
    EXPECT_LT(resident_kib() - before, 4096);
}

TEST(Hostile, LargeFrameBeforeTheGreetingIsRefused) {
    TestNode n1(1, next_port());
    n1.open();
    RawPeer peer(fixed_secret());
    ASSERT_TRUE(peer.connect(n1.options.port));
    ASSERT_TRUE(until({&n1}, [&] { return peer.handshake(); }));
    ASSERT_TRUE(peer.send(std::string("\0\0\x04\x01", 4)));
    EXPECT_TRUE(cut_off(n1, peer, 1s));
}

TEST(Hostile, NobodySpeaksForAnother) {
    TestNode n1(1, next_port());
    n1.open();
    Message forged = heartbeat(static_cast<NodeId>(3), static_cast<NodeId>(1));
    Message misdirected = heartbeat(static_cast<NodeId>(2), static_cast<NodeId>(4));
    Message foreign = heartbeat(static_cast<NodeId>(2), static_cast<NodeId>(1));
    foreign.cluster = {8, 8};
    std::uint64_t nonce = 5;
    for (const Message &message : {forged, misdirected, foreign}) {
        const auto peer = admitted_peer(n1, greeting_of(2, "n2", nonce));
        ASSERT_NE(nullptr, peer);
        ASSERT_TRUE(peer->send_frame(encode(message)));
        EXPECT_TRUE(cut_off(n1, *peer, 1s));
    }
    EXPECT_TRUE(n1.received.empty());
    EXPECT_TRUE(n1.logged("closed the link with peer \"n2\"")) << n1.dump();
}

TEST(Hostile, MessageThatIsNotUnderstoodIsSkipped) {
    TestNode n1(1, next_port());
    n1.open();
    const auto peer = admitted_peer(n1, greeting_of(2, "n2", 5));
    ASSERT_NE(nullptr, peer);
    ASSERT_TRUE(peer->send_frame("rubbish"));
    ASSERT_TRUE(peer->send_frame(encode(heartbeat(static_cast<NodeId>(2), static_cast<NodeId>(1)))));
    EXPECT_TRUE(until({&n1}, [&] { return n1.heard_from(2); }));
}

TEST(Hostile, NewerVersionIsRefusedWithAReason) {
    TestNode n1(1, next_port());
    n1.open();
    RawPeer peer(fixed_secret());
    ASSERT_TRUE(peer.connect(n1.options.port));
    ASSERT_TRUE(until({&n1}, [&] { return peer.handshake(); }));
    Greeting greeting = greeting_of(2, "n2", 5);
    greeting.version_min = greeting.version_max = protocol_version_max + 1;
    ASSERT_TRUE(peer.send_frame(encode(greeting)));
    std::vector<std::string> answers;
    ASSERT_TRUE(until({&n1}, [&] {
        peer.receive();
        answers = peer.frames();
        return !answers.empty();
    }));
    EXPECT_EQ(HandshakeRefusal::version, decode_answer(answers[0])->refusal);
    EXPECT_TRUE(n1.logged("no common protocol version")) << n1.dump();
}

TEST(Hostile, StrangersAreLimitedAndMembersStillGetIn) {
    TestNode n1(1, next_port());
    n1.open();
    std::vector<int> strangers;
    for (int i = 0; i < 80; ++i)
        strangers.push_back(tcp_connect(n1.options.port));
    const auto count_closed = [&] {
        std::size_t closed = 0;
        for (const int fd : strangers)
            closed += closed_by_other(fd) ? 1 : 0;
        return closed;
    };
    ASSERT_TRUE(until({&n1}, [&] { return count_closed() == 16; }, 1500ms)) << count_closed();
    EXPECT_TRUE(n1.logged("too many connections")) << n1.dump();
    // Their time is limited too, so a member waits two seconds at the worst.
    TestNode n2(2, next_port(), {n1.options.port});
    n2.open();
    EXPECT_TRUE(until({&n1, &n2}, [&] { return !n2.up.empty(); }, 6s)) << n2.dump();
    for (const int fd : strangers)
        ::close(fd);
}

// Every descriptor in use, at both doors at once: each goes on by itself when there are some again.
TEST(Hostile, NoDoorStaysShutForWantOfDescriptors) {
    TestNode n1(1, next_port());
    n1.options.listen_addresses = {"127.0.0.1", "127.0.0.2"};
    n1.open();
    const int first = tcp_connect(n1.options.port), second = tcp_connect(n1.options.port, "127.0.0.2");
    rlimit before{};
    ASSERT_EQ(0, ::getrlimit(RLIMIT_NOFILE, &before));
    const rlimit none{0, before.rlim_max};
    ASSERT_EQ(0, ::setrlimit(RLIMIT_NOFILE, &none));
    const bool noticed = until({&n1}, [&] { return n1.logged("could not accept a connection"); });
    until({&n1}, [] { return false; }, 300ms); // both doors have tried, more than once
    ASSERT_EQ(0, ::setrlimit(RLIMIT_NOFILE, &before));
    EXPECT_TRUE(noticed) << n1.dump();
    for (const int fd : {first, second}) {
        EXPECT_EQ(18, ::send(fd, "GET / HTTP/1.0\r\n\r\n", 18, 0));
        EXPECT_TRUE(until({&n1}, [&] { return closed_by_other(fd); })) << (fd == first ? "first" : "second");
        ::close(fd);
    }
}

TEST(Hostile, PeerThatDoesNotReadCostsABoundedQueue) {
    const std::uint16_t port = next_port();
    RawPeer deaf(fixed_secret());
    ASSERT_TRUE(deaf.listen(port));
    TestNode n1(1, next_port(), {port});
    n1.options.heartbeat_interval = 1s;
    n1.open();
    ASSERT_TRUE(until({&n1}, [&] { return deaf.accept(); }));
    ASSERT_TRUE(until({&n1}, [&] { return deaf.handshake(); }));
    ASSERT_TRUE(deaf.send_frame(encode(Answer{HandshakeRefusal::none, greeting_of(2, "n2", 5)})));
    ASSERT_TRUE(until({&n1}, [&] { return !n1.up.empty(); }));
    const long before = resident_kib();
    std::uint32_t term = 0;
    for (int round = 0; round < 400; ++round) {
        for (int i = 0; i < 50; ++i) {
            Message message = heartbeat(static_cast<NodeId>(1), static_cast<NodeId>(2), 30);
            message.term = static_cast<Term>(term++);
            n1.runtime.send(message);
        }
        n1.runtime.flush(0ms);
    }
    EXPECT_LT(resident_kib() - before, 16 * 1024);
    // What was accepted arrives whole and in order once the peer reads again.
    std::vector<std::string> frames;
    std::size_t decoded = 0;
    std::int64_t last = -1;
    until({&n1}, [&] {
        const bool open = deaf.receive();
        frames = deaf.frames();
        for (const std::string &frame : frames) {
            const std::optional<Message> message = decode_message(frame);
            if (!message)
                continue; // the greeting
            ++decoded;
            EXPECT_GT(static_cast<std::int64_t>(raw(message->term)), last);
            last = raw(message->term);
        }
        return !open || (frames.empty() && decoded > 0);
    });
    EXPECT_GT(decoded, 100U);
    EXPECT_LT(decoded, 20000U);
    EXPECT_FALSE(n1.warned()) << n1.dump();
}

} // namespace
} // namespace pg_ha::test
