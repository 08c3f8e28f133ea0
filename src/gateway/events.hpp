#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

/// Server-sent events as OpenAI's streams have them.
namespace stargate::gateway {

struct TokenUsage {
    std::int64_t prompt_tokens = 0;
    std::int64_t completion_tokens = 0;
};
/// Of an answer, or of the last event of a stream; nothing where it tells none. answer  a JSON object
[[nodiscard]] std::optional<TokenUsage> usage_of(std::string_view answer);

/// What an event says to us.
struct EventSight {
    bool is_done = false;  // `[DONE]`
    bool is_error = false;
    bool is_delta = false;        // a part of the answer
    bool is_usage_alone = false;  // the event that a client gets only when it asks for usage
    std::optional<TokenUsage> usage;
};
/// event  whole, with its empty line. Cheap: most events are only searched for a word.
[[nodiscard]] EventSight look_at(std::string_view event);

/// Cuts a stream, which comes in pieces of any size, into whole events. Lines end with \n or \r\n.
class EventCutter {
public:
    static constexpr std::size_t longest_event = 4U << 20;  // bytes

    /// Calls for each event that is whole now, with its empty line. What it is called with stays where it is until the
    /// next put(), or until `bytes` go. False when an event is too long: the stream is broken.
    template <class Call>
    [[nodiscard]] bool put(std::string_view bytes, Call&& call) {
        held_.erase(0, std::exchange(given_, 0));
        const bool is_held = !held_.empty();
        if (is_held) {
            const auto looked = held_.size();
            held_.append(bytes);
            bytes = held_;
            from_ = looked > 3 ? looked - 3 : 0;  // the empty line may have begun before
        }
        for (auto end = end_of_event(bytes, from_); end > 0; end = end_of_event(bytes, from_)) {
            call(bytes.substr(0, end));
            bytes.remove_prefix(end);
            from_ = 0;
        }
        from_ = 0;
        if (is_held) {
            given_ = held_.size() - bytes.size();
        } else {
            held_ = bytes;
        }
        return bytes.size() <= longest_event;
    }
    /// The beginning of one that is not whole.
    [[nodiscard]] bool holds_some() const { return held_.size() > given_; }

private:
    /// Behind the first empty line; 0 when there is none.
    static std::size_t end_of_event(std::string_view bytes, std::size_t from);

    std::string held_;       // what was given last, then the beginning of an event
    std::size_t given_ = 0;  // bytes
    std::size_t from_ = 0;
};

}  // namespace stargate::gateway
