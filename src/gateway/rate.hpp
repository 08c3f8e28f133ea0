#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace stargate::gateway {

/// How much of something there has been of late: an exponentially decaying sum over some ten seconds.
class Rate {
public:
    void note(std::int64_t now_us, double amount = 1) {
        if (first_us_ < 0) first_us_ = last_us_ = now_us;
        sum_ = sum_ * decay(now_us - last_us_) + amount;
        last_us_ = now_us;
    }
    /// So much a second; 0 when there was none.
    [[nodiscard]] double per_second(std::int64_t now_us) const {
        if (first_us_ < 0) return 0;
        const auto seen = std::max(1 - decay(now_us - first_us_), 0.01);  // of the window
        return sum_ * decay(now_us - last_us_) / (window_us * seen) * 1e6;
    }

private:
    static constexpr double window_us = 10e6;
    static double decay(std::int64_t passed_us) { return std::exp(-static_cast<double>(passed_us) / window_us); }

    double sum_ = 0;
    std::int64_t first_us_ = -1;
    std::int64_t last_us_ = 0;
};

}  // namespace stargate::gateway
