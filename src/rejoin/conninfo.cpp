// SPDX-License-Identifier: PostgreSQL
#include "conninfo.hpp"

#include "agent/conninfo_value.hpp"

#include <libpq-fe.h>

#include <cstdlib>
#include <memory>
#include <string_view>

namespace pg_ha::rejoin {

// In front, so that what the administrator says holds.
std::string with_keepalives(const std::string &conninfo) {
    return "keepalives_idle=15 keepalives_interval=5 keepalives_count=6 tcp_user_timeout=60000 " + conninfo;
}

std::string for_command_line(const std::string &conninfo) {
    const std::unique_ptr<PQconninfoOption, void (*)(PQconninfoOption *)> options(
        ::PQconninfoParse(with_keepalives(conninfo).c_str(), nullptr), ::PQconninfoFree);
    std::string text;
    for (const PQconninfoOption *option = options.get(); option && option->keyword; option++) {
        if (!option->val)
            continue;
        if (std::string_view(option->keyword) == "password")
            ::setenv("PGPASSWORD", option->val, 1);
        else
            text += (text.empty() ? "" : " ") + std::string(option->keyword) + "=" + quote_conninfo(option->val);
    }
    return text; // empty: the string is none, and the program says that it cannot connect
}

} // namespace pg_ha::rejoin
