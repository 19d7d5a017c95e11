// SPDX-License-Identifier: PostgreSQL
#include "conninfo.hpp"

#include "agent/conninfo_value.hpp"
#include "failure.hpp"

#include <libpq-fe.h>

#include <algorithm>
#include <memory>

namespace pg_ha::cli {

namespace {

// libpq's lists: "a,,c" has an empty part, and an empty text is no list.
std::vector<std::string> parts_of(const std::string &list) {
    std::vector<std::string> parts;
    if (list.empty())
        return parts;
    for (std::size_t begin = 0;;) {
        const std::size_t comma = list.find(',', begin);
        parts.push_back(list.substr(begin, comma - begin));
        if (comma == std::string::npos)
            return parts;
        begin = comma + 1;
    }
}

std::string part_for(const std::vector<std::string> &parts, std::size_t index) {
    return parts.empty() ? "" : parts[parts.size() == 1 ? 0 : index];
}

} // namespace

Conninfo::Conninfo(const std::string &text) {
    char *error = nullptr;
    const std::unique_ptr<PQconninfoOption, void (*)(PQconninfoOption *)> parsed(
        ::PQconninfoParse(text.c_str(), &error), ::PQconninfoFree);
    if (!parsed) {
        std::string why = error ? error : "out of memory";
        ::PQfreemem(error);
        why.erase(why.find_last_not_of('\n') + 1);
        throw Failure("invalid connection string: " + why,
                      "Write keywords such as \"host=db1 user=replicator\" or a postgresql:// URI.", exit_misused);
    }
    for (const PQconninfoOption *option = parsed.get(); option->keyword; option++)
        if (option->val)
            options_.emplace_back(option->keyword, option->val);
}

std::string Conninfo::get(const std::string &keyword) const {
    const auto found = std::find_if(options_.begin(), options_.end(), [&](const auto &o) { return o.first == keyword; });
    return found == options_.end() ? "" : found->second;
}

void Conninfo::set(const std::string &keyword, const std::string &value) {
    std::erase_if(options_, [&](const auto &option) { return option.first == keyword; });
    options_.emplace_back(keyword, value);
}

void Conninfo::set_default(const std::string &keyword, const std::string &value) {
    if (get(keyword).empty())
        set(keyword, value);
}

void Conninfo::set_server(const std::string &host, const std::string &port) {
    std::erase_if(options_, [](const auto &o) { return o.first == "hostaddr" || o.first == "target_session_attrs"; });
    set("host", host);
    set("port", port);
}

std::vector<Conninfo> Conninfo::single_hosts() const {
    const std::vector<std::string> hosts = parts_of(get("host")), addresses = parts_of(get("hostaddr")),
                                   ports = parts_of(get("port"));
    const std::size_t count = std::max<std::size_t>({hosts.size(), addresses.size(), 1});
    for (const auto &list : {hosts, addresses, ports})
        if (list.size() > 1 && list.size() != count)
            throw Failure("hosts, addresses and ports of the connection string do not match in number",
                          "Give one port for all hosts, or one for each.", exit_misused);
    std::vector<Conninfo> all;
    for (std::size_t i = 0; i < count; i++) {
        Conninfo one = *this;
        for (const auto &[keyword, list] : {std::pair{"host", hosts}, {"hostaddr", addresses}, {"port", ports}})
            if (!list.empty())
                one.set(keyword, part_for(list, i));
        all.push_back(one);
    }
    return all;
}

std::string Conninfo::text() const {
    std::string text;
    for (const auto &[keyword, value] : options_)
        text += (text.empty() ? "" : " ") + keyword + "=" + quote_conninfo(value);
    return text;
}

} // namespace pg_ha::cli
