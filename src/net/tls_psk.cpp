// SPDX-License-Identifier: PostgreSQL
//
// OpenSSL set up as tls_psk.hpp says.  The socket BIO is our own for two reasons: send() with
// MSG_NOSIGNAL (a library may not rely on SIGPIPE being ignored), and the exact errno, from which
// links tell a peer that is gone from a peer that is silent.
#include "tls_psk.hpp"

#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/err.h>

#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <sys/socket.h>

namespace pg_ha {

namespace {

constexpr unsigned char tls_aes_128_gcm_sha256[] = {0x13, 0x01};

std::string last_reason() {
    const char *reason = ERR_reason_error_string(ERR_peek_last_error());
    return reason != nullptr ? reason : "unknown error";
}

int bio_write(BIO *bio, const char *data, int size) {
    auto &socket = *static_cast<TlsSocket *>(BIO_get_data(bio));
    BIO_clear_retry_flags(bio);
    const ssize_t n = ::send(socket.fd, data, static_cast<std::size_t>(size), MSG_NOSIGNAL);
    if (n < 0) {
        if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)
            BIO_set_retry_write(bio);
        else
            socket.error = errno;
        return -1;
    }
    return static_cast<int>(n);
}

int bio_read(BIO *bio, char *data, int size) {
    auto &socket = *static_cast<TlsSocket *>(BIO_get_data(bio));
    BIO_clear_retry_flags(bio);
    if (socket.input.empty()) {
        if (socket.end)
            return 0;
        if (socket.error == 0)
            BIO_set_retry_read(bio);
        return -1;
    }
    const std::size_t taken = socket.input.copy(data, static_cast<std::size_t>(size));
    socket.input.remove_prefix(taken);
    return static_cast<int>(taken);
}

long bio_control(BIO *, int command, long, void *) { return command == BIO_CTRL_FLUSH ? 1 : 0; }

const BIO_METHOD *bio_method() {
    static const BIO_METHOD *const method = [] {
        BIO_METHOD *made = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "pg_ha socket");
        if (made == nullptr || BIO_meth_set_write(made, bio_write) != 1 || BIO_meth_set_read(made, bio_read) != 1 ||
            BIO_meth_set_ctrl(made, bio_control) != 1)
            throw std::runtime_error("could not set up TLS: " + last_reason());
        return made;
    }();
    return method;
}

} // namespace

TlsPsk::TlsPsk(const ClusterSecret &secret)
    : identity_("pg_ha/" + to_string(secret.cluster)), key_(secret.key), client_(make_context()),
      server_(make_context()) {
    SSL_CTX_set_psk_use_session_callback(client_.get(), use_session);
    SSL_CTX_set_psk_find_session_callback(server_.get(), find_session);
    // No authority is ever trusted, so a server that answers with a certificate instead of the key fails.
    SSL_CTX_set_verify(client_.get(), SSL_VERIFY_PEER, nullptr);
}

TlsPsk::~TlsPsk() { OPENSSL_cleanse(key_.data(), key_.size()); }

TlsPsk::ContextPtr TlsPsk::make_context() {
    ContextPtr context(SSL_CTX_new(TLS_method()));
    SSL_CTX *ctx = context.get();
    // psk_dhe_ke only: OpenSSL needs SSL_OP_ALLOW_NO_DHE_KEX to do without (EC)DHE, and that stays off.
    if (ctx == nullptr || SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION) != 1 ||
        SSL_CTX_set_max_proto_version(ctx, TLS1_3_VERSION) != 1 ||
        SSL_CTX_set_ciphersuites(ctx, "TLS_AES_128_GCM_SHA256") != 1 ||
        SSL_CTX_set1_groups_list(ctx, "X25519:P-256") != 1 || SSL_CTX_set_num_tickets(ctx, 0) != 1 ||
        SSL_CTX_set_max_early_data(ctx, 0) != 1 || SSL_CTX_set_recv_max_early_data(ctx, 0) != 1)
        throw std::runtime_error("could not set up TLS: " + last_reason());
    SSL_CTX_clear_options(ctx, SSL_OP_ALLOW_NO_DHE_KEX);
    SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET | SSL_OP_NO_COMPRESSION);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    // Idle links keep no 16 KiB buffers; header and body of a record are taken over together.
    SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                              SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_read_ahead(ctx, 1);
    SSL_CTX_set_app_data(ctx, this);
    return context;
}

