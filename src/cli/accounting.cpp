#include "cli/accounting.hpp"

#include <fmt/format.h>
#include <pwd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdio>
#include <ctime>
#include <optional>
#include <utility>

#include "base/spelling.hpp"
#include "cli/client.hpp"
#include "cli/complaint.hpp"
#include "cli/listings.hpp"
#include "cli/run.hpp"

namespace stargate::cli {

using api::Json;

namespace {

std::int64_t now() {
    timespec at{};
    clock_gettime(CLOCK_REALTIME, &at);
    return std::int64_t{at.tv_sec} * 1'000'000 + at.tv_nsec / 1000;
}

/// `90m`, `12h`, `7d`, `2w`: how long that is; nothing where it is none of these.
std::optional<std::int64_t> microseconds_of(std::string_view text) {
    std::int64_t count = 0;
    const auto* end = text.data() + text.size();
    const auto [unit, error] = std::from_chars(text.data(), end, count);
    if (error != std::errc{} || unit + 1 != end || count < 0 || count > 1'000'000) return std::nullopt;
    for (const auto& [letter, seconds] : {std::pair{'s', 1}, std::pair{'m', 60}, std::pair{'h', 3'600},
                                          std::pair{'d', 86'400}, std::pair{'w', 604'800}}) {
        if (*unit == letter) return count * seconds * 1'000'000;
    }
    return std::nullopt;
}

Result<std::uint32_t> uid_of(const std::string& user) {
    std::uint32_t uid = 0;
    const auto [end, error] = std::from_chars(user.data(), user.data() + user.size(), uid);
    if (error == std::errc{} && end == user.data() + user.size()) return uid;
    if (const auto* entry = ::getpwnam(user.c_str())) return entry->pw_uid;
    return fail(Fault::malformed,
                fmt::format("--user {}: this machine has no such user; give a name or a uid", presentable(user)));
}

/// What is asked for, behind the `?`.
Result<std::string> query_of(const Accounting& asked) {
    std::string query;
    const auto add = [&](std::string_view name, const std::string& value) {
        query += fmt::format("{}{}={}", query.empty() ? "?" : "&", name, value);
    };
    for (const auto& [name, text] : {std::pair{"since", asked.since}, std::pair{"until", asked.until}}) {
        if (text.empty()) continue;
        const auto at = read_instant(text, now());
        if (!at) return fail(Fault::malformed, fmt::format("--{} {}", name, at.error().detail));
        add(name, std::to_string(*at));
    }
    if (!asked.user.empty()) {
        const auto uid = uid_of(asked.user);
        if (!uid) return tl::unexpected<Error>(uid.error());
        add("owner", std::to_string(*uid));
    }
    if (!asked.tenant.empty()) add("tenant", escaped(asked.tenant));
    return query;
}

int list(const Accounting& asked, const std::string& target, const std::vector<Column>& columns,
         const std::vector<Column>& csv_columns) {
    const auto reply = Client{asked.state}.call("GET", target);
    if (!reply) return fail_with(reply.error());
    if (reply->status >= 300) return explain_failure(reply->status, reply->body);
    if (asked.output == Output::json) return std::fwrite(reply->body.data(), 1, reply->body.size(), stdout), 0;
    const auto rows = api::parse_json(reply->body);
    if (!rows) {
        return fail_with({Fault::malformed, "the control plane's reply cannot be read; is it of another version?"});
    }
    print_rows(reply->body, *rows, asked.output == Output::csv ? csv_columns : columns, asked.output);
    return 0;
}

std::string or_dash(const Json& value) { return value.kind == Json::Kind::null ? "-" : value.word(); }
std::string or_nothing(const Json& value) { return value.kind == Json::Kind::null ? "" : value.word(); }
std::string clock_or_dash(const Json& at) { return at.kind == Json::Kind::number ? clock_of(at.whole) : "-"; }
std::string hours(const Json& gpu_seconds) { return fmt::format("{:.2f}", gpu_seconds.number / 3600); }
std::string exact_hours(const Json& gpu_seconds) { return fmt::format("{:.6f}", gpu_seconds.number / 3600); }
std::string recoveries(const Json& row) { return std::to_string(row["recovered"].whole + row["preempted"].whole); }

/// As ISO 8601 has it, of the zone that all agree on.
std::string iso(const Json& at) {
    if (at.kind != Json::Kind::number) return {};
    const auto seconds = static_cast<time_t>(at.whole / 1'000'000);
    tm utc{};
    gmtime_r(&seconds, &utc);
    std::array<char, 32> text{};
    std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%SZ", &utc);
    return text.data();
}

std::vector<Column> history_columns() {
    return {
        {"ID", [](const Json& row) { return row["id"].word(); }, true},
        {"NAME", [](const Json& row) { return row["name"].word(); }},
        {"USER", [](const Json& row) { return owner_of(row); }},
        {"TENANT", [](const Json& row) { return row["tenant"].word(); }},
        {"CLASS", [](const Json& row) { return row["priority"].word(); }, false, true},
        {"SUBMITTED", [](const Json& row) { return clock_or_dash(row["submitted_at"]); }, false, true},
        {"STARTED", [](const Json& row) { return clock_or_dash(row["started_at"]); }, false, true},
        {"ENDED", [](const Json& row) { return clock_or_dash(row["ended_at"]); }},
        {"GPU-HOURS", [](const Json& row) { return hours(row["charged_gpu_s"]); }, true},
        {"RECOVERIES", recoveries, true},
        {"LOST GPU-HOURS", [](const Json& row) { return hours(row["lost_gpu_s"]); }, true},
        {"STATE", [](const Json& row) { return row["state"].word(); }},
        {"EXIT", [](const Json& row) { return or_dash(row["exit_status"]); }, true},
        {"CAUSE", [](const Json& row) { return row["detail"].text.empty() ? "-" : row["detail"].text; }},
    };
}

/// The same for programs: names that do not change, instants in UTC, hours in full.
std::vector<Column> history_csv() {
    return {
        {"id", [](const Json& row) { return row["id"].word(); }, true},
        {"name", [](const Json& row) { return row["name"].word(); }},
        {"user", [](const Json& row) { return owner_of(row); }},
        {"tenant", [](const Json& row) { return row["tenant"].word(); }},
        {"class", [](const Json& row) { return row["priority"].word(); }},
        {"submitted", [](const Json& row) { return iso(row["submitted_at"]); }},
        {"started", [](const Json& row) { return iso(row["started_at"]); }},
        {"ended", [](const Json& row) { return iso(row["ended_at"]); }},
        {"gpu_hours", [](const Json& row) { return exact_hours(row["charged_gpu_s"]); }, true},
        {"recoveries", recoveries, true},
        {"lost_gpu_hours", [](const Json& row) { return exact_hours(row["lost_gpu_s"]); }, true},
        {"state", [](const Json& row) { return row["state"].word(); }},
        {"exit_status", [](const Json& row) { return or_nothing(row["exit_status"]); }, true},
        {"cause", [](const Json& row) { return row["detail"].text; }},
    };
}

std::vector<Column> usage_of_jobs_columns() {
    return {
        {"TENANT", [](const Json& row) { return row["tenant"].word(); }},
        {"USER", [](const Json& row) { return owner_of(row); }},
        {"JOBS", [](const Json& row) { return row["jobs"].word(); }, true},
        {"GPU-HOURS", [](const Json& row) { return hours(row["charged_gpu_s"]); }, true},
        {"RECOVERIES", recoveries, true},
        {"LOST GPU-HOURS", [](const Json& row) { return hours(row["lost_gpu_s"]); }, true},
    };
}

std::vector<Column> usage_of_jobs_csv() {
    return {
        {"tenant", [](const Json& row) { return row["tenant"].word(); }},
        {"user", [](const Json& row) { return owner_of(row); }},
        {"jobs", [](const Json& row) { return row["jobs"].word(); }, true},
        {"gpu_hours", [](const Json& row) { return exact_hours(row["charged_gpu_s"]); }, true},
        {"recoveries", recoveries, true},
        {"lost_gpu_hours", [](const Json& row) { return exact_hours(row["lost_gpu_s"]); }, true},
    };
}

}  // namespace

Result<std::int64_t> read_instant(std::string_view text, std::int64_t now) {
    if (const auto ago = microseconds_of(text)) return std::max<std::int64_t>(0, now - *ago);
    for (const auto* form :
         {"%Y-%m-%d", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S"}) {
        tm local{};
        local.tm_isdst = -1;  // whichever holds then
        const std::string whole{text};
        const auto* end = ::strptime(whole.c_str(), form, &local);
        if (end == nullptr || *end != '\0') continue;
        const auto at = std::mktime(&local);
        if (at >= 0) return std::int64_t{at} * 1'000'000;
    }
    return fail(Fault::malformed, fmt::format("{}: no time; give how long ago, as 12h or 7d, or a date, as 2026-11-28 "
                                              "or \"2026-11-28 13:00\"",
                                              presentable(std::string{text})));
}

int history(const Accounting& asked) {
    const auto query = query_of(asked);
    if (!query) return fail_with(query.error());
    const auto limit = fmt::format("{}limit={}", query->empty() ? "?" : "&", asked.limit);
    return list(asked, "/api/v1/history" + *query + limit, history_columns(), history_csv());
}

int usage_of_jobs(const Accounting& asked) {
    const auto query = query_of(asked);
    if (!query) return fail_with(query.error());
    return list(asked, "/api/v1/history/usage" + *query, usage_of_jobs_columns(), usage_of_jobs_csv());
}

}  // namespace stargate::cli
