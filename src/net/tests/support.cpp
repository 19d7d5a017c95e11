// SPDX-License-Identifier: PostgreSQL
//
// See support.hpp.
#include "support.hpp"

#include <arpa/inet.h>
#include <csignal>
#include <fcntl.h>
#include <netinet/in.h>
#include <set>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

namespace pg_ha::test {

namespace {

sockaddr_in loopback(std::uint16_t port) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

bool port_is_free(std::uint16_t port) {
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const int on = 1;
    ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    const sockaddr_in address = loopback(port);
    const bool free = ::bind(fd, reinterpret_cast<const sockaddr *>(&address), sizeof(address)) == 0;
    ::close(fd);
    return free;
}

} // namespace

// Below the range from which outgoing connections take theirs, and apart for runs at the same time.
std::uint16_t next_port() {
    static auto port = static_cast<std::uint16_t>(21000 + ::getpid() % 50 * 200);
    while (!port_is_free(port))
        ++port;
    return port++;
}

ClusterSecret fixed_secret(std::uint64_t cluster, std::uint8_t key) {
    ClusterSecret secret;
    secret.cluster = {cluster, cluster};
    secret.key.fill(key);
    return secret;
}

Message heartbeat(NodeId from, NodeId to, std::size_t table_rows) {
    Heartbeat body;
    body.self.id = from;
    body.self.reason = "following \"n1\"";
    body.table.assign(table_rows, body.self);
    Message message;
    message.cluster = {7, 7};
    message.from = from;
    message.to = to;
    message.body = body;
    return message;
}

TestNode::TestNode(std::uint64_t id, std::uint16_t port, std::vector<std::uint16_t> seeds)
    : runtime(NetCallbacks{[this](const Message &message) {
                               received.push_back(message);
                               if (on_received)
                                   on_received(message);
                           },
                           [this](NodeId peer, const std::string &) { up.push_back(peer); },
                           [this](NodeId peer) { gone.push_back(peer); },
                           [this](NetLogLevel level, const std::string &text) { log.push_back({level, text}); }}) {
    options.secret = fixed_secret();
    options.listen_addresses = {"127.0.0.1"};
    options.port = port;
    for (const std::uint16_t seed : seeds)
        options.seeds.push_back({"127.0.0.1", seed});
    options.self = static_cast<NodeId>(id);
    options.node_name = "n" + std::to_string(id);
    options.system_identifier = 4711;
    options.heartbeat_interval = 50ms;
}

void TestNode::turn() {
    bool over = false;
    runtime.arm(runtime.now() + 1ms, [&over] { over = true; });
    while (!over)
        runtime.run_one();
}

bool TestNode::heard_from(std::uint64_t id) const {
    for (const Message &message : received)
        if (message.from == static_cast<NodeId>(id))
            return true;
    return false;
}

bool TestNode::logged(const std::string &part) const {
    for (const LogLine &line : log)
        if (line.text.find(part) != std::string::npos)
            return true;
    return false;
}

bool TestNode::warned() const {
    for (const LogLine &line : log)
        if (line.level == NetLogLevel::warning)
            return true;
    return false;
}

std::string TestNode::dump() const {
    std::string out = options.node_name + " logged:\n";
    for (const LogLine &line : log)
        out += "  " + line.text + "\n";
    return out;
}

bool until(const std::vector<TestNode *> &nodes, const std::function<bool()> &condition,
           std::chrono::milliseconds patience) {
    const auto end = std::chrono::steady_clock::now() + patience;
    while (!condition()) {
        if (std::chrono::steady_clock::now() > end)
            return false;
        for (TestNode *node : nodes)
            node->turn();
    }
    return true;
}

ChildNode::ChildNode(std::uint64_t id, std::uint16_t port, std::vector<std::uint16_t> seeds) {
    pid_ = ::fork();
    if (pid_ != 0)
        return;
    TestNode node(id, port, std::move(seeds));
    node.open();
    std::set<NodeId> known;
    std::function<void()> beat = [&] {
        known.insert(node.up.begin(), node.up.end());
        for (const NodeId peer : known)
            node.runtime.send(heartbeat(node.options.self, peer));
        node.runtime.arm(node.runtime.now() + 20ms, [&] { beat(); });
    };
    beat();
    while (::getppid() != 1)
        node.runtime.run_one();
    ::_exit(0);
}

ChildNode::~ChildNode() { kill(); }

void ChildNode::signal(int number) const { ::kill(pid_, number); }

void ChildNode::kill() {
    if (pid_ <= 0)
        return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    pid_ = -1;
}

namespace {

void set_non_blocking(int fd) { ::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) | O_NONBLOCK); }

} // namespace

