// SPDX-License-Identifier: PostgreSQL
//
// The way from PostgreSQL into C++.  Every SQL function, hook, callback and worker main that runs
// code which may throw goes through run_cpp(): no exception leaves it, and the reason is copied to
// plain memory.  Only after it has returned, with all C++ objects dead, may the caller ereport().
#pragma once

#include "backend.hpp"

#include <cstring>
#include <exception>

namespace pg_ha {

struct Failure {
    bool failed;
    int sqlstate; // 0: not one of PostgreSQL's own
    char text[512];
};

inline void describe_failure(Failure *failure, int sqlstate, const char *text) {
    failure->failed = true;
    failure->sqlstate = sqlstate;
    std::strncpy(failure->text, text, sizeof(failure->text) - 1);
    failure->text[sizeof(failure->text) - 1] = '\0';
}

template <class Body> Failure run_cpp(Body &&body) noexcept {
    Failure failure{};
    try {
        body();
    } catch (const BackendError &error) {
        describe_failure(&failure, error.sqlstate(), error.what());
    } catch (const std::exception &error) {
        describe_failure(&failure, 0, error.what());
    } catch (...) {
        describe_failure(&failure, 0, "unknown C++ exception");
    }
    return failure;
}

} // namespace pg_ha
