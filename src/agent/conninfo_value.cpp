// SPDX-License-Identifier: PostgreSQL
#include "conninfo_value.hpp"

namespace pg_ha {

std::string quote_conninfo(const std::string &value) {
    std::string quoted = "'";
    for (const char c : value) {
        if (c == '\'' || c == '\\')
            quoted += '\\';
        quoted += c;
    }
    return quoted + "'";
}

} // namespace pg_ha
