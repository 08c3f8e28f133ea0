#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"

namespace stargate::api {

/// A JSON value that came in.
struct Json {
    enum class Kind : std::uint8_t { null, boolean, number, text, list, object };
    Kind kind = Kind::null;
    bool boolean = false;
    double number = 0;       // of every number
    std::int64_t whole = 0;  // of a number without fraction that fits
    std::string text;
    std::vector<Json> items;
    struct Member;
    std::vector<Member> members;  // in the order they came

    /// The member of that name, or nullptr.
    [[nodiscard]] const Json* find(std::string_view name) const;
    /// The same, a null value instead of nothing: `row["gpus"].whole`.
    [[nodiscard]] const Json& operator[](std::string_view name) const;
    /// The value as one word, as a table shows it: texts bare, numbers as they came, null as nothing.
    [[nodiscard]] std::string word() const;
};

struct Json::Member {
    std::string name;
    Json value;
};

/// A list of JSON values under construction.
class JsonList {
public:
    explicit JsonList(std::string& out) : out_{out} { out_.push_back('['); }
    /// Where the next item is to be appended.
    std::string& item() {
        if (!first_) out_.push_back(',');
        first_ = false;
        return out_;
    }
    void close() { out_.push_back(']'); }

private:
    std::string& out_;
    bool first_ = true;
};

/// At most 32 levels deep. Fault::malformed with what is wrong; Fault::conflict when an object has a member twice.
[[nodiscard]] Result<Json> parse_json(std::string_view text);

/// The body of a request: a JSON object, an empty one where nothing was sent. Faults as above, as `what; remedy`.
[[nodiscard]] Result<Json> parse_body(std::string_view text);

}  // namespace stargate::api
