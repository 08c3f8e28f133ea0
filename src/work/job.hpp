#pragma once

#include <boost/container/vector.hpp>
#include <boost/describe.hpp>
#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "base/units.hpp"
#include "work/priority.hpp"

namespace stargate {

/// A GPU type by its index in Settings::gpu_types.
using GpuTypeBits = std::uint32_t;
constexpr std::size_t max_gpu_types = 32;  // the width of GpuTypeBits

/// How close together a gang must be.
enum class Level : std::uint8_t { node, rack, pod, hall, site, fleet };
BOOST_DESCRIBE_ENUM(Level, node, rack, pod, hall, site, fleet)

/// What sort of work it is, as its file says. Of these only `service` matters to a decision: its jobs are replicas,
/// which are started, put to sleep and ended as demand asks (core/serving.hpp).
enum class Kind : std::uint8_t { batch, training, shell, service };
BOOST_DESCRIBE_ENUM(Kind, batch, training, shell, service)

/// The elements of an array: `count` jobs whose ids follow on each other.
struct Elements {
    JobId first;
    std::int32_t count = 1;
    friend bool operator==(const Elements&, const Elements&) = default;
};
BOOST_DESCRIBE_STRUCT(Elements, (), (first, count))

/// How many jobs or arrays one can come after.
constexpr std::size_t max_after = 100;

/// What a job asks for, as far as decisions go. Shared by all elements of an array; immutable once submitted.
/// How it is run is its Launch, which decisions never see.
struct JobSpec {
    std::string name;
    TenantId tenant;
    PriorityClass priority = PriorityClass::research;
    Kind kind = Kind::batch;
    Level require = Level::fleet;  // the gang lies within one domain of this level
    bool one_rank_a_node = false;  // else one rank a GPU
    bool resize_in_place = false;  // survivors keep running through a resize
    GpuCount min_gpus{1};          // >= 0; a gang of exactly so many when max_gpus is the same
    GpuCount max_gpus{1};          // > min_gpus: elastic
    std::int32_t share = 0;        // thousandths of one GPU, 1..999; then min_gpus and max_gpus are 0
    GpuTypeBits gpu_types = 0;     // any of these; 0: any type
    MilliCpus cpus_per_rank;       // host CPUs leased for each rank; 0: none are counted
    Bytes memory_per_rank;         // host memory leased for each rank; 0: none is counted
    Duration time_limit{};         // of running time, > 0
    Duration grace{};              // between warning and end, >= 0
    std::int32_t retries = 3;      // infrastructure failures survived
    std::uint32_t owner = 0;       // uid that submitted it and may act on it
    std::vector<JobId> after;      // as `comes_after`, each element by itself, in logs of older versions
    // Whole arrays, each once: start only when all of their elements succeeded. Every specification has one, hence the
    // short counters.
    boost::container::vector<Elements, void,
                             boost::container::vector_options_t<boost::container::stored_size<std::uint32_t>>>
        comes_after;
    friend bool operator==(const JobSpec&, const JobSpec&) = default;

    [[nodiscard]] bool is_elastic() const { return max_gpus > min_gpus; }
};
BOOST_DESCRIBE_STRUCT(JobSpec, (),
                      (name, tenant, priority, min_gpus, max_gpus, share, gpu_types, cpus_per_rank, memory_per_rank,
                       require, time_limit, grace, retries, one_rank_a_node, resize_in_place, after, owner, kind,
                       comes_after))

/// How a job ended.
enum class Outcome : std::uint8_t { succeeded, failed, cancelled };
BOOST_DESCRIBE_ENUM(Outcome, succeeded, failed, cancelled)

}  // namespace stargate
