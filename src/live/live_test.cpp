#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <future>
#include <map>

#include "base/overloaded.hpp"
#include "core/explain.hpp"
#include "live/control_plane.hpp"
#include "live/machine.hpp"
#include "live/recover.hpp"
#include "store/sqlite/sqlite_store.hpp"

namespace stargate::live {
namespace {

using namespace std::chrono_literals;

/// An engine whose machine is a map: it runs what it is told, and its work outlives it.
class FakeMachine {
public:
    struct Ranks {
        std::uint32_t generation = 1;
        std::int32_t world = 1;
        bool ended = false;
        GpuMask gpus = 0;
    };
    std::mutex mutex;
    std::condition_variable changed;
    std::map<AttemptId, Ranks> attempts;
    std::map<AttemptId, int> starts;
    std::vector<AttemptId> forgotten;
    Engine::Listener listener;

    void end(AttemptId id, int code) {
        Engine::Listener tell;
        std::uint32_t generation = 0;
        {
            const std::lock_guard lock{mutex};
            attempts[id].ended = true;
            generation = attempts[id].generation;
            tell = listener;
        }
        tell(RanksEnded{id, NodeId{1}, generation, {ExitKind::exited, code, {}}, false, -1});
    }
    AttemptId wait_for_a_start(AttemptId above = {}) {
        std::unique_lock lock{mutex};
        const bool came = changed.wait_for(lock, 10s, [&] { return attempts.upper_bound(above) != attempts.end(); });
        return came ? attempts.upper_bound(above)->first : AttemptId{};
    }
};

class FakeEngine final : public Engine {
public:
    explicit FakeEngine(FakeMachine& machine) : machine_{machine} {}
    Result<std::vector<Unknown>> adopt(const std::vector<Believed>& believed) override {
        for (const auto& [id, started] : believed) {
            if (machine_.attempts.contains(id)) {
                machine_.listener(RanksRunning{id, NodeId{1}, machine_.attempts[id].generation});
            } else if (started) {
                machine_.listener(AttemptLost{id, NodeId{1}, "not found"});
            }
        }
        std::vector<Unknown> unknown;
        for (const auto& [id, ranks] : machine_.attempts) {
            const bool is_ours = std::any_of(believed.begin(), believed.end(),
                                             [id = id](const Believed& each) { return each.attempt == id; });
            if (!is_ours) unknown.push_back({id, !ranks.ended, ranks.ended ? 0 : ranks.gpus});
        }
        return unknown;
    }
    void carry_out(const Command& command) override {
        std::visit(
            overloaded{
                [&](const RunRanks& c) {
                    {
                        const std::lock_guard lock{machine_.mutex};
                        if (c.first && !machine_.attempts.contains(c.attempt)) ++machine_.starts[c.attempt];
                        machine_.attempts[c.attempt] = {c.generation, c.world_size, false, c.gpus};
                    }
                    machine_.changed.notify_all();
                    machine_.listener(RanksRunning{c.attempt, c.node, c.generation});
                },
                [&](const EndRanks& c) {
                    machine_.listener(RanksEnded{c.attempt, c.node, c.generation, {ExitKind::exited, 0, {}}, true, 7});
                },
                [&](const Forget& c) {
                    const std::lock_guard lock{machine_.mutex};
                    machine_.attempts.erase(c.attempt);
                    machine_.forgotten.push_back(c.attempt);
                },
            },
            command);
    }

private:
    FakeMachine& machine_;
};

class ControlPlaneTest : public ::testing::Test {
protected:
    void SetUp() override {
        std::string pattern = ::testing::TempDir() + "stargate_live_XXXXXX";
        ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
        folder_ = pattern;
    }
    void TearDown() override { std::filesystem::remove_all(folder_); }

    void use_another_folder() {
        std::filesystem::remove_all(folder_);
        std::filesystem::create_directory(folder_);
    }

