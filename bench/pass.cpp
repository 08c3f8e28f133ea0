// How long does a submit take behind N jobs that all differ and all wait? bench_pass [shapes ...]
// Prints for each number of shapes the microseconds of a submit with its pass, when nothing else has happened and when
// one job has ended and another has started before it.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <string>
#include <vector>

#include "core/decide.hpp"

namespace stargate {
namespace {

constexpr Instant noon{std::chrono::hours{24 * 365 * 50}};
constexpr int rounds = 21;

Submit job(const std::string& name, int gpus, Bytes memory, Duration limit) {
    Submit submit;
    submit.tenant = "lab";
    submit.spec.name = name;
    submit.spec.min_gpus = submit.spec.max_gpus = GpuCount{gpus};
    submit.spec.memory_per_rank = memory;
    submit.spec.time_limit = limit;
    return submit;
}

/// A node of 8 GPUs, 7 of which are held, and so many jobs of 8 GPUs, each with another need of memory and limit.
Core behind(int shapes) {
    Core core;
    NodeShape node;
    node.name = "n1";
    node.gpus = GpuCount{8};
    node.cpus = cpus(64);
    node.memory = gibibytes(1024);
    (void)decide(core, noon, TakeOffice{1, {}});
    (void)decide(core, noon, SetTenant{"lab"});
    (void)decide(core, noon, NodeUp{node, "boot"});
    (void)decide(core, noon, job("holds", 7, {}, std::chrono::hours{1}));
    (void)decide(core, noon, Pass{});
    for (int i = 0; i < shapes; ++i) {
        (void)decide(core, noon, job("waits", 8, mebibytes(1 + i), std::chrono::hours{2} + std::chrono::seconds{i}));
    }
    (void)decide(core, noon, Pass{});
    (void)decide(core, noon, Pass{});
    core.commit();
    return core;
}

/// Median microseconds of `work`.
template <class Work>
double median(Work work) {
    std::vector<double> took;
    for (int round = 0; round < rounds; ++round) {
        const auto begun = std::chrono::steady_clock::now();
        work();
        took.push_back(std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - begun).count());
    }
    std::nth_element(took.begin(), took.begin() + rounds / 2, took.end());
    return took[rounds / 2];
}

void measure(int shapes) {
    auto core = behind(shapes);
    const auto quiet = median([&] {
        (void)decide(core, noon, job("new", 8, gibibytes(100), std::chrono::hours{9}));
        (void)decide(core, noon, Pass{});
        core.commit();
    });
    const auto busy = median([&] {
        const auto answer = decide(core, noon, job("small", 1, {}, std::chrono::minutes{1}));
        (void)decide(core, noon, Pass{});
        const auto* active = std::get_if<Active>(&core.state().at<Job>(answer.job).phase);
        if (active != nullptr) {
            const auto attempt = core.state().at<Attempt>(active->attempt);
            (void)decide(core, noon, RanksEnded{attempt.id, attempt.parts[0].node, 1, {}, false, -1, 0});
            (void)decide(core, noon, Pass{});
        }
        core.commit();
    });
    fmt::print("{:>7} shapes: quiet {:>10.1f} us, busy {:>10.1f} us (two passes)\n", shapes, quiet, busy);
}

}  // namespace
}  // namespace stargate

int main(int argc, char** argv) {
    std::vector<int> sizes{100, 1'000, 5'000};
    if (argc > 1) sizes.clear();
    for (int i = 1; i < argc; ++i) sizes.push_back(std::atoi(argv[i]));
    for (const auto size : sizes) stargate::measure(size);
}
