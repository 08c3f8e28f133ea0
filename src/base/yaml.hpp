#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"

/// YAML as people write it by hand, read strictly: what could surprise its reader is an error with a line and a remedy.
namespace stargate {

/// A YAML value with the line it stands on, from 1. Scalars stay text: what a field takes, its reader decides.
struct YamlNode {
    enum class Kind { null, scalar, sequence, map };
    struct Key {
        std::string text;
        int line = 0;
    };
    struct Member;
    Kind kind = Kind::null;
    int line = 1;
    bool quoted = false;  // a scalar in quotes, or a block of text, is a text, never a number or a boolean
    std::string text;
    std::vector<YamlNode> items;
    std::vector<Member> members;  // in the order of the file, no key twice

    /// The value of a map's key; none where there is no such key.
    [[nodiscard]] const YamlNode* find(std::string_view key) const;
    [[nodiscard]] YamlNode* find(std::string_view key);
};

struct YamlNode::Member {
    Key key;
    YamlNode value;
};

/// What stands for a field where an error is about the whole file.
constexpr std::string_view whole_file = "file";

struct YamlError {
    int line = 1;
    std::string field;  // or `file`, when it is about the whole
    std::string what;   // with its remedy
};
template <class T>
using YamlResult = tl::expected<T, YamlError>;

/// Bounds on what a file may hold: larger than anything a person writes, small enough for any machine.
constexpr std::size_t max_yaml_bytes = 256U << 10;
constexpr std::size_t max_yaml_depth = 16;
constexpr std::size_t max_yaml_nodes = 20'000;

/// Reads one document. Aliases, tags, duplicate keys, other documents, control characters and broken UTF-8 are errors.
/// `of` is what the file should hold, for sentences: `job` or `scenario`.
[[nodiscard]] YamlResult<YamlNode> parse_yaml(std::string_view text, std::string_view of);

}  // namespace stargate
