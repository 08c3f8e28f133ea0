#pragma once

#include <string>
#include <vector>

#include "api/json.hpp"

namespace stargate::cli {

/// How a listing is printed.
enum class Output { table, wide, json, jsonl, name, csv };

/// One column: its heading and the text of a row in it.
struct Column {
    std::string heading;
    std::string (*text)(const api::Json& row);
    bool right = false;  // numbers
    bool wide = false;   // shown with -o wide only
};

/// The rows as people or programs want them. `body` is the server's JSON, printed as it is for Output::json. In CSV
/// (RFC 4180, lines ending in a line feed) a text that a spreadsheet would take for a formula, since it begins with one
/// of = + - @ or a tab, has an apostrophe before it; numbers stay as they are.
void print_rows(const std::string& body, const api::Json& rows, const std::vector<Column>& columns, Output output);

/// The rows as lines of text, each cut to `width` letters where that is not 0.
std::string table_text(const api::Json& rows, const std::vector<Column>& columns, bool wide, std::size_t width);

/// JSON again, on one line.
std::string to_text(const api::Json& value);

/// Microseconds as people say them: `42s`, `3m10s`, `2h05m`, `4d02h`.
std::string spoken_duration(std::int64_t microseconds);

/// Bytes as people say them: `16.0G`.
std::string spoken_bytes(std::int64_t bytes);

}  // namespace stargate::cli
