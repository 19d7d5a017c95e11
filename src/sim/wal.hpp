// SPDX-License-Identifier: PostgreSQL
//
// Write-ahead logs as one tree of branches.  Only the server that was promoted on a branch writes to
// it, and flushed bytes never change, so a server's whole WAL is one point of the tree, and "contains"
// is a question about ancestors.  An acknowledged row is a point too: no ids need to be stored.
#pragma once

#include "core/configuration.hpp"

namespace pg_ha::sim {

using BranchId = int;
inline constexpr BranchId no_branch = -1;

// The end of a WAL, or of one record.
struct WalPoint {
    BranchId branch = no_branch;
    std::uint64_t lsn = 0;
    bool operator==(const WalPoint &) const = default;
};

struct Branch {
    Timeline timeline = Timeline::none;
    WalPoint fork;                  // end of the parent's part; no parent: fork.branch == no_branch
    int writer = -1;                // host that was promoted
    std::uint64_t acknowledged = 0; // end of the newest commit a client got success for
    std::int64_t promoted_at = 0;
    bool by_hand = false;           // nobody has elected its writer
    std::uint64_t seen = 0;         // the newest that a session has read here
};

class WalTree {
public:
    BranchId create(Timeline timeline, WalPoint fork, int writer, std::int64_t now) {
        branches_.push_back({timeline, fork, writer, 0, now, 0});
        return static_cast<BranchId>(branches_.size() - 1);
    }
    Branch &branch(BranchId id) { return branches_[static_cast<std::size_t>(id)]; }
    const Branch &branch(BranchId id) const { return branches_[static_cast<std::size_t>(id)]; }
    BranchId count() const { return static_cast<BranchId>(branches_.size()); }

    // How far the history of `head` follows `branch`; 0: not at all.
    std::uint64_t shared_until(WalPoint head, BranchId branch_id) const;
    // Is everything up to `point` part of the history of `head`?
    bool contains(WalPoint head, WalPoint point) const;
    // The point at `lsn` (at most head.lsn) on the way to head.
    WalPoint at(WalPoint head, std::uint64_t lsn) const;
    Position position(WalPoint point) const { return {branch(point.branch).timeline, static_cast<Lsn>(point.lsn)}; }
    Lineage lineage(WalPoint head) const;

private:
    std::vector<Branch> branches_;
};

} // namespace pg_ha::sim
