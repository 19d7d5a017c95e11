// SPDX-License-Identifier: PostgreSQL
//
// Questions about the tree of WAL branches.  Chains are as long as there were promotions: short.
#include "wal.hpp"

#include <algorithm>

namespace pg_ha::sim {

std::uint64_t WalTree::shared_until(WalPoint head, BranchId branch_id) const {
    std::uint64_t end = head.lsn;
    for (BranchId b = head.branch; b != no_branch; b = branch(b).fork.branch) {
        if (b == branch_id)
            return end;
        end = std::min(end, branch(b).fork.lsn);
    }
    return 0;
}

bool WalTree::contains(WalPoint head, WalPoint point) const {
    return point.lsn <= shared_until(head, point.branch);
}

WalPoint WalTree::at(WalPoint head, std::uint64_t lsn) const {
    const std::uint64_t wanted = std::min(lsn, head.lsn);
    BranchId b = head.branch;
    while (branch(b).fork.branch != no_branch && branch(b).fork.lsn >= wanted)
        b = branch(b).fork.branch;
    return {b, wanted};
}

Lineage WalTree::lineage(WalPoint head) const {
    Lineage lineage;
    Lsn end = Lsn::none;
    for (BranchId b = head.branch; b != no_branch; b = branch(b).fork.branch) {
        lineage.push_back({branch(b).timeline, end});
        end = static_cast<Lsn>(branch(b).fork.lsn);
    }
    std::reverse(lineage.begin(), lineage.end());
    if (lineage.size() > lineage_entries_max)
        lineage.erase(lineage.begin(), lineage.end() - lineage_entries_max);
    return lineage;
}

} // namespace pg_ha::sim
