#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <string>
#include <string_view>

#include "api/frame.hpp"
#include "api/json.hpp"

namespace stargate::cli {

/// How long a control plane that went away is waited for. Its jobs go on meanwhile.
constexpr std::chrono::seconds longest_absence{60};
constexpr std::chrono::milliseconds pause_between_tries{50};

/// Reads the frames of followed jobs, and knows how far each element has come: enough to go on after a break.
class Followed {
public:
    std::function<void(const api::Frame&)> output;                           // of either stream
    std::function<void(std::uint64_t first, int count)> accepted;            // whose output follows
    std::function<void(std::uint32_t task, const api::Json& end)> finished;  // once for each element

    /// False: these are no frames.
    bool take(std::string_view piece);
    /// The next piece is the first of another reply.
    void reconnect() { pending_.clear(); }
    /// Where to go on, as the server wants it: `TASK:ATTEMPT:OFFSET`, `TASK:done`, `FIRST-LAST:done`, commas between.
    [[nodiscard]] std::string resume() const;
    [[nodiscard]] int ended() const { return ended_; }

private:
    struct Place {
        std::uint64_t attempt = 0;
        std::uint64_t offset = 0;
        bool done = false;
    };
    void handle(const api::Frame& frame);

    std::string pending_;
    std::map<std::uint32_t, Place> places_;
    int ended_ = 0;
};

/// Writes all of it to a descriptor; false when nobody reads there any more.
bool write_all(int to, std::string_view bytes);

}  // namespace stargate::cli
