#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>

namespace stargate::api {

/// Runs what may hang (the account database, folders on a network file system) on a few threads of its own, so that the
/// API's thread answers everybody else meanwhile. One person has one thread at most: whose folder hangs waits alone.
class Lookups {
public:
    using Outcome = std::function<void()>;
    using Work = std::function<Outcome()>;

    static constexpr std::chrono::milliseconds default_patience{5'000};
    explicit Lookups(std::chrono::milliseconds patience = default_patience);
    Lookups(const Lookups&) = delete;
    Lookups& operator=(const Lookups&) = delete;
    /// Nothing is called any more once this returns. A thread that hangs is left to itself: `work` may own what it
    /// uses, and refer to nothing else.
    ~Lookups();

    /// `work` runs on some thread, and then what it returns; or `too_late`, once patience is over. From any thread.
    /// What waits is of requests whose clients wait, so that the limits of connections bound it, of one user and whole.
    void run(std::uint32_t uid, Work work, Outcome too_late);

private:
    struct Shared;
    std::shared_ptr<Shared> shared_;
    std::chrono::milliseconds patience_;
};

}  // namespace stargate::api
