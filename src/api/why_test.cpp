#include <gtest/gtest.h>

#include "api/fake_control.hpp"
#include "api/holders.hpp"
#include "api/job_rows.hpp"
#include "api/sentences.hpp"
#include "core/explain.hpp"

// What `why` says, and whom it names, on one node `n1` of 4 GPUs, 64 CPUs and 256 GiB.
namespace stargate::api {
namespace {

class WhyTest : public testing::Test {
protected:
    static JobSpec spec(const std::string& name, int gpus) {
        JobSpec spec;
        spec.name = name;
        spec.min_gpus = spec.max_gpus = GpuCount{gpus};
        spec.time_limit = std::chrono::hours{1};
        return spec;
    }
    static JobSpec on_host(const std::string& name, MilliCpus of_cpus, Bytes memory = {}) {
        auto asked = spec(name, 0);
        asked.cpus_per_rank = of_cpus;
        asked.memory_per_rank = memory;
        return asked;
    }
    JobId submit(JobSpec asked, const std::string& tenant = "default", bool held = false) {
        JobId job;
        control_.submit({Submit{std::move(asked), tenant, {}, 1, held}, {}, {}, {}},
                        [&](const Result<Answer>& answer) { job = answer->job; });
        return job;
    }
    /// All sentences with their actions, and the holders, a line each.
    std::string why(JobId job, bool as_operator = true) {
        std::string text;
        control_.read([&](const State& state, Instant now, std::uint64_t) {
            const Caller caller{0, as_operator, true};
            const auto reasons = explain(state, now, job);
            const auto& asked = state.spec_of(state.at<Job>(job));
            for (const auto& reason : reasons) {
                const auto [what, action] = sentence_of({caller, state}, reason, {&asked, nullptr, job});
                text += what + "; " + action + "\n";
            }
            for (const auto& holder : holders(state, job, reasons, 10)) {
                text += label_of(state, state.at<Job>(holder.job)) + ":";
                if (holder.milli_gpus > 0) text += " " + std::to_string(holder.milli_gpus) + " of GPUs";
                if (holder.cpus > MilliCpus{}) text += " " + std::to_string(holder.cpus.count()) + " of CPUs";
                if (holder.memory > Bytes{}) text += " " + std::to_string(holder.memory.count() >> 30) + " GiB";
                text += "\n";
            }
        });
        return text;
    }
    FakeControl control_;
};

TEST_F(WhyTest, NamesWhoHoldsTheGpus) {
    submit(spec("three", 3));
    submit(on_host("host", cpus(8)));
    const auto two = submit(spec("two", 2));
    EXPECT_EQ(why(two),
              "it needs 2 GPUs, and 1 is free; wait, ask for fewer GPUs, or use a class that may preempt\n"
              "three: 3000 of GPUs\n");
}

TEST_F(WhyTest, NamesWhoHoldsCpusWhereTheyLack) {
    submit(spec("gpus", 2));
    submit(on_host("crowd", cpus(63)));
    const auto more = submit(on_host("more", cpus(2)));
    EXPECT_EQ(why(more),
              "it needs 2 host CPUs, and node n1 has 1 host CPU free; wait, or ask for fewer: cpus: N\n"
              "crowd: 63000 of CPUs\n");
}

TEST_F(WhyTest, NamesWhoHoldsMemoryWhereItLacks) {
    submit(on_host("large", {}, gibibytes(200)));
    const auto full = submit(on_host("full", {}, gibibytes(100)));
    EXPECT_EQ(why(full),
              "it needs 100.0 GiB of host memory, and node n1 has 56.0 GiB of host memory free; "
              "wait, or ask for less: memory: NGB\n"
              "large: 200 GiB\n");
}

TEST_F(WhyTest, NamesWhoHoldsTheQuotaAndNobodyElse) {
    control_.set(SetTenant{"lab", 1000});
    submit(spec("others", 1));
    submit(spec("ours", 1), "lab");
    const auto second = submit(spec("second", 1), "lab");
    EXPECT_EQ(why(second),
              "it needs 1 GPU, and tenant lab has 0 of its quota of 1 GPU left; wait for the tenant's own "
              "jobs, or ask for more quota\n"
              "ours: 1000 of GPUs\n");
}

TEST_F(WhyTest, OfAnArrayThatItComesAfterItTellsHowManyHaveNotSucceeded) {
    control_.submit({Submit{spec("shard", 1), "default", {}, 3, false}, {}, {}, {}}, [](const Result<Answer>&) {});
    JobId merge;
    control_.submit({Submit{spec("merge", 1), "default", {"shard"}, 1, false}, {}, {}, {}},
                    [&](const Result<Answer>& answer) { merge = answer->job; });
    EXPECT_EQ(
        why(merge),
        "it comes after shard, of which 3 of 3 have not succeeded yet; look at the first of them: stargate why 1\n");
    for (const std::uint64_t ended : {1UL, 2UL}) {
        control_.report(RanksEnded{AttemptId{ended}, NodeId{1}, 1, {}, false, -1});
    }
    EXPECT_EQ(why(merge),
              "it comes after shard, of which 1 of 3 has not succeeded yet; look at that one: stargate why 3\n");
}

TEST_F(WhyTest, ADrainedNodeIsNamedWithItsRemedy) {
    submit(spec("runs", 1));
    control_.report(Drain{NodeId{1}, true});
    const std::string drained = "no node that takes work can hold it: node n1 is drained; ";
    for (const auto& asked : {spec("none", 0), spec("one", 1), spec("two", 2)}) {
        const auto job = submit(asked);
        EXPECT_EQ(why(job), drained + "let it take work again: stargate undrain n1\n");
        EXPECT_EQ(why(job, false), drained + "ask an operator to: stargate undrain n1\n");
    }
    control_.report(NodeSilent{NodeId{1}});
    const auto lost = submit(spec("lost", 1));
    EXPECT_EQ(why(lost),
              "no node that takes work can hold it: node n1 does not answer; "
              "look at the nodes: stargate fleet\n");
}

TEST_F(WhyTest, APromiseNamesThoseWhoLetGo) {
    auto low = spec("low", 3);
    low.priority = PriorityClass::opportunistic;
    submit(low);
    submit(spec("stays", 1));
    control_.report(RanksRunning{AttemptId{1}, NodeId{1}, 1});
    const auto two = submit(spec("two", 2));
    EXPECT_EQ(why(two),
              "2 GPUs are promised to it, of which 0 are let go of by now; wait: others are ending for it\n"
              "low: 2000 of GPUs\n");
}

TEST_F(WhyTest, AHeldJobHasNoHoldersAndIsReleasedByItsId) {
    submit(spec("all", 4));
    const auto held = submit(spec("held", 1), "default", true);
    control_.read([&](const State& state, Instant, std::uint64_t) {
        const Caller caller{0, true, true};
        const auto sentence = sentence_of({caller, state}, {Why::held, 0, 0, 0}, {nullptr, nullptr, held});
        EXPECT_EQ(sentence.action, "release it when it may run: stargate release " + std::to_string(held.value));
    });
    EXPECT_EQ(why(held).find("a person holds it"), 0U) << why(held);
}

TEST_F(WhyTest, AShareNamesItsPartOfAGpu) {
    submit(spec("all", 4));
    auto half = spec("half", 0);
    half.share = 500;
    const auto job = submit(half);
    EXPECT_EQ(why(job).find("it needs 0.5 GPUs, and 0 are free; "), 0U) << why(job);
}

}  // namespace
}  // namespace stargate::api
