// SPDX-License-Identifier: PostgreSQL
//
// What the network tests share: nodes that run in this thread by turns, nodes in a process of their
// own that can be killed or stopped, and a raw peer that knows the secret but not the manners.
// Nothing sleeps blindly: until() runs everybody until a condition holds or patience ends.
#pragma once

#include "agent/codec.hpp"
#include "net/framing.hpp"
#include "net/handshake.hpp"
#include "net/runtime.hpp"
#include "net/tls_psk.hpp"

#include <gtest/gtest.h>

#include <array>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <sys/types.h>
#include <vector>

namespace pg_ha::test {

using namespace std::chrono_literals;

std::uint16_t next_port(); // free, each once
ClusterSecret fixed_secret(std::uint64_t cluster = 7, std::uint8_t key = 1);
Message heartbeat(NodeId from, NodeId to, std::size_t table_rows = 0);

struct LogLine {
    NetLogLevel level;
    std::string text;
};

// A runtime with everything it told us.
class TestNode {
public:
    TestNode(std::uint64_t id, std::uint16_t port, std::vector<std::uint16_t> seeds = {});

    NetOptions options;
    std::vector<Message> received;
    std::vector<NodeId> up;
    std::vector<NodeId> gone;
    std::vector<LogLine> log;
    std::function<void(const Message &)> on_received;
    Runtime runtime;

    void open() { runtime.open(options); }
    void turn(); // handle what is ready, wait for at most a millisecond
    void send(std::uint64_t to) { runtime.send(heartbeat(options.self, static_cast<NodeId>(to))); }
    bool heard_from(std::uint64_t id) const;
    bool logged(const std::string &part) const;
    bool warned() const;
    std::string dump() const;
};

// True as soon as condition() holds; false after `patience`.
bool until(const std::vector<TestNode *> &nodes, const std::function<bool()> &condition,
           std::chrono::milliseconds patience = 5s);

// A node in a child process that sends a heartbeat to everybody it knows every 20 ms.
// Start it before any TestNode, or it would inherit that node's sockets.
class ChildNode {
public:
    ChildNode(std::uint64_t id, std::uint16_t port, std::vector<std::uint16_t> seeds);
    ~ChildNode();
    void signal(int number) const;
    void kill();

private:
    pid_t pid_ = -1;
};

// A TCP connection of ours with TLS by the secret on it, driven by hand.
class RawPeer {
public:
    explicit RawPeer(const ClusterSecret &secret) : tls_(secret) {}
    ~RawPeer();

    bool listen(std::uint16_t port);
    void stop_listening();
    bool accept();                     // true once somebody connected
    bool connect(std::uint16_t port);
    void hang_up();
    bool handshake();                  // true once TLS is done
    bool send(const std::string &plaintext);
    bool send_frame(const std::string &payload);
    bool receive();                    // collect what is there; false: the other side closed
    std::vector<std::string> frames(); // complete ones collected so far
    const SSL *ssl() const { return ssl_.get(); }

private:
    void collect();

    TlsPsk tls_;
    std::array<char, 16384> received_;
    TlsSocket socket_;
    SslPtr ssl_;
    FrameReader reader_;
    std::vector<std::string> frames_;
    int listener_ = -1;
};

Greeting greeting_of(std::uint64_t id, const std::string &name, std::uint64_t nonce, std::uint64_t cluster = 7);
int tcp_connect(std::uint16_t port, const char *address = "127.0.0.1"); // blocking connect, then non-blocking; -1: refused
bool closed_by_other(int fd);

} // namespace pg_ha::test
