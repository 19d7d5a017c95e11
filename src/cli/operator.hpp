// SPDX-License-Identifier: PostgreSQL
//
// pg_hactl switchover, pause, resume and remove: the SQL functions of the same names, called where they have to be
// called.  Any member may be named; the primary is found through it.
//
// Must never say that something was done which the cluster did not say, and never ask for anything twice: whether a
// lost connection took the request along is looked up, not guessed.
#pragma once

#include "conninfo.hpp"

#include <string>

namespace pg_ha::cli {

enum class Order { switchover, pause, resume, remove };
struct OrderOptions {
    Order order = Order::switchover;
    Conninfo conninfo;
    std::string name; // of the member to remove, or to hand over to; empty: the best
};
int run_order(const OrderOptions &options); // throws Failure

} // namespace pg_ha::cli
