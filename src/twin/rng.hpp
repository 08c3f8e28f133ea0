#pragma once

#include <array>
#include <cmath>
#include <cstdint>

#include "base/units.hpp"

namespace stargate::twin {

constexpr std::uint64_t splitmix(std::uint64_t& state) {
    auto z = (state += 0x9e3779b97f4a7c15ULL);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return z ^ (z >> 31);
}

/// xoshiro256** (Blackman and Vigna, public domain), with laws of our own because those of the standard library differ
/// between libraries. Instants and durations are rounded to microseconds before anyone sees them.
class Rng {
public:
    explicit Rng(std::uint64_t seed) {
        for (auto& word : words_) word = splitmix(seed);
    }
    std::uint64_t next() {
        const auto result = rotate(words_[1] * 5, 7) * 9;
        const auto t = words_[1] << 17;
        words_[2] ^= words_[0];
        words_[3] ^= words_[1];
        words_[1] ^= words_[2];
        words_[0] ^= words_[3];
        words_[2] ^= t;
        words_[3] = rotate(words_[3], 45);
        return result;
    }
    /// 0 .. n - 1, each alike; n > 0.
    std::uint64_t below(std::uint64_t n) {
        const auto reject_above = ~std::uint64_t{0} - (~std::uint64_t{0} % n + 1) % n;
        while (true) {
            if (const auto draw = next(); draw <= reject_above) return draw % n;
        }
    }
    /// [0, 1), 53 bits.
    double unit() { return static_cast<double>(next() >> 11) * 0x1.0p-53; }
    bool chance(double probability) { return probability > 0 && unit() < probability; }
    Duration exponential(Duration mean) { return rounded(-static_cast<double>(mean.count()) * std::log(1.0 - unit())); }
    /// Log-normal of this mean; `spread` is the standard deviation of the logarithm.
    Duration lognormal(Duration mean, double spread) {
        const auto normal = std::sqrt(-2.0 * std::log(1.0 - unit())) * std::cos(6.283185307179586 * unit());
        return rounded(static_cast<double>(mean.count()) * std::exp(spread * normal - spread * spread / 2));
    }
    /// [low, high].
    Duration between(Duration low, Duration high) {
        return low + Duration{static_cast<std::int64_t>(below(static_cast<std::uint64_t>((high - low).count()) + 1))};
    }

private:
    static std::uint64_t rotate(std::uint64_t x, int by) { return (x << by) | (x >> (64 - by)); }
    /// At least one microsecond, so that what follows something also comes later.
    static Duration rounded(double microseconds) {
        constexpr double longest = 1e15;
        return Duration{std::llround(std::fmin(std::fmax(microseconds, 1.0), longest))};
    }
    std::array<std::uint64_t, 4> words_{};
};

}  // namespace stargate::twin
