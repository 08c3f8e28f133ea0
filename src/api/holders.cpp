#include "api/holders.hpp"

#include <algorithm>
#include <bit>
#include <tuple>

#include "core/evolve.hpp"
#include "core/policy/place.hpp"

namespace stargate::api {

namespace {

std::int64_t milli_gpus_of_types(const State& state, const Attempt& attempt, GpuTypeBits types) {
    std::int64_t sum = 0;
    for (const auto& part : attempt.parts) {
        if (allows(types, state.at<Node>(part.node).shape.gpu_type)) sum += part.milli_gpus();
    }
    return sum;
}

/// What an attempt that ends is about to let go of, of that which the claim waits for.
void add_promised(Holder& holder, const Attempt& attempt, const Claim& claim) {
    if (!attempt.ending) return;
    for (const auto& part : attempt.parts) {
        const auto leaving = attempt.leaving(part);
        for (const auto& promised : claim.parts) {
            if (promised.node != part.node) continue;
            holder.milli_gpus += std::int64_t{1000} * std::popcount(leaving.gpus & promised.gpus);
            if (promised.cpus > MilliCpus{}) holder.cpus += leaving.cpus;
            if (promised.memory > Bytes{}) holder.memory += leaving.memory;
        }
    }
}

void add(Holder& holder, const State& state, const Attempt& attempt, const Job& waiting, const Refusal& reason) {
    const auto on_the_node = [&](auto amount) {
        for (const auto& part : attempt.parts) {
            if (part.node.value == reason.about) amount(part);
        }
    };
    if (reason.why == Why::no_gpus || reason.why == Why::fragmented) {
        holder.milli_gpus = milli_gpus_of_types(state, attempt, state.spec_of(waiting).gpu_types);
    }
    if (reason.why == Why::tenant_quota &&
        is_under(state, state.spec_of(state.at<Job>(attempt.job)).tenant, TenantId{reason.about})) {
        holder.milli_gpus = milli_gpus(attempt.parts);
    }
    if (reason.why == Why::no_cpus) on_the_node([&](const Part& part) { holder.cpus += part.cpus; });
    if (reason.why == Why::no_memory) on_the_node([&](const Part& part) { holder.memory += part.memory; });
    const auto* claim = state.find<Claim>(waiting.id);
    if (reason.why == Why::claim_pending && claim != nullptr) add_promised(holder, attempt, *claim);
}

/// What work that State does not know holds on this node.
void add_foreign(Holder& holder, const Node& node, const JobSpec& waiting, const Refusal& reason) {
    const bool lacks_gpus = reason.why == Why::no_gpus || reason.why == Why::fragmented;
    if (lacks_gpus && allows(waiting.gpu_types, node.shape.gpu_type)) {
        holder.milli_gpus = std::int64_t{1000} * std::popcount(node.foreign);
    }
    if (node.id.value != reason.about) return;
    if (reason.why == Why::no_cpus) holder.cpus = node.cpus_foreign;
    if (reason.why == Why::no_memory) holder.memory = node.memory_foreign;
}

bool holds_something(const Holder& holder) {
    return holder.milli_gpus > 0 || holder.cpus > MilliCpus{} || holder.memory > Bytes{};
}

}  // namespace

std::vector<Holder> holders(const State& state, JobId job, const std::vector<Refusal>& reasons, std::size_t most) {
    const auto& waiting = state.at<Job>(job);
    std::vector<Holder> all;
    state.table<Attempt>().for_each([&](const Attempt& attempt) {
        Holder holder{attempt.job, {}, 0, {}, {}};
        for (const auto& reason : reasons) add(holder, state, attempt, waiting, reason);
        if (holds_something(holder)) all.push_back(holder);
    });
    state.table<Node>().for_each([&](const Node& node) {
        if (node.foreign_running == 0) return;
        Holder holder{{}, node.id, 0, {}, {}};
        for (const auto& reason : reasons) add_foreign(holder, node, state.spec_of(waiting), reason);
        if (holds_something(holder)) all.push_back(holder);
    });
    const auto most_first = [](const Holder& a, const Holder& b) {
        return std::tie(b.milli_gpus, b.cpus, b.memory, a.job, a.node) <
               std::tie(a.milli_gpus, a.cpus, a.memory, b.job, b.node);
    };
    const auto shown = std::min(most, all.size());
    std::partial_sort(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(shown), all.end(), most_first);
    all.resize(shown);
    return all;
}

}  // namespace stargate::api
