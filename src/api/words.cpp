#include "api/words.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>
#include <set>

#include "base/spelling.hpp"

namespace stargate::api {

namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

auto refuse(std::string what) { return fail(Fault::malformed, std::move(what)); }

/// A whole number and nothing else; nothing when it is none or does not fit.
template <class Number>
std::optional<Number> whole(std::string_view text) {
    Number value{};
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (text.empty() || error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
    return value;
}

/// `12`, `0.5`, `.25` as thousandths; nothing for signs, exponents, more than three decimals, or 10^12 and more.
std::optional<std::int64_t> thousandths(std::string_view text) {
    const auto point = text.find('.');
    const auto before = text.substr(0, point);
    auto after = point == std::string_view::npos ? std::string{} : std::string{text.substr(point + 1)};
    if (before.empty() && after.empty()) return std::nullopt;
    if (point != std::string_view::npos && after.empty()) return std::nullopt;
    if (before.size() > 12 || after.size() > 3) return std::nullopt;
    if (!std::all_of(before.begin(), before.end(), is_digit) || !std::all_of(after.begin(), after.end(), is_digit)) {
        return std::nullopt;
    }
    after.resize(3, '0');
    return (before.empty() ? 0 : *whole<std::int64_t>(before)) * 1000 + *whole<std::int64_t>(after);
}

struct Unit {
    std::string_view word;
    std::int64_t size;
};

}  // namespace

Result<void> read_gpus(std::string_view text, JobSpec& spec) {
    constexpr std::int32_t most = 10'000'000;
    const std::string remedy = "; write 4, 1..8, 0, or 0.5 for a part of one GPU";
    const auto dots = text.find("..");
    if (dots != std::string_view::npos) {
        const auto low = whole<std::int32_t>(text.substr(0, dots));
        const auto high = whole<std::int32_t>(text.substr(dots + 2));
        if (!low || !high) return refuse(fmt::format("`{}` is no range of GPUs{}", text, remedy));
        if (*low < 1) return refuse("an elastic job needs at least one GPU; write 1..N");
        if (*high < *low || *high > most)
            return refuse(fmt::format("`{}` is no range from low to high{}", text, remedy));
        spec.min_gpus = GpuCount{*low};
        spec.max_gpus = GpuCount{*high};
        spec.share = 0;
        return {};
    }
    const auto milli = thousandths(text);
    if (!milli || *milli / 1000 > most) return refuse(fmt::format("`{}` is no number of GPUs{}", text, remedy));
    if (*milli % 1000 != 0) {
        if (*milli > 1000) return refuse("only parts of one GPU can be shared; write a whole number, or less than 1");
        spec.share = static_cast<std::int32_t>(*milli);
        spec.min_gpus = spec.max_gpus = GpuCount{0};
        return {};
    }
    spec.share = 0;
    spec.min_gpus = spec.max_gpus = GpuCount{static_cast<std::int32_t>(*milli / 1000)};
    return {};
}

Result<void> check_job_name(std::string_view name) {
    const std::string remedy = "; use 1 to 63 letters, digits, `.`, `_` and `-`, the first a letter or digit";
    if (name.empty() || name.size() > 63)
        return refuse("a name of " + std::to_string(name.size()) + " letters" + remedy);
    const auto fits = [](char c) { return is_letter(c) || is_digit(c) || c == '.' || c == '_' || c == '-'; };
    if (!std::all_of(name.begin(), name.end(), fits) || !(is_letter(name[0]) || is_digit(name[0]))) {
        return refuse("not a name that commands can take" + remedy);
    }
    if (std::all_of(name.begin(), name.end(), is_digit)) {
        return refuse(fmt::format("`{}` would be taken for a job's id; put a letter in", name));
    }
    return {};
}

Result<std::vector<std::string>> read_after(const std::vector<std::string>& names) {
    std::vector<std::string> distinct;
    std::set<std::string_view> known;
    for (const auto& name : names) {
        if (const auto fits = check_job_name(name); !fits) {
            return refuse(fmt::format("`{}`: {}", name, fits.error().detail));
        }
        if (known.insert(name).second) distinct.push_back(name);
    }
    if (distinct.size() > max_after) {
        return refuse(fmt::format("{} jobs, and {} is the most; make them elements of one array, or put a job between",
                                  distinct.size(), max_after));
    }
    return distinct;
}

Result<void> check_variable_name(std::string_view name) {
    const auto fits = [](char c) { return is_letter(c) || is_digit(c) || c == '_'; };
    if (name.empty() || is_digit(name[0]) || !std::all_of(name.begin(), name.end(), fits)) {
        return refuse("not a variable's name; use letters, digits and `_`, the first no digit");
    }
    if (name.substr(0, 9) == "STARGATE_") return refuse("STARGATE_ names are given by Stargate; use another name");
    return {};
}

Result<Duration> read_duration(std::string_view text) {
    constexpr std::array<Unit, 5> units{
        {{"ms", 1'000}, {"s", 1'000'000}, {"m", 60'000'000}, {"h", 3'600'000'000}, {"d", 86'400'000'000}}};
    const std::string remedy = "; write a number with its unit, as 30s, 90m, 2h, 1d or 1h30m";
    if (text.empty()) return refuse("no time" + remedy);
    std::int64_t sum = 0;
    auto rest = text;
    while (!rest.empty()) {
        const auto number_end = std::min(rest.find_first_not_of("0123456789."), rest.size());
        const auto milli = thousandths(rest.substr(0, number_end));
        rest.remove_prefix(number_end);
        const auto unit_end = std::min(rest.find_first_of("0123456789."), rest.size());
        const auto word = rest.substr(0, unit_end);
        rest.remove_prefix(unit_end);
        const auto unit = std::find_if(units.begin(), units.end(), [&](const Unit& u) { return u.word == word; });
        if (!milli || unit == units.end()) return refuse(fmt::format("`{}` is no time{}", text, remedy));
        std::int64_t part = 0;
        if (__builtin_mul_overflow(*milli, unit->size, &part) || __builtin_add_overflow(sum, part / 1000, &sum)) {
            return refuse(fmt::format("`{}` is too long; a job may run a year", text));
        }
    }
    return Duration{sum};
}

Result<Bytes> read_bytes(std::string_view text) {
    constexpr std::array<Unit, 9> units{{{"B", 1},
                                         {"KB", 1'000},
                                         {"MB", 1'000'000},
                                         {"GB", 1'000'000'000},
                                         {"TB", 1'000'000'000'000},
                                         {"KiB", 1LL << 10},
                                         {"MiB", 1LL << 20},
                                         {"GiB", 1LL << 30},
                                         {"TiB", 1LL << 40}}};
    const auto number_end = std::min(text.find_first_not_of("0123456789."), text.size());
    const auto milli = thousandths(text.substr(0, number_end));
    auto word = text.substr(number_end);
    while (!word.empty() && word.front() == ' ') word.remove_prefix(1);
    const auto unit = std::find_if(units.begin(), units.end(), [&](const Unit& u) { return u.word == word; });
    if (!milli || unit == units.end()) {
        return refuse(fmt::format("`{}` is no size; write a number with its unit, as 512MB, 16GB or 16GiB", text));
    }
    std::int64_t milli_bytes = 0;
    if (__builtin_mul_overflow(*milli, unit->size, &milli_bytes)) {
        return refuse(fmt::format("`{}` is more than any machine has; write less", text));
    }
    return Bytes{milli_bytes / 1000};
}

Result<MilliCpus> read_cpus(std::string_view text) {
    const auto milli = thousandths(text);
    if (!milli || *milli > 1'000'000'000) {
        return refuse(fmt::format("`{}` is no number of CPUs; write 4 or 0.5", text));
    }
    return MilliCpus{*milli};
}

Result<PriorityClass> read_priority(std::string_view text) {
    if (const auto found = from_name<PriorityClass>(text)) return *found;
    return refuse(fmt::format("`{}` is no priority class{}; write opportunistic, research, production or serving", text,
                              did_you_mean(text, {"opportunistic", "research", "production", "serving", "system"})));
}

Result<Sandbox> read_sandbox(std::string_view text) {
    if (text == "none") return Sandbox::none;
    if (text == "default") return Sandbox::standard;
    if (text == "strict") return Sandbox::strict;
    return refuse(fmt::format("`{}` is no sandbox; write none, default or strict", text));
}

}  // namespace stargate::api
