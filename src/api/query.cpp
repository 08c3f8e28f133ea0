#include "api/query.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "base/spelling.hpp"

namespace stargate::api {

namespace {

Reply refusal(std::string_view name, const std::string& what, const std::string& remedy) {
    return error_reply(400, "malformed", fmt::format("{}: {}", presentable(std::string{name}), what), remedy);
}

Reply unknown(const std::string& name, const std::vector<Parameter>& taken) {
    std::vector<std::string_view> names;
    for (const auto& each : taken) names.push_back(each.name);
    return refusal(name, fmt::format("this route takes no such value{}", did_you_mean(name, names)),
                   names.empty() ? "leave it out: it takes none" : fmt::format("it takes {}", fmt::join(names, ", ")));
}

std::optional<Reply> check_value(const Parameter& parameter, const std::string& given) {
    const auto shown = presentable(given);
    switch (parameter.kind) {
        case Parameter::Kind::text:
            return std::nullopt;
        case Parameter::Kind::flag:
            if (given == "1" || given == "true" || given == "0" || given == "false") return std::nullopt;
            return refusal(parameter.name, fmt::format("`{}` is neither true nor false", shown),
                           "give 1 or true, 0 or false");
        case Parameter::Kind::whole: {
            const auto number = whole_number(given);
            if (number && *number >= parameter.least && *number <= parameter.most) return std::nullopt;
            return not_in_range(parameter.name, shown, parameter.least, parameter.most);
        }
        case Parameter::Kind::word: {
            const auto& words = parameter.words;
            if (std::find(words.begin(), words.end(), given) != words.end()) return std::nullopt;
            return refusal(parameter.name, fmt::format("`{}` is not known{}", shown, did_you_mean(given, words)),
                           fmt::format("give {}{}", words.size() > 1 ? "one of " : "", fmt::join(words, ", ")));
        }
    }
    return std::nullopt;
}

}  // namespace

std::optional<Reply> check_query(const Target& target, const std::vector<Parameter>& taken) {
    for (auto at = target.query.begin(); at != target.query.end(); ++at) {
        const auto& [name, value] = *at;
        const auto is_same = [&name = name](const auto& other) { return other.first == name; };
        const auto known =
            std::find_if(taken.begin(), taken.end(), [&name = name](const auto& each) { return each.name == name; });
        if (known == taken.end()) return unknown(name, taken);
        if (std::any_of(target.query.begin(), at, is_same)) return refusal(name, "is given twice", "give it once");
        if (auto wrong = check_value(*known, value)) return wrong;
    }
    return std::nullopt;
}

Reply not_in_range(std::string_view name, std::string_view given, std::uint64_t least, std::uint64_t most) {
    const auto range =
        most == any_number ? fmt::format("from {} on", least) : fmt::format("from {} to {}", least, most);
    return refusal(name, fmt::format("`{}` is no whole number {}", given, range), "give one, or leave it out");
}

std::optional<std::uint64_t> whole_number(std::string_view text) {
    std::uint64_t number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (text.empty() || error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
    return number;
}

std::uint64_t whole_in_query(const Target& target, std::string_view name, std::uint64_t otherwise) {
    return whole_number(target.value(name)).value_or(otherwise);
}

}  // namespace stargate::api
