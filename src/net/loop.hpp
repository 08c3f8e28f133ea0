#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "base/units.hpp"

namespace stargate::net {

/// One thread's event loop: sockets and timers call back on it, one at a time, so that nothing on it needs a lock.
class Loop {
public:
    Loop();
    Loop(const Loop&) = delete;
    Loop& operator=(const Loop&) = delete;
    ~Loop();

    /// Until stop() is called, also while there is nothing to do.
    void run();
    void stop();                            // from any thread
    void restart();                         // after stop(), before the next run()
    void post(std::function<void()> what);  // from any thread

    using Timer = std::uint64_t;  // never 0
    Timer after(Duration delay, std::function<void()> what);
    /// It does not call any more. Nothing happens when it has called, or for 0.
    void cancel(Timer timer);

    /// Microseconds of a clock that never jumps, as of now.
    [[nodiscard]] static std::int64_t now_us();

    struct Impl;
    [[nodiscard]] Impl& impl() { return *impl_; }

private:
    std::unique_ptr<Impl> impl_;
};

}  // namespace stargate::net
