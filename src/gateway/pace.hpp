#pragma once

#include <cmath>
#include <cstdint>

namespace stargate::gateway {

/// For how long in all a replica has been full: as many requests there as it may have. Reads no clock.
class FullTime {
public:
    void set(bool is_full, std::int64_t now_us) {
        if (is_full == is_full_) return;
        total_us_ = total_us(now_us);
        since_us_ = now_us;
        is_full_ = is_full;
    }
    [[nodiscard]] bool is_full() const { return is_full_; }
    [[nodiscard]] std::int64_t total_us(std::int64_t now_us) const {
        return is_full_ ? total_us_ + now_us - since_us_ : total_us_;
    }

private:
    bool is_full_ = false;
    std::int64_t since_us_ = 0;
    std::int64_t total_us_ = 0;
};

/// How many tokens a second a full replica of a service gives, from whole answers: of each, what came while its replica
/// was full, and for how long that was. A full replica computes `places` of them at once, so each stands for that part
/// of the time; an answer and its time count together, whenever it ends. Weights fall over some 30 s of full time, not
/// of the wall's, and what has not been seen for an hour is forgotten: who measured too little in a bad time would keep
/// replicas from ever being full again.
class Pace {
public:
    explicit Pace(std::int32_t places) : places_{places} {}

    [[nodiscard]] std::int32_t places() const { return places_; }

    /// tokens  of one whole answer, that came while its replica was full
    /// full_us  for so long, > 0
    void note(double tokens, std::int64_t full_us, std::int64_t now_us) {
        if (is_old(now_us)) *this = Pace{places_};
        const auto share_us = static_cast<double>(full_us) / places_;
        const auto kept = std::exp(-share_us / window_us);
        tokens_ = tokens_ * kept + tokens;
        full_us_ = full_us_ * kept + share_us;
        last_us_ = now_us;
        if (answers_ < places_) ++answers_;
    }

    /// 0: not known, before as many answers as a replica has places, and a second of full time.
    [[nodiscard]] std::int64_t tokens_per_s(std::int64_t now_us) const {
        constexpr double least_us = 1e6;
        if (answers_ < places_ || full_us_ < least_us || is_old(now_us)) return 0;
        return static_cast<std::int64_t>(tokens_ / full_us_ * 1e6);
    }

private:
    static constexpr double window_us = 30e6;
    static constexpr std::int64_t longest_memory_us = 3'600'000'000;

    [[nodiscard]] bool is_old(std::int64_t now_us) const { return now_us - last_us_ > longest_memory_us; }

    std::int32_t places_;
    std::int32_t answers_ = 0;  // up to places_
    double tokens_ = 0;
    double full_us_ = 0;
    std::int64_t last_us_ = 0;
};

}  // namespace stargate::gateway
