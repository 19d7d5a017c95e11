// SPDX-License-Identifier: PostgreSQL
//
// Text for people: tables, sizes.  Pure.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace pg_ha::cli {

// Columns as wide as their widest cell, two blanks between them, nothing behind the last; the first row is
// the heading.  Widths count characters of UTF-8.
std::string format_table(const std::vector<std::vector<std::string>> &rows);

std::string quote_json(const std::string &text); // with the quotation marks

std::string format_bytes(std::uint64_t bytes); // "980 bytes", "14 kB", "2.3 GB"

} // namespace pg_ha::cli
