// SPDX-License-Identifier: PostgreSQL
#include "table.hpp"

#include <algorithm>
#include <cstdio>

namespace pg_ha::cli {

namespace {

std::size_t width_of(const std::string &text) {
    return static_cast<std::size_t>(
        std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

} // namespace

std::string format_table(const std::vector<std::vector<std::string>> &rows) {
    std::vector<std::size_t> widths;
    for (const auto &row : rows)
        for (std::size_t i = 0; i < row.size(); i++) {
            if (i == widths.size())
                widths.push_back(0);
            widths[i] = std::max(widths[i], width_of(row[i]));
        }
    std::string text;
    for (const auto &row : rows) {
        std::string line;
        for (std::size_t i = 0; i < row.size(); i++)
            line += row[i] + std::string(widths[i] - width_of(row[i]) + 2, ' ');
        line.erase(line.find_last_not_of(' ') + 1);
        text += line + "\n";
    }
    return text;
}

std::string quote_json(const std::string &text) {
    std::string quoted = "\"";
    for (const char c : text) {
        char code[8];
        if (c == '"' || c == '\\')
            quoted += std::string("\\") + c;
        else if (static_cast<unsigned char>(c) < 0x20) {
            std::snprintf(code, sizeof code, "\\u%04x", static_cast<unsigned>(c));
            quoted += code;
        } else
            quoted += c;
    }
    return quoted + "\"";
}

std::string format_bytes(std::uint64_t bytes) {
    if (bytes < 10240)
        return std::to_string(bytes) + " bytes";
    double size = static_cast<double>(bytes) / 1024;
    const char *unit = "kB";
    for (const char *next : {"MB", "GB", "TB"}) {
        if (size < 1024)
            break;
        size /= 1024;
        unit = next;
    }
    char text[32];
    std::snprintf(text, sizeof text, size < 10 ? "%.1f %s" : "%.0f %s", size, unit);
    return text;
}

} // namespace pg_ha::cli
