// SPDX-License-Identifier: PostgreSQL
//
// A connection string taken apart by libpq's own parser, changed, and put together again.  Only what the
// user wrote is in it; environment, service and password files stay libpq's business.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace pg_ha::cli {

class Conninfo {
public:
    Conninfo() = default;
    // Keywords or a URI.  Throws Failure.
    explicit Conninfo(const std::string &text);

    std::string get(const std::string &keyword) const; // empty: not given
    void set(const std::string &keyword, const std::string &value);
    void set_default(const std::string &keyword, const std::string &value);
    void set_server(const std::string &host, const std::string &port); // that server and no other
    // One for each host that is named.  Throws Failure if the numbers of hosts and ports do not fit.
    std::vector<Conninfo> single_hosts() const;
    std::string text() const; // keyword='value' ...

private:
    std::vector<std::pair<std::string, std::string>> options_;
};

} // namespace pg_ha::cli
