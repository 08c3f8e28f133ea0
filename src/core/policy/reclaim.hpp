#pragma once

#include <optional>
#include <vector>

#include "core/policy/place.hpp"
#include "core/state.hpp"

/// Taking capacity back for a job that cannot wait its turn: shrinking elastic work first, because it costs least,
/// then preempting lower classes, the domain first, the smallest set, the least work lost.
namespace stargate {

/// What room is to be made for.
struct Need {
    const JobSpec* spec = nullptr;  // the least that it runs with
    OffLimits off_limits;
    /// None: anyone may be a victim. Else only work of this tenant and those below it, which must return so many
    /// thousandths of GPUs to the quota.
    TenantId under;
    std::int64_t quota = 0;
    /// GPUs that jobs of the same shape wait for: elastic victims give as much at once, for one restart and not many.
    std::int32_t more_gpus = 0;

    [[nodiscard]] std::int32_t gpus() const { return spec->share > 0 ? 1 : spec->min_gpus.count(); }
};

/// One attempt that gives GPUs back. `keep` is what its next generation holds; empty: it is preempted whole.
struct Victim {
    AttemptId attempt;
    Parts keep;
};

/// A place for a job on GPUs of which some are still held by the victims, or by work that is ending anyway.
struct Reclaim {
    Parts parts;
    std::vector<Victim> victims;
    Instant leaving_by{};  // when what is ending anyway is gone at the latest
};

/// The cheapest way to make room, if there is one. Victims are attempts that nobody has warned yet and whose lease is
/// settled; elastic ones of the same or a lower class give what they hold above their minimum; preempted ones are of a
/// class that Settings lets this class preempt.
/// Nothing is touched that cannot help: an O(1) sum says no first. Cost O(nodes tried x attempts on them).
struct Reclaimed {
    std::optional<Reclaim> plan;
    bool too_many_victims = false;  // there was a way, of more victims than Settings allows
};
Reclaimed reclaim(const State& state, Instant now, const Need& need);

/// `parts` of an attempt cut to `gpus` GPUs, the last ones leaving first. Needs 0 < gpus <= what they hold.
Parts cut_to(const JobSpec& spec, const Parts& parts, std::int32_t gpus);

}  // namespace stargate
