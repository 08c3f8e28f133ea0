#include "api/references.hpp"

#include <gtest/gtest.h>

#include "api/fake_control.hpp"

// What people write to mean a job.
namespace stargate::api {
namespace {

class ReferencesTest : public testing::Test {
protected:
    JobId submit(const std::string& name, int count) {
        JobId first;
        JobSpec spec;
        spec.name = name;
        spec.min_gpus = spec.max_gpus = GpuCount{1};
        control_.submit({Submit{std::move(spec), "default", {}, count, true}, {}, {}, {}},
                        [&](const Result<Answer>& answer) { first = answer->job; });
        return first;
    }
    std::vector<std::uint64_t> jobs(std::string_view reference) {
        std::vector<std::uint64_t> found;
        control_.read([&](const State& state, Instant, std::uint64_t) {
            const Caller caller{0, true, true};
            for (const auto job : jobs_of(Sight{caller, state}, reference).jobs) found.push_back(job.value);
        });
        return found;
    }
    FakeControl control_;
};

using Ids = std::vector<std::uint64_t>;

TEST_F(ReferencesTest, AnIdANameAnElementAndAWholeArray) {
    const auto first = submit("a", 12).value;
    submit("b", 1);
    EXPECT_EQ(jobs("2"), Ids{first + 1});
    EXPECT_EQ(jobs("b"), Ids{first + 12});
    EXPECT_EQ(jobs("a[0]"), Ids{first});
    EXPECT_EQ(jobs("a[10]"), Ids{first + 10});
    EXPECT_EQ(jobs("a").size(), 12U);
    EXPECT_EQ(jobs("1[]").size(), 12U);
}

TEST_F(ReferencesTest, ANumberIsWrittenInOneWay) {
    submit("a", 12);
    for (const auto* strange :
         {"a[00]",   "a[01]", "a[-0]",          "a[+0]", "a[ 0]", "a[0 ]", "a[0x0]", "a[]",  "a[",  "a[0]]",
          "a[0][0]", "a[12]", "a[99999999999]", "01",    "+1",    "-1",    " 1",     "01[]", "[0]", ""}) {
        EXPECT_EQ(jobs(strange), Ids{}) << strange;
    }
}

}  // namespace
}  // namespace stargate::api
