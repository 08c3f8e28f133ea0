#include "cli/complaint.hpp"

#include <arpa/inet.h>
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cctype>
#include <charconv>
#include <vector>

#include "base/spelling.hpp"

namespace stargate::cli {

namespace {

/// The verbs that people may use after this one.
std::vector<std::string_view> verbs_of(const CLI::App& app) {
    std::vector<std::string_view> names;
    for (const auto* verb : app.get_subcommands({})) {
        if (!verb->get_group().empty()) names.push_back(verb->get_name());
    }
    return names;
}

std::string unknown_verb(const CLI::App& app, const std::string& path) {
    const auto words = app.remaining();
    const auto help = "; list them: " + path + " --help";
    if (words.empty()) return fmt::format("{}: a verb is missing{}\n", path, help);
    return fmt::format("{}: there is no verb `{}`{}{}\n", path, words.front(),
                       did_you_mean(words.front(), verbs_of(app)), help);
}

/// Of what the verb does not take the first word alone: what follows may be that one's value.
std::string surplus(const CLI::App& app, const std::string& path) {
    const auto words = app.remaining();
    const auto first = std::find_if(words.begin(), words.end(), [](const auto& word) { return !word.empty(); });
    const auto word = first == words.end() ? std::string{} : *first;
    if (word.empty()) {
        const auto before = app.get_parent() != nullptr ? app.get_parent()->remaining() : std::vector<std::string>{};
        return fmt::format("{}: `{}` stands before the verb; options come after it: {} --help\n", path,
                           before.empty() ? word : before.front(), path);
    }
    if (word.size() < 2 || word[0] != '-') {
        return fmt::format("{}: `{}` is one word too many; see: {} --help\n", path, word, path);
    }
    std::vector<std::string> names;
    for (const auto* option : app.get_options()) {
        for (const auto& name : option->get_lnames()) names.push_back("--" + name);
    }
    const auto asked = word.substr(0, word.find('='));
    return fmt::format("{}: there is no option `{}`{}; see: {} --help\n", path, asked,
                       did_you_mean(asked, {names.begin(), names.end()}), path);
}

bool is_address(const std::string& text) {
    const auto colon = text.rfind(':');
    if (colon == std::string::npos) return false;
    std::uint16_t port = 0;
    const auto* end = text.data() + text.size();
    const auto [read_to, bad] = std::from_chars(text.data() + colon + 1, end, port);
    if (bad != std::errc{} || read_to != end) return false;
    auto host = text.substr(0, colon);
    const bool is_v6 = host.size() > 2 && host.front() == '[' && host.back() == ']';
    if (is_v6) host = host.substr(1, host.size() - 2);
    in6_addr bytes{};
    return host == "localhost" || inet_pton(is_v6 ? AF_INET6 : AF_INET, host.c_str(), &bytes) == 1;
}

}  // namespace

std::string complaint(const CLI::App* app, const CLI::Error& error) {
    std::string path = "stargate";
    while (!app->get_subcommands().empty()) {
        app = app->get_subcommands().front();
        path += " " + app->get_name();
    }
    const auto verbs_missing = app->get_require_subcommand_min() > 0;
    if (verbs_missing && error.get_name() == "RequiredError") return unknown_verb(*app, path);
    if (error.get_exit_code() == static_cast<int>(CLI::ExitCodes::ExtrasError)) return surplus(*app, path);
    std::string what = error.what();
    if (!what.empty()) what[0] = static_cast<char>(std::tolower(static_cast<unsigned char>(what[0])));
    if (error.get_exit_code() == static_cast<int>(CLI::ExitCodes::ArgumentMismatch)) {  // CLI11 counts arguments
        const auto option = what.substr(0, what.find(": "));
        what = option +
               (what.find("At Most") == std::string::npos ? ": its value is missing" : ": is given more than once");
    }
    const auto remedy = what.find("; ") == std::string::npos ? fmt::format("; see: {} --help", path) : std::string{};
    return fmt::format("{}: {}{}\n", path, what, remedy);
}

void check_whole(CLI::Option* option, std::int64_t least, std::int64_t most) {
    const bool is_open = most >= std::numeric_limits<std::int32_t>::max();  // a bound that is our type's
    const auto range = is_open ? fmt::format("from {} on", least) : fmt::format("from {} to {}", least, most);
    option->check(CLI::Validator{[=](std::string& text) {
                                     std::int64_t value = 0;
                                     const auto* end = text.data() + text.size();
                                     const auto [read_to, bad] = std::from_chars(text.data(), end, value);
                                     const bool fits = bad == std::errc{} && read_to == end && !text.empty();
                                     if (fits && value >= least && value <= most) return std::string{};
                                     const bool is_large = bad == std::errc::result_out_of_range || value > most;
                                     if (is_open && is_large && read_to == end && text[0] != '-') {
                                         return fmt::format("`{}` is too large; write a smaller number", text);
                                     }
                                     return fmt::format("`{}` is no number {}; write one", text, range);
                                 },
                                 range});
}

void check_address(CLI::Option* option, const std::string& example) {
    option->check(CLI::Validator{[=](std::string& text) {
                                     if (text.empty() || is_address(text)) return std::string{};
                                     return fmt::format("`{}` is not ADDRESS:PORT; write {}", text, example);
                                 },
                                 "ADDRESS:PORT"});
}

}  // namespace stargate::cli
