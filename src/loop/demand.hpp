#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "base/units.hpp"
#include "core/input.hpp"

namespace stargate {

/// Adds up what the gateways tell. A gateway counts once: its newest word stands for all before, and one that has been
/// started anew stands for the one before it. The word of a silent gateway holds for a while; then the demand is
/// unknown until it speaks again or is dropped. Where no gateway has been heard it is unknown, not zero.
class DemandMerge {
public:
    static constexpr Duration default_hold = std::chrono::seconds{2};
    explicit DemandMerge(Duration hold = default_hold) : hold_{hold} {}

    /// All that this gateway has: of a service that `levels` leaves out it has nothing.
    /// boot  rises each time another life of the gateway is met: whoever has just taken office cannot
    ///       tell otherwise which of two boots is the one that lives
    /// seq   rises with each word of one boot, from any number on
    /// returns whether it is news: not told before, not overtaken, and not of a gateway that has been replaced
    bool told(const std::string& gateway, std::uint64_t boot, std::uint64_t seq, std::vector<DemandLevel> levels,
              Instant now);

    /// This gateway was stopped on purpose: it has nothing any more and nobody waits for its word.
    void drop(const std::string& gateway) { gateways_.erase(gateway); }

    /// Requests and the tokens they want add up. A replica's pace is the largest that is known: a gateway sees only its
    /// own share of what a replica does, so none sees more than it gives.
    [[nodiscard]] ServiceDemand total(JobId service, Instant now) const;

    /// When the next gateway will have been silent for too long; `never` when all of them have or there is none.
    [[nodiscard]] Instant next_silence(Instant now) const;

    /// Of these services the totals that say something else than what the last call gave; before the first call each
    /// was unknown. Rates that ask for as many replicas as before say the same.
    std::vector<ServiceDemand> changed(const std::vector<JobId>& services, Instant now);

private:
    struct Gateway {
        std::uint64_t boot = 0;
        std::uint64_t seq = 0;
        Instant heard{};
        std::vector<DemandLevel> levels;
    };

    Duration hold_;
    std::map<std::string, Gateway> gateways_;
    std::map<JobId, ServiceDemand> given_;
};

}  // namespace stargate