// A fresh session for every handshake: OpenSSL may write into the one it is given.
SSL_SESSION *TlsPsk::make_session(SSL *ssl) const {
    const SSL_CIPHER *cipher = SSL_CIPHER_find(ssl, tls_aes_128_gcm_sha256);
    SSL_SESSION *session = SSL_SESSION_new();
    if (cipher == nullptr || session == nullptr ||
        SSL_SESSION_set1_master_key(session, key_.data(), key_.size()) != 1 ||
        SSL_SESSION_set_cipher(session, cipher) != 1 || SSL_SESSION_set_protocol_version(session, TLS1_3_VERSION) != 1) {
        SSL_SESSION_free(session);
        return nullptr;
    }
    return session;
}

int TlsPsk::use_session(SSL *ssl, const EVP_MD *, const unsigned char **identity, size_t *identity_size,
                        SSL_SESSION **session) {
    const auto &self = *static_cast<const TlsPsk *>(SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl)));
    *session = self.make_session(ssl);
    *identity = reinterpret_cast<const unsigned char *>(self.identity_.data());
    *identity_size = self.identity_.size();
    return *session != nullptr ? 1 : 0;
}

int TlsPsk::find_session(SSL *ssl, const unsigned char *identity, size_t identity_size, SSL_SESSION **session) {
    const auto &self = *static_cast<const TlsPsk *>(SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl)));
    *session = nullptr;
    if (identity_size != self.identity_.size() || std::memcmp(identity, self.identity_.data(), identity_size) != 0) {
        static_cast<TlsSocket *>(SSL_get_app_data(ssl))->unknown_identity = true;
        return 1; // go on without a key: fails for want of a certificate
    }
    *session = self.make_session(ssl);
    return *session != nullptr ? 1 : 0;
}

SslPtr TlsPsk::make_ssl(SSL_CTX *context, TlsSocket &socket) const {
    SslPtr ssl(SSL_new(context));
    BIO *bio = BIO_new(bio_method());
    if (ssl == nullptr || bio == nullptr) {
        BIO_free(bio);
        throw std::bad_alloc();
    }
    BIO_set_data(bio, &socket);
    BIO_set_init(bio, 1);
    SSL_set_bio(ssl.get(), bio, bio);
    SSL_set_app_data(ssl.get(), reinterpret_cast<char *>(&socket));
    return ssl;
}

SslPtr TlsPsk::dial(TlsSocket &socket) const {
    SslPtr ssl = make_ssl(client_.get(), socket);
    SSL_set_connect_state(ssl.get());
    return ssl;
}

SslPtr TlsPsk::accept(TlsSocket &socket) const {
    SslPtr ssl = make_ssl(server_.get(), socket);
    SSL_set_accept_state(ssl.get());
    return ssl;
}

bool TlsPsk::secured(const SSL *ssl) {
    return SSL_is_init_finished(ssl) == 1 && SSL_version(ssl) == TLS1_3_VERSION && SSL_session_reused(ssl) == 1;
}

TlsFailure explain_tls_failure(const TlsSocket &socket, bool dialled) {
    const unsigned long code = ERR_peek_error();
    const int reason = ERR_GET_LIB(code) == ERR_LIB_SSL ? ERR_GET_REASON(code) : 0;
    const std::string openssl = "TLS handshake failed: " + (code != 0 ? last_reason() : std::string("no reason given"));
    if (socket.unknown_identity)
        return {"it belongs to another cluster",
                "Take this node out of pg_ha.peers there, or clone that server from this cluster."};
    if (dialled && reason == SSL_R_SSLV3_ALERT_HANDSHAKE_FAILURE)
        return {"it does not know this cluster",
                "Check pg_ha.peers: the address may belong to another cluster; otherwise clone one of both servers again."};
    if (reason == SSL_R_BINDER_DOES_NOT_VERIFY || reason == SSL_R_SSLV3_ALERT_ILLEGAL_PARAMETER ||
        reason == SSL_R_TLSV1_ALERT_DECRYPT_ERROR || reason == SSL_R_CERTIFICATE_VERIFY_FAILED)
        return {"its cluster secret differs from ours",
                "Both data directories need the same pg_ha.secret: clone one of both servers again."};
    return {openssl, dialled ? "Check that this address and port belong to a pg_ha node."
                             : "Only pg_ha nodes should connect to this port."};
}

} // namespace pg_ha
