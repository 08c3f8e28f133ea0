#pragma once

#include <chrono>
#include <compare>
#include <concepts>
#include <cstdint>

namespace stargate {

/// A whole number of one unit. Units do not mix: watts do not add to bytes, and nothing converts by itself.
template <class Tag, std::signed_integral Rep = std::int64_t>
class Quantity {
public:
    using rep = Rep;
    constexpr Quantity() = default;
    constexpr explicit Quantity(Rep count) : count_{count} {}
    [[nodiscard]] constexpr Rep count() const { return count_; }
    friend constexpr auto operator<=>(Quantity, Quantity) = default;
    friend constexpr Quantity operator+(Quantity a, Quantity b) {
        return Quantity{static_cast<Rep>(a.count_ + b.count_)};
    }
    friend constexpr Quantity operator-(Quantity a, Quantity b) {
        return Quantity{static_cast<Rep>(a.count_ - b.count_)};
    }
    friend constexpr Quantity operator*(Quantity a, Rep times) { return Quantity{static_cast<Rep>(a.count_ * times)}; }
    constexpr Quantity& operator+=(Quantity other) { return *this = *this + other; }
    constexpr Quantity& operator-=(Quantity other) { return *this = *this - other; }

private:
    Rep count_ = 0;
};

using Milliwatts = Quantity<struct MilliwattsTag>;
using Bytes = Quantity<struct BytesTag>;
using GpuCount = Quantity<struct GpuCountTag, std::int32_t>;
/// Thousandths of a host CPU core.
using MilliCpus = Quantity<struct MilliCpusTag>;

constexpr Milliwatts watts(std::int64_t n) { return Milliwatts{n * 1000}; }
constexpr Bytes mebibytes(std::int64_t n) { return Bytes{n << 20}; }
constexpr Bytes gibibytes(std::int64_t n) { return Bytes{n << 30}; }
constexpr MilliCpus cpus(std::int64_t n) { return MilliCpus{n * 1000}; }

using Duration = std::chrono::microseconds;
/// The clock of the core. It has no now(): only a world can tell the time.
struct FleetTime {};
/// Microseconds since the Unix epoch as the world that feeds the core counts them; never falls within one store.
using Instant = std::chrono::time_point<FleetTime, Duration>;
constexpr Instant never = Instant::max();

/// Names one thing of one kind. Zero names nothing. Order breaks ties, always the same way.
template <class Tag>
struct Id {
    std::uint64_t value = 0;
    friend constexpr auto operator<=>(Id, Id) = default;
    [[nodiscard]] constexpr explicit operator bool() const { return value != 0; }
};
using NodeId = Id<struct NodeIdTag>;
using ZoneId = Id<struct ZoneIdTag>;
using TenantId = Id<struct TenantIdTag>;
using JobId = Id<struct JobIdTag>;          // handed out by a counter in State, never random
using AttemptId = Id<struct AttemptIdTag>;  // one run of a job, for ever

}  // namespace stargate
