#pragma once

#include <algorithm>
#include <concepts>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/names.hpp"
#include "base/units.hpp"
#include "base/yaml.hpp"

/// How a scenario file is read: each group of fields by the code that knows what stands in it.
namespace stargate::twin {

/// Stops the reading of a scenario. Caught by read_scenario.
struct Bad {
    int line = 0;  // 0: it was not in the file, but given with --set
    std::string path;
    std::string what;  // with its remedy
};

/// Sets the value at a path (words and list numbers between dots) of the tree: `text` is PATH=VALUE.
void override_value(YamlNode& root, const std::string& text);

constexpr double most_number = 9e15;  // whole numbers up to here are exact

/// What a number may be, both ends included.
struct Range {
    double least = 0;
    double most = 1e9;  // more than any fleet has of anything
};

/// One group of fields of the file. Knows which of its keys have been read, so that an unknown one is found. What is
/// not there leaves the variable as it is.
class Section {
public:
    /// node  nullptr for a group that is not there; line: then that of what it would belong to
    Section(const YamlNode* node, int line, std::string path);
    ~Section() = default;
    Section(const Section&) = delete;
    Section& operator=(const Section&) = delete;

    /// range  the field's own, within what a T holds
    template <std::integral T>
    void read(const char* key, T& into, Range range = {}) {
        if (const auto got = plain_number(key, range)) into = static_cast<T>(*got);
    }
    void read(const char* key, double& into, Range range = {});
    void read(const char* key, Duration& into);
    void read(const char* key, Bytes& into);
    void read(const char* key, MilliCpus& into);
    void read(const char* key, bool& into);
    void read(const char* key, std::string& into);
    template <class Enum>
    requires std::is_enum_v<Enum>
    void read(const char* key, Enum& into) {
        std::vector<std::string_view> words;
        boost::mp11::mp_for_each<boost::describe::describe_enumerators<Enum>>(
            [&](auto known) { words.emplace_back(known.name); });
        if (const auto* word = read_choice(key, words)) into = from_name<Enum>(*word).value_or(into);
    }
    /// `4`, or `1..8` for an elastic job.
    void read_range(const char* key, GpuCount& least, GpuCount& most);
    void words(const char* key, std::vector<std::string>& into);
    template <class Read>
    void section(const char* key, Read read_it) {
        Section inner{take(key), line_, at(key)};
        read_it(inner);
        inner.finish();
    }
    template <class Read>
    void list(const char* key, Read read_it) {
        const auto* all = items(key);
        if (all == nullptr) return;
        std::size_t number = 0;
        for (const auto& item : *all) {
            Section inner{&item, item.line, at(key) + "." + std::to_string(number++)};
            read_it(inner);
            inner.finish();
        }
    }
    /// Refuses what has not been read.
    void finish() const;
    /// Refuses the value of a key, or that it is not there.
    [[noreturn]] void refuse(std::string_view key, const std::string& what) const;

private:
    struct Number {
        double count = 0;
        std::string unit;  // what stands behind it
    };

    [[nodiscard]] std::string at(std::string_view key) const;
    const YamlNode* take(const char* key);
    const std::vector<YamlNode>* items(const char* key);
    const std::string& text_of(std::string_view key, const YamlNode& node) const;
    /// A number with its unit. form: what else to write, as `a number with its unit, as 10s`.
    std::optional<Number> read_number(const char* key, std::string_view form);
    std::optional<double> plain_number(const char* key, Range range);
    const std::string* read_choice(const char* key, const std::vector<std::string_view>& words);
    [[noreturn]] void refuse_text(std::string_view key, std::string_view form) const;

    const YamlNode* node_;
    int line_;
    std::string path_;
    std::vector<std::string_view> known_;
};

}  // namespace stargate::twin
