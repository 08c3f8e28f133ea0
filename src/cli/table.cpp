#include "cli/table.hpp"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "base/json_text.hpp"
#include "base/spelling.hpp"
#include "base/utf8.hpp"

namespace stargate::cli {

using api::Json;

namespace {

void print(const std::string& text) { std::fwrite(text.data(), 1, text.size(), stdout); }

/// Columns of the terminal that standard output is; 0 when it is none.
std::size_t terminal_width() {
    winsize size{};
    return ::isatty(STDOUT_FILENO) != 0 && ::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 ? size.ws_col : 0;
}

/// Cuts what was appended since `begun` to a terminal's line, so that a long reason does not break the table.
void cut(std::string& out, std::size_t begun, std::size_t width) {
    std::size_t at = begun;
    std::size_t room = begun;  // where a line with three dots would end
    for (std::size_t column = 0; at < out.size(); ++column) {
        if (column + 3 == width) room = at;
        if (column == width) {
            out.replace(room, std::string::npos, "...");
            return;
        }
        at += std::max<std::size_t>(1, utf8_length(std::string_view{out}.substr(at)));
    }
}

/// One cell of CSV.
std::string csv_cell(std::string text, bool is_number) {
    if (!is_number && !text.empty() && std::string_view{"=+-@\t\r"}.find(text[0]) != std::string_view::npos) {
        text.insert(0, 1, '\'');
    }
    if (text.find_first_of(",\"\r\n") == std::string::npos) return text;
    for (auto at = text.find('"'); at != std::string::npos; at = text.find('"', at + 2)) text.insert(at, 1, '"');
    return '"' + text + '"';
}

void print_csv(const Json& rows, const std::vector<Column>& columns) {
    std::string out;
    const auto line = [&](auto cell) {
        for (std::size_t i = 0; i < columns.size(); ++i) {
            if (i > 0) out += ',';
            out += cell(columns[i]);
        }
        out += '\n';
    };
    line([](const Column& column) { return csv_cell(column.heading, false); });
    for (const auto& row : rows.items) {
        line([&](const Column& column) { return csv_cell(column.text(row), column.right); });
    }
    print(out);
}

}  // namespace

std::string table_text(const Json& rows, const std::vector<Column>& all, bool wide, std::size_t width) {
    std::vector<Column> columns;
    std::copy_if(all.begin(), all.end(), std::back_inserter(columns), [&](const Column& c) { return wide || !c.wide; });
    std::vector<std::vector<std::string>> cells(1);
    for (const auto& column : columns) cells[0].push_back(column.heading);
    for (const auto& row : rows.items) {
        auto& line = cells.emplace_back();
        for (const auto& column : columns) line.push_back(without_controls(column.text(row)));
    }
    std::vector<std::size_t> widths(columns.size());
    for (const auto& line : cells) {
        for (std::size_t i = 0; i < line.size(); ++i) widths[i] = std::max(widths[i], line[i].size());
    }
    std::string out;
    for (const auto& line : cells) {
        const auto begun = out.size();
        for (std::size_t i = 0; i < line.size(); ++i) {
            const bool last = i + 1 == line.size();
            if (columns[i].right) {
                out += fmt::format("{:>{}}", line[i], widths[i]);
            } else {
                out += last ? line[i] : fmt::format("{:<{}}", line[i], widths[i]);
            }
            if (!last) out += "  ";
        }
        if (width > 0) cut(out, begun, width);
        out += "\n";
    }
    return out;
}

std::string to_text(const Json& value) {
    std::string out;
    switch (value.kind) {
        case Json::Kind::text:
            json_string(out, value.text);
            break;
        case Json::Kind::null:
            out = "null";
            break;
        case Json::Kind::boolean:
        case Json::Kind::number:
            out = value.word();
            break;
        case Json::Kind::list:
            for (const auto& item : value.items) out += (out.empty() ? "[" : ",") + to_text(item);
            out = out.empty() ? "[]" : out + "]";
            break;
        case Json::Kind::object:
            for (const auto& [name, member] : value.members) {
                out += out.empty() ? "{" : ",";
                json_string(out, name);
                out += ":" + to_text(member);
            }
            out = out.empty() ? "{}" : out + "}";
            break;
    }
    return out;
}

void print_rows(const std::string& body, const Json& rows, const std::vector<Column>& columns, Output output) {
    switch (output) {
        case Output::json:
            print(body);
            break;
        case Output::jsonl:
            for (const auto& row : rows.items) print(to_text(row) + "\n");
            break;
        case Output::name:
            for (const auto& row : rows.items) print(row["name"].word() + "\n");
            break;
        case Output::table:
            print(table_text(rows, columns, false, terminal_width()));
            break;
        case Output::wide:
            print(table_text(rows, columns, true, terminal_width()));
            break;
        case Output::csv:
            print_csv(rows, columns);
            break;
    }
}

std::string spoken_duration(std::int64_t microseconds) {
    const auto seconds = std::max<std::int64_t>(0, microseconds / 1'000'000);
    if (seconds < 60) return fmt::format("{}s", seconds);
    if (seconds < 3600) return fmt::format("{}m{:02}s", seconds / 60, seconds % 60);
    if (seconds < 86'400) return fmt::format("{}h{:02}m", seconds / 3600, seconds / 60 % 60);
    return fmt::format("{}d{:02}h", seconds / 86'400, seconds / 3600 % 24);
}

std::string spoken_bytes(std::int64_t bytes) {
    constexpr std::string_view units = "BKMGTP";
    auto value = static_cast<double>(bytes);
    std::size_t unit = 0;
    for (; value >= 1024 && unit + 1 < units.size(); ++unit) value /= 1024;
    return unit == 0 ? fmt::format("{}B", bytes) : fmt::format("{:.1f}{}", value, units[unit]);
}

}  // namespace stargate::cli
