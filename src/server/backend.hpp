// SPDX-License-Identifier: PostgreSQL
//
// The way from C++ into PostgreSQL.  A backend call that may ereport(ERROR) runs inside guarded(),
// which turns the ERROR into a BackendError.  The longjmp passes only over PostgreSQL's own frames
// and the body, so the body must hold no object with a destructor; what it needs is captured by
// reference.  Calls outside guarded() carry the reason why they cannot raise.
#pragma once

#include <stdexcept>
#include <string>
#include <type_traits>

namespace pg_ha {

class BackendError : public std::runtime_error {
public:
    BackendError(int sqlstate, const std::string &message) : std::runtime_error(message), sqlstate_(sqlstate) {}
    int sqlstate() const { return sqlstate_; }

private:
    int sqlstate_;
};

void guarded_call(void (*body)(void *), void *argument); // throws BackendError

template <class Body> void guarded(Body &&body) {
    using Plain = std::remove_reference_t<Body>;
    static_assert(std::is_trivially_destructible_v<Plain>, "capture by reference: a longjmp runs no destructor");
    guarded_call([](void *p) { (*static_cast<Plain *>(p))(); }, const_cast<std::remove_const_t<Plain> *>(&body));
}

} // namespace pg_ha