int tcp_connect(std::uint16_t port, const char *to) {
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address = loopback(port);
    address.sin_addr.s_addr = ::inet_addr(to);
    if (::connect(fd, reinterpret_cast<const sockaddr *>(&address), sizeof(address)) != 0) {
        ::close(fd);
        return -1;
    }
    set_non_blocking(fd);
    return fd;
}

bool closed_by_other(int fd) {
    char bytes[256];
    const ssize_t n = ::recv(fd, bytes, sizeof(bytes), 0);
    return n == 0 || (n < 0 && errno != EAGAIN);
}

RawPeer::~RawPeer() {
    hang_up();
    stop_listening();
}

bool RawPeer::listen(std::uint16_t port) {
    listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    const int on = 1;
    ::setsockopt(listener_, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    const sockaddr_in address = loopback(port);
    return ::bind(listener_, reinterpret_cast<const sockaddr *>(&address), sizeof(address)) == 0 &&
           ::listen(listener_, 16) == 0;
}

void RawPeer::stop_listening() {
    if (listener_ >= 0)
        ::close(std::exchange(listener_, -1));
}

bool RawPeer::accept() {
    const int fd = ::accept4(listener_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0)
        return false;
    socket_ = {};
    socket_.fd = fd;
    ssl_ = tls_.accept(socket_);
    reader_ = {};
    reader_.set_limit(frame_bytes_max);
    return true;
}

bool RawPeer::connect(std::uint16_t port) {
    socket_ = {};
    socket_.fd = tcp_connect(port);
    if (socket_.fd < 0)
        return false;
    ssl_ = tls_.dial(socket_);
    reader_ = {};
    reader_.set_limit(frame_bytes_max);
    return true;
}

void RawPeer::hang_up() {
    ssl_.reset();
    if (socket_.fd >= 0)
        ::close(std::exchange(socket_.fd, -1));
}

void RawPeer::collect() {
    if (!socket_.input.empty() || socket_.end)
        return;
    const ssize_t n = ::recv(socket_.fd, received_.data(), received_.size(), 0);
    if (n > 0)
        socket_.input = {received_.data(), static_cast<std::size_t>(n)};
    else if (n == 0)
        socket_.end = true;
    else if (errno != EAGAIN)
        socket_.error = errno;
}

bool RawPeer::handshake() {
    collect();
    return SSL_do_handshake(ssl_.get()) == 1;
}

bool RawPeer::send(const std::string &plaintext) {
    std::size_t written = 0;
    return SSL_write_ex(ssl_.get(), plaintext.data(), plaintext.size(), &written) == 1 && written == plaintext.size();
}

bool RawPeer::send_frame(const std::string &payload) {
    std::string bytes;
    append_frame(bytes, payload);
    return send(bytes);
}

bool RawPeer::receive() {
    char bytes[16384];
    for (;;) {
        std::size_t size = 0;
        collect();
        const int result = SSL_read_ex(ssl_.get(), bytes, sizeof(bytes), &size);
        if (result != 1)
            return SSL_get_error(ssl_.get(), result) == SSL_ERROR_WANT_READ;
        reader_.feed({bytes, size}, [this](std::string_view payload) {
            frames_.emplace_back(payload);
            return true;
        });
    }
}

std::vector<std::string> RawPeer::frames() { return std::exchange(frames_, {}); }

Greeting greeting_of(std::uint64_t id, const std::string &name, std::uint64_t nonce, std::uint64_t cluster) {
    Greeting greeting;
    greeting.cluster = {cluster, cluster};
    greeting.id = static_cast<NodeId>(id);
    greeting.name = name;
    greeting.system_identifier = 4711;
    greeting.nonce = nonce;
    return greeting;
}

} // namespace pg_ha::test