    std::unique_ptr<ControlPlane> start() {
        Wiring wiring;
        wiring.folder = folder_;
        auto store = store::open_sqlite_store(folder_);
        EXPECT_TRUE(store) << store.error().detail;
        wiring.store = std::move(*store);
        wiring.reader = std::move(*store::open_sqlite_reader(folder_));
        wiring.node = *this_machine(4);
        wiring.boot = boot_;
        wiring.make_engine = [this](Wiring::EngineNeeds needs) -> Result<std::unique_ptr<Engine>> {
            machine_.listener = needs.listener;
            return std::make_unique<FakeEngine>(machine_);
        };
        auto plane = ControlPlane::start(std::move(wiring));
        EXPECT_TRUE(plane) << plane.error().detail;
        return std::move(*plane);
    }
    static Result<Answer> submit(ControlPlane& plane, JobSpec spec, const std::string& key = {}) {
        std::promise<Result<Answer>> answered;
        if (spec.time_limit == Duration{}) spec.time_limit = 1h;
        plane.submit({Submit{spec, "default", {}, 1, false}, Launch{}, key, spec.name},
                     [&](Result<Answer> answer) { answered.set_value(std::move(answer)); });
        return answered.get_future().get();
    }
    static JobSpec spec(const std::string& name, int gpus) {
        JobSpec made;
        made.name = name;
        made.min_gpus = made.max_gpus = GpuCount{gpus};
        return made;
    }
    /// Waits, without polling the clock, until the view shows what is looked for.
    static bool until(ControlPlane& plane, const std::function<bool(const State&)>& holds) {
        const auto deadline = std::chrono::steady_clock::now() + 10s;
        bool yes = false;
        while (!yes && std::chrono::steady_clock::now() < deadline) {
            plane.read([&](const State& state, Instant, std::uint64_t) { yes = holds(state); });
            if (!yes) std::this_thread::yield();
        }
        return yes;
    }
    static bool is_finished(const State& state, JobId job, Outcome outcome) {
        const auto* row = state.find<Job>(job);
        const auto* finished = row == nullptr ? nullptr : std::get_if<Finished>(&row->phase);
        return finished != nullptr && finished->outcome == outcome;
    }

