#include "twin/section.hpp"

#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <cstdlib>

#include "base/spelling.hpp"

namespace stargate::twin {

namespace {

bool is_map(const YamlNode* node) { return node != nullptr && node->kind == YamlNode::Kind::map; }

/// What was given with --set stands in no line.
void forget_lines(YamlNode& node) {
    node.line = 0;
    for (auto& item : node.items) forget_lines(item);
    for (auto& [key, value] : node.members) {
        key.line = 0;
        forget_lines(value);
    }
}

/// A whole number and nothing else.
template <class T>
std::optional<T> whole(std::string_view text) {
    T number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
    return number;
}

/// The value that a word of a path leads to; made where a group of fields has none of that name.
YamlNode& step(YamlNode& node, const std::string& word, const std::string& path) {
    if (node.kind == YamlNode::Kind::sequence) {
        const auto index = whole<std::size_t>(word);
        if (index && *index < node.items.size()) return node.items[*index];
        throw Bad{0, path, fmt::format("the list has no element `{}`; it has {}, from 0 on", word, node.items.size())};
    }
    if (node.kind == YamlNode::Kind::scalar) {
        throw Bad{0, path, fmt::format("`{}` is looked for in a single value; write a path of docs/twin.md", word)};
    }
    node.kind = YamlNode::Kind::map;
    if (auto* there = node.find(word)) return *there;
    auto& made = node.members.emplace_back();
    made.key = {word, 0};
    forget_lines(made.value);
    return made.value;
}

}  // namespace

void override_value(YamlNode& root, const std::string& text) {
    const auto equals = text.find('=');
    if (equals == std::string::npos || equals == 0) {
        throw Bad{0, text, "sets nothing; write PATH=VALUE, as faults.node_loss=10s"};
    }
    const auto path = text.substr(0, equals);
    auto value = parse_yaml(std::string_view{text}.substr(equals + 1), "scenario");
    if (!value) throw Bad{0, path, value.error().what};
    forget_lines(*value);
    auto* here = &root;
    for (std::size_t from = 0; from <= path.size();) {
        const auto dot = std::min(path.find('.', from), path.size());
        here = &step(*here, path.substr(from, dot - from), path);
        from = dot + 1;
    }
    *here = std::move(*value);
}

Section::Section(const YamlNode* node, int line, std::string path)
    : node_{node}, line_{node == nullptr ? line : node->line}, path_{std::move(path)} {
    if (node_ != nullptr && node_->kind != YamlNode::Kind::null && !is_map(node_)) {
        throw Bad{line_, path_, "a group of fields belongs here; write `{NAME: VALUE}`"};
    }
}

void Section::read(const char* key, double& into, Range range) {
    if (const auto got = plain_number(key, range)) into = *got;
}

void Section::read(const char* key, Duration& into) {
    constexpr auto form = "is no time; write a number with its unit, as 500us, 20ms, 10s, 5m, 2h or 1d";
    const auto number = read_number(key, form);
    if (!number) return;
    const auto& [count, unit] = *number;
    const double us = unit == "us"                                  ? 1
                      : unit == "ms"                                ? 1e3
                      : unit == "s" || (unit.empty() && count == 0) ? 1e6
                      : unit == "m"                                 ? 6e7
                      : unit == "h"                                 ? 3.6e9
                      : unit == "d"                                 ? 8.64e10
                                                                    : -1;
    if (us < 0) refuse_text(key, form);
    if (count < 0) refuse_text(key, "is out of range; write 0s or more");
    if (count * us > most_number) refuse_text(key, "is out of range; write a shorter time");
    into = Duration{static_cast<std::int64_t>(count * us)};
}

void Section::read(const char* key, Bytes& into) {
    constexpr auto form = "is no size; write a number with its unit, as 512MB or 16GB";
    const auto number = read_number(key, form);
    if (!number) return;
    const auto& [count, unit] = *number;
    const double bytes = unit == "GB" ? 1 << 30 : unit == "MB" ? 1 << 20 : unit.empty() ? 1 : -1;
    if (bytes < 0) refuse_text(key, form);
    if (count < 0) refuse_text(key, "is out of range; write 0MB or more");
    if (count * bytes > most_number) refuse_text(key, "is out of range; write a smaller size");
    into = Bytes{static_cast<std::int64_t>(count * bytes)};
}

void Section::read(const char* key, MilliCpus& into) {
    const auto got = plain_number(key, {});
    if (got) into = MilliCpus{static_cast<std::int64_t>(*got * 1000)};
}

void Section::read(const char* key, bool& into) {
    if (const auto* word = read_choice(key, {"true", "false"})) into = *word == "true";
}

void Section::read(const char* key, std::string& into) {
    if (const auto* node = take(key)) into = text_of(key, *node);
}

void Section::read_range(const char* key, GpuCount& least, GpuCount& most) {
    const auto* node = take(key);
    if (node == nullptr) return;
    const std::string_view text = text_of(key, *node);
    const auto dots = text.find("..");
    constexpr std::int32_t most_gpus = 10'000'000;  // as in a job file
    const auto low = whole<std::int32_t>(text.substr(0, dots));
    const auto high = dots == std::string_view::npos ? low : whole<std::int32_t>(text.substr(dots + 2));
    if (!low || !high || *low < 0 || *low > *high || *high > most_gpus) {
        refuse_text(key, fmt::format("is no number of GPUs; write 4 or 1..8, each of 0 to {}", most_gpus));
    }
    least = GpuCount{*low};
    most = GpuCount{*high};
}

void Section::words(const char* key, std::vector<std::string>& into) {
    const auto* all = items(key);
    if (all == nullptr) return;
    into.clear();
    for (const auto& word : *all) into.push_back(text_of(key, word));
}

void Section::finish() const {
    if (!is_map(node_)) return;
    for (const auto& [key, value] : node_->members) {
        if (std::find(known_.begin(), known_.end(), key.text) != known_.end()) continue;
        throw Bad{key.line, at(key.text),
                  fmt::format("no such field{}; docs/twin.md lists them all", did_you_mean(key.text, known_))};
    }
}

void Section::refuse(std::string_view key, const std::string& what) const {
    const auto* value = is_map(node_) ? node_->find(key) : nullptr;
    throw Bad{value == nullptr ? line_ : value->line, at(key), what};
}

std::string Section::at(std::string_view key) const {
    return path_.empty() ? std::string{key} : fmt::format("{}.{}", path_, key);
}

const YamlNode* Section::take(const char* key) {
    known_.emplace_back(key);
    return is_map(node_) ? node_->find(key) : nullptr;
}

const std::vector<YamlNode>* Section::items(const char* key) {
    const auto* node = take(key);
    if (node == nullptr) return nullptr;
    if (node->kind != YamlNode::Kind::sequence) {
        refuse(key, fmt::format("a list belongs here; write `{}: [..., ...]`", key));
    }
    return &node->items;
}

const std::string& Section::text_of(std::string_view key, const YamlNode& node) const {
    if (node.kind == YamlNode::Kind::scalar) return node.text;
    const auto* what = node.kind == YamlNode::Kind::sequence ? "a list"
                       : node.kind == YamlNode::Kind::map    ? "a group of fields"
                                                             : "nothing";
    throw Bad{node.line, at(key), fmt::format("{} stands where one value belongs; write one", what)};
}

std::optional<Section::Number> Section::read_number(const char* key, std::string_view form) {
    const auto* node = take(key);
    if (node == nullptr) return std::nullopt;
    const auto& text = text_of(key, *node);
    char* end = nullptr;
    const auto count = std::strtod(text.c_str(), &end);
    if (end == text.c_str() || !std::isfinite(count)) refuse_text(key, form);
    return Number{count, end};
}

std::optional<double> Section::plain_number(const char* key, Range range) {
    constexpr auto form = "is no number; write one, as 4 or 0.5";
    const auto number = read_number(key, form);
    if (!number) return std::nullopt;
    if (!number->unit.empty()) refuse_text(key, form);
    if (number->count < range.least || number->count > range.most) {
        refuse_text(key, fmt::format("is out of range; write {:.0f} to {:.0f}", range.least, range.most));
    }
    return number->count;
}

const std::string* Section::read_choice(const char* key, const std::vector<std::string_view>& words) {
    const auto* node = take(key);
    if (node == nullptr) return nullptr;
    const auto& text = text_of(key, *node);
    if (std::find(words.begin(), words.end(), text) == words.end()) {
        refuse_text(key, fmt::format("is not known{}; write {} or {}", did_you_mean(text, words),
                                     fmt::join(words.begin(), words.end() - 1, ", "), words.back()));
    }
    return &text;
}

void Section::refuse_text(std::string_view key, std::string_view form) const {
    refuse(key, fmt::format("`{}` {}", node_->find(key)->text, form));
}

}  // namespace stargate::twin
