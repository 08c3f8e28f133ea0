#pragma once

#include <cstdint>
#include <functional>
#include <utility>

#include "base/fair_queue.hpp"

namespace stargate::api {

/// Users take turns on the server's one thread: between two turns of the loop one request is answered, or one piece of
/// a stream made, of the user who has waited longest. So whoever asks for much waits for himself. Used by one thread.
class Turns {
public:
    using Go = std::function<void()>;
    /// `later` has the loop call something, after all that is ready by then.
    explicit Turns(std::function<void(Go)> later) : later_{std::move(later)} {}

    /// Takes this turn where nobody has: the caller goes on at once. Else it waits.
    [[nodiscard]] bool take() {
        if (is_taken_) return false;
        is_taken_ = true;
        later_([this] { give_next(); });
        return true;
    }
    /// Calls `go` when it is the user's turn; his own come in order.
    void wait(std::uint32_t uid, Go go) { waiting_.push(uid, std::move(go)); }

private:
    void give_next() {
        is_taken_ = !waiting_.empty();
        if (!is_taken_) return;
        later_([this] { give_next(); });
        waiting_.pop()();
    }

    std::function<void(Go)> later_;
    bool is_taken_ = false;
    FairQueue<std::uint32_t, Go> waiting_;
};

}  // namespace stargate::api
