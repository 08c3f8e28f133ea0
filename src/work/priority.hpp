#pragma once

#include <array>
#include <boost/describe.hpp>
#include <cstddef>
#include <cstdint>

namespace stargate {

/// Who goes first. Higher goes first; who may preempt whom is data (Settings::may_preempt).
enum class PriorityClass : std::uint8_t { opportunistic, research, production, serving, system };
BOOST_DESCRIBE_ENUM(PriorityClass, opportunistic, research, production, serving, system)

constexpr std::size_t priority_classes = 5;
constexpr std::size_t rank_of(PriorityClass priority) { return static_cast<std::size_t>(priority); }
constexpr std::uint32_t bit_of(PriorityClass priority) { return 1U << rank_of(priority); }

}  // namespace stargate
