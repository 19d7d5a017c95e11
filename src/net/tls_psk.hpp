// SPDX-License-Identifier: PostgreSQL
//
// TLS 1.3 with the cluster secret as external pre-shared key, always with (EC)DHE: both sides prove
// that they know the secret, and a secret that leaks later opens no recorded traffic.  There are no
// certificates, no tickets and no early data, so a handshake without the key cannot succeed on
// either side; secured() checks all the same that it did not.
//
// The key's identity names the cluster, so "another cluster" and "wrong secret" are told apart.
#pragma once

#include "runtime.hpp"

#include <openssl/ssl.h>

#include <memory>
#include <string>

namespace pg_ha {

// The socket under one TLS connection, and what happened on it.  Outlives the SSL object.  OpenSSL
// writes to the socket itself, but reads only what its owner has received.
struct TlsSocket {
    int fd = -1;
    std::string_view input;        // received, not yet read by OpenSSL
    int error = 0;                 // errno of the last failed send or recv, but for "would block"
    bool end = false;              // the peer closed its side
    bool unknown_identity = false; // server: the key offered belongs to another cluster
};

struct SslDelete {
    void operator()(SSL *ssl) const { SSL_free(ssl); }
};
using SslPtr = std::unique_ptr<SSL, SslDelete>;

class TlsPsk {
public:
    explicit TlsPsk(const ClusterSecret &secret); // throws std::runtime_error if OpenSSL can't
    ~TlsPsk();
    TlsPsk(const TlsPsk &) = delete;
    TlsPsk &operator=(const TlsPsk &) = delete;

    SslPtr dial(TlsSocket &socket) const;
    SslPtr accept(TlsSocket &socket) const;

    // After a completed handshake: was it TLS 1.3 and did the secret prove both sides?
    static bool secured(const SSL *ssl);

private:
    struct ContextDelete {
        void operator()(SSL_CTX *context) const { SSL_CTX_free(context); }
    };
    using ContextPtr = std::unique_ptr<SSL_CTX, ContextDelete>;

    static int use_session(SSL *ssl, const EVP_MD *digest, const unsigned char **identity, size_t *identity_size,
                           SSL_SESSION **session);
    static int find_session(SSL *ssl, const unsigned char *identity, size_t identity_size, SSL_SESSION **session);
    SSL_SESSION *make_session(SSL *ssl) const;
    ContextPtr make_context();
    SslPtr make_ssl(SSL_CTX *context, TlsSocket &socket) const;

    std::string identity_;
    std::array<std::uint8_t, 32> key_;
    ContextPtr client_;
    ContextPtr server_;
};

// Why the last TLS operation failed, for a log line: what happened, and what to do about it.
struct TlsFailure {
    std::string what;
    std::string hint;
};
TlsFailure explain_tls_failure(const TlsSocket &socket, bool dialled);

} // namespace pg_ha