    std::string folder_;
    std::string boot_ = "boot-1";
    FakeMachine machine_;
};

TEST_F(ControlPlaneTest, AJobRunsFromSubmitToItsEnd) {
    auto plane = start();
    const auto answer = submit(*plane, spec("a", 2));
    ASSERT_TRUE(answer && answer->accepted());
    const auto attempt = machine_.wait_for_a_start();
    ASSERT_TRUE(attempt);
    machine_.end(attempt, 0);
    EXPECT_TRUE(until(*plane, [&](const State& s) { return is_finished(s, answer->job, Outcome::succeeded); }));
    EXPECT_TRUE(until(*plane, [&](const State& s) { return s.free_gpus(0) == 4; }));
}

TEST_F(ControlPlaneTest, WhatRunsGoesOnAcrossARestartAndIsNotStartedAgain) {
    auto plane = start();
    const auto answer = submit(*plane, spec("a", 2));
    const auto attempt = machine_.wait_for_a_start();
    ASSERT_TRUE(attempt);
    plane.reset();
    plane = start();
    EXPECT_TRUE(until(*plane, [&](const State& s) { return s.find<Attempt>(attempt) != nullptr; }));
    EXPECT_EQ(machine_.starts[attempt], 1);
    machine_.end(attempt, 3);
    EXPECT_TRUE(until(*plane, [&](const State& s) { return is_finished(s, answer->job, Outcome::failed); }));
}

TEST_F(ControlPlaneTest, ANewBootIdEndsTheOldAttemptAndTheJobRunsAgain) {
    auto plane = start();
    (void)submit(*plane, spec("a", 2));
    const auto attempt = machine_.wait_for_a_start();
    plane.reset();
    machine_.attempts.clear();
    boot_ = "boot-2";
    plane = start();
    const auto next = machine_.wait_for_a_start(attempt);
    EXPECT_TRUE(next) << "an infrastructure failure is retried";
    EXPECT_NE(next, attempt);
}

TEST_F(ControlPlaneTest, TheSameKeyAndBodyGiveTheSameJobAlsoAfterARestart) {
    auto plane = start();
    const auto first = submit(*plane, spec("a", 1), "key");
    EXPECT_EQ(submit(*plane, spec("a", 1), "key")->job, first->job);
    plane.reset();
    plane = start();
    EXPECT_EQ(submit(*plane, spec("a", 1), "key")->job, first->job);
    EXPECT_EQ(submit(*plane, spec("b", 1), "key")->why.why, Why::key_conflict);
}

TEST_F(ControlPlaneTest, AnElasticJobShrinksForAHigherClassAndGrowsBack) {
    auto plane = start();
    auto elastic = spec("train", 1);
    elastic.max_gpus = GpuCount{4};
    elastic.grace = 1s;
    const auto training = submit(*plane, elastic);
    const auto attempt = machine_.wait_for_a_start();
    auto urgent = spec("urgent", 2);
    urgent.priority = PriorityClass::production;
    ASSERT_TRUE(until(*plane, [&](const State& s) { return s.at<Attempt>(attempt).gang_deadline == never; }));
    (void)submit(*plane, urgent);
    const auto other = machine_.wait_for_a_start(attempt);
    ASSERT_TRUE(other);
    EXPECT_TRUE(until(*plane, [&](const State& s) { return s.at<Attempt>(attempt).gpu_count() == 2; }));
    machine_.end(other, 0);
    EXPECT_TRUE(until(*plane, [&](const State& s) { return s.at<Attempt>(attempt).gpu_count() == 4; }));
    plane->read([&](const State& s, Instant, std::uint64_t) {
        EXPECT_EQ(s.at<Job>(training->job).step, 7);
        EXPECT_EQ(s.at<Attempt>(attempt).generation, 3U);
    });
}

TEST_F(ControlPlaneTest, AnEmptyStoreLeavesWhatRunsAloneAndCountsItsGpusAsTaken) {
    auto plane = start();
    (void)submit(*plane, spec("survivor", 3));
    const auto survivor = machine_.wait_for_a_start();
    ASSERT_TRUE(survivor);
    for (int round = 0; round < 2; ++round) {  // an empty store, then that store again
        plane.reset();
        if (round == 0) use_another_folder();
        plane = start();
        EXPECT_EQ(plane->figures().foreign_attempts, 1);
        EXPECT_TRUE(until(*plane, [](const State& s) { return s.free_gpus(0) == 1; }));
        EXPECT_TRUE(machine_.forgotten.empty());
    }
    const auto small = submit(*plane, spec("small", 1));
    const auto next = machine_.wait_for_a_start(survivor);
    EXPECT_GT(next, survivor) << "its id must not be given again";
    const auto wide = submit(*plane, spec("wide", 3));
    EXPECT_TRUE(
        until(*plane, [&](const State& s) { return recorded_reason(s, s.at<Job>(wide->job)).why == Why::no_gpus; }));
    machine_.listener(ForeignFound{NodeId{1}, 0, {survivor}, 0});
    EXPECT_TRUE(machine_.wait_for_a_start(next));
    EXPECT_TRUE(until(*plane, [](const State& s) { return s.at<Node>(NodeId{1}).foreign_running == 0; }));
    (void)small;
}

TEST_F(ControlPlaneTest, NothingIsStartedBeforeItIsKnownWhatRunsHere) {
    auto plane = start();
    (void)submit(*plane, spec("first", 4));
    ASSERT_TRUE(machine_.wait_for_a_start());
    (void)submit(*plane, spec("waits", 2));
    plane.reset();
    // What an older store does not know: its first job has ended, and the next runs.
    machine_.attempts.erase(AttemptId{1});
    machine_.attempts[AttemptId{2}] = {1, 3, false, 0b0111};
    plane = start();
    EXPECT_TRUE(until(*plane, [](const State& s) { return s.counters().attempts >= 2; }));
    plane->read([](const State& s, Instant, std::uint64_t) {
        EXPECT_EQ(s.at<Node>(NodeId{1}).foreign, 0b0111U);
        EXPECT_EQ(s.find<Attempt>(AttemptId{2}), nullptr);
    });
    EXPECT_EQ(machine_.starts[AttemptId{2}], 0);
}

TEST_F(ControlPlaneTest, TheViewIsWhatTheLogFoldsTo) {
    auto plane = start();
    for (int i = 0; i < 50; ++i) (void)submit(*plane, spec("a" + std::to_string(i), 1 + i % 4));
    for (AttemptId at; (at = machine_.wait_for_a_start(at)).value < 20;) machine_.end(at, 0);
    std::string rows;
    plane.reset();
    auto reader = store::open_sqlite_reader(folder_);
    const auto once = recover(**reader, folder_);
    const auto row = write_snapshot(**reader, folder_);
    ASSERT_TRUE(once && row);
    auto writer = store::open_sqlite_store(folder_);
    ASSERT_TRUE((*writer)->add_snapshot(*row));
    const auto again = recover(**writer, folder_);
    ASSERT_TRUE(again);
    EXPECT_EQ(again->from_snapshot, row->fact_seq);
    EXPECT_EQ(again->state.rows(), once->state.rows());
    EXPECT_EQ(again->state.derived_text(), once->state.derived_text());
}

}  // namespace
}  // namespace stargate::live
