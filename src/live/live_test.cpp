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
#include "live/keep_log.hpp"
#include "live/machine.hpp"
#include "live/recover.hpp"
#include "store/doctor.hpp"
#include "store/sqlite/sqlite_store.hpp"
#include "twin/replay.hpp"

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
        int exit_code = 0;  // what its exit record says, once it has ended
    };
    std::mutex mutex;
    std::condition_variable changed;
    std::map<AttemptId, Ranks> attempts;
    std::map<AttemptId, int> starts;
    std::vector<AttemptId> forgotten;
    Engine::Listener listener;
    bool ends_at_once = false;   // what is started has succeeded by then
    bool ends_when_told = true;  // else it does not listen

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
            const auto found = machine_.attempts.find(id);
            if (found != machine_.attempts.end() && found->second.ended) {
                machine_.listener(RanksEnded{id,
                                             NodeId{1},
                                             found->second.generation,
                                             {ExitKind::exited, found->second.exit_code, {}},
                                             false,
                                             -1});
            } else if (found != machine_.attempts.end()) {
                machine_.listener(RanksRunning{id, NodeId{1}, found->second.generation});
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
                    if (machine_.ends_at_once) machine_.end(c.attempt, 0);
                },
                [&](const EndRanks& c) {
                    if (!machine_.ends_when_told) return;
                    machine_.listener(RanksEnded{c.attempt, c.node, c.generation, {ExitKind::exited, 0, {}}, true, 7});
                },
                [&](const Forget& c) {
                    const std::lock_guard lock{machine_.mutex};
                    machine_.attempts.erase(c.attempt);
                    machine_.forgotten.push_back(c.attempt);
                },
                [](const TellReplica&) {},
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
        auto plane = ControlPlane::start(wiring());
        EXPECT_TRUE(plane) << plane.error().detail;
        return std::move(*plane);
    }
    Wiring wiring() {
        Wiring wiring;
        wiring.folder = folder_;
        auto store = store::open_sqlite_store(folder_);
        EXPECT_TRUE(store) << store.error().detail;
        wiring.store = std::move(*store);
        wiring.reader = std::move(*store::open_sqlite_reader(folder_));
        wiring.node = *this_machine(gpus_);
        wiring.node.name = node_name_;
        wiring.node.cpus = cpus(gpus_);
        wiring.boot = boot_;
        wiring.settings = settings_;
        wiring.store_bytes = [] { return 4096; };
        if (log_limits_) {
            wiring.log_limits = *log_limits_;
            wiring.keep_log = [this](const std::stop_token&) {
                Folded state;
                return keep_log(**store::open_sqlite_reader(folder_), folder_, *log_limits_, state);
            };
        }
        wiring.make_engine = [this](const Wiring::EngineNeeds& needs) -> Result<std::unique_ptr<Engine>> {
            machine_.listener = needs.listener;
            return std::make_unique<FakeEngine>(machine_);
        };
        return wiring;
    }
    static Result<Answer> submit(ControlPlane& plane, JobSpec spec, const std::string& key = {}, int count = 1) {
        std::promise<Result<Answer>> answered;
        if (spec.time_limit == Duration{}) spec.time_limit = 1h;
        plane.submit({Submit{spec, "default", {}, count, false}, Launch{}, key, spec.name},
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
    static bool until(ControlPlane& plane, const std::function<bool(const State&)>& holds,
                      std::chrono::seconds longest = 10s) {
        const auto deadline = std::chrono::steady_clock::now() + longest;
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
    std::string node_name_ = "machine";
    int gpus_ = 4;
    Settings settings_;
    std::optional<LogLimits> log_limits_;
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

TEST_F(ControlPlaneTest, ASmallerMachineIsKnownAsSuchWhileWhatItLostIsHeld) {
    auto plane = start();
    const auto answer = submit(*plane, spec("a", 3));
    const auto attempt = machine_.wait_for_a_start();
    ASSERT_TRUE(attempt);
    plane.reset();
    gpus_ = 2;
    plane = start();
    EXPECT_TRUE(
        until(*plane, [&](const State& s) { return s.all_gpus(0) == 2 && s.find<Attempt>(attempt) != nullptr; }));
    const auto next = submit(*plane, spec("b", 1));
    ASSERT_TRUE(until(*plane, [&](const State& s) { return s.find<Blocked>(next->job) != nullptr; }));
    EXPECT_FALSE(machine_.starts.contains(AttemptId{attempt.value + 1})) << "on a GPU that is gone";
    machine_.end(attempt, 0);
    EXPECT_TRUE(until(*plane, [&](const State& s) { return is_finished(s, answer->job, Outcome::succeeded); }));
    EXPECT_TRUE(machine_.wait_for_a_start(attempt));
    EXPECT_TRUE(until(*plane, [&](const State& s) { return s.all_gpus(0) == 2 && s.free_gpus(0) == 1; }));
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
    plane.reset();
    auto writer = store::open_sqlite_store(folder_).value();
    const auto once = recover(*writer, folder_);
    Folded folded;
    const auto kept = keep_log(*writer, folder_, {}, folded);
    ASSERT_TRUE(once && kept);
    EXPECT_EQ(folded.state.rows(), once->state.rows());
    ASSERT_TRUE(record_snapshots(*writer, *kept));
    const auto again = recover(*writer, folder_);
    ASSERT_TRUE(again);
    EXPECT_EQ(again->from_snapshot, kept->written_fact);
    EXPECT_EQ(again->state.rows(), once->state.rows());
    EXPECT_EQ(again->state.derived_text(), once->state.derived_text());
    EXPECT_TRUE(store::examine_store(folder_)->is_sound()) << "with a snapshot, too";
}

TEST_F(ControlPlaneTest, AnExitRecordCountsThoughTheMachineWasRestartedSince) {
    auto plane = start();
    const auto succeeded = submit(*plane, spec("succeeded", 2));
    const auto first = machine_.wait_for_a_start();
    const auto killed = submit(*plane, spec("killed", 2));
    const auto second = machine_.wait_for_a_start(first);
    ASSERT_TRUE(first && second);
    plane.reset();
    machine_.attempts[first].ended = true;  // while nobody was there; then the power went
    machine_.attempts.erase(second);
    boot_ = "boot-2";
    plane = start();
    EXPECT_TRUE(until(*plane, [&](const State& s) { return is_finished(s, succeeded->job, Outcome::succeeded); }));
    EXPECT_TRUE(machine_.wait_for_a_start(second)) << "what left no record runs again";
    EXPECT_EQ(machine_.starts.size(), 3U) << "and what succeeded does not";
    plane->read([&](const State& s, Instant, std::uint64_t) {
        EXPECT_EQ(s.at<Node>(NodeId{1}).boot, "boot-2");
        EXPECT_NE(s.find<Job>(killed->job), nullptr);
    });
}

TEST_F(ControlPlaneTest, ForeignWorkSurvivesAStartThatFailedHalfway) {
    machine_.attempts[AttemptId{7}] = {1, 2, false, 0b11};
    auto cut_off = wiring();
    cut_off.make_engine = [](const Wiring::EngineNeeds&) -> Result<std::unique_ptr<Engine>> {
        return fail(Fault::unavailable, "killed here");
    };
    ASSERT_FALSE(ControlPlane::start(std::move(cut_off)));
    auto plane = start();
    EXPECT_EQ(plane->figures().foreign_attempts, 1);
    EXPECT_TRUE(machine_.forgotten.empty()) << "that nobody knows it proves nothing";
}

TEST_F(ControlPlaneTest, WhatRunsUnderAnotherNameOfTheMachineIsNotForgotten) {
    auto plane = start();
    (void)submit(*plane, spec("a", 2));
    ASSERT_TRUE(machine_.wait_for_a_start());
    plane.reset();
    node_name_ = "renamed";
    plane = start();
    EXPECT_TRUE(machine_.forgotten.empty());
    EXPECT_EQ(plane->figures().foreign_attempts, 1) << "left alone, and its GPUs are taken";
}

TEST_F(ControlPlaneTest, AMachineKeepsTheNameOfItsFirstStart) {
    EXPECT_EQ(kept_node_name(folder_, "first").value(), "first");
    EXPECT_EQ(kept_node_name(folder_, "second").value(), "first");
}

TEST_F(ControlPlaneTest, GoingDownWithItsWorkStartsNothingOfTheQueue) {
    auto plane = start();
    (void)submit(*plane, spec("runs", 4));
    const auto first = machine_.wait_for_a_start();
    const auto waits = submit(*plane, spec("waits", 4));
    plane->shut_down(api::RunningWork::ends);
    plane->wait();
    plane.reset();
    EXPECT_EQ(machine_.starts.size(), 1U);
    plane = start();
    EXPECT_TRUE(machine_.wait_for_a_start(first)) << "the queue is still there";
    EXPECT_TRUE(
        until(*plane, [&](const State& s) { return !std::holds_alternative<Waiting>(s.at<Job>(waits->job).phase); }));
}

TEST_F(ControlPlaneTest, GoingDownWithItsWorkEndsAServiceWhole) {
    auto plane = start();
    auto replica = spec("chat", 1);
    replica.kind = Kind::service;
    replica.require = Level::node;
    replica.time_limit = 1h;
    ServiceSpec service;
    service.max = 3;
    std::promise<Result<Answer>> answered;
    plane->submit({Submit{replica, "default", {}, 3, false, service}, Launch{}, "", "chat"},
                  [&](Result<Answer> answer) { answered.set_value(std::move(answer)); });
    const auto answer = answered.get_future().get();
    ASSERT_TRUE(answer && answer->accepted()) << "refused";
    (void)machine_.wait_for_a_start();  // of the one replica that is wanted; the others wait
    plane->shut_down(api::RunningWork::ends);
    plane->wait();
    plane->read([&](const State& state, Instant, std::uint64_t) {
        for (std::uint64_t task = 0; task < 3; ++task) {
            EXPECT_TRUE(is_finished(state, JobId{answer->job.value + task}, Outcome::cancelled)) << task;
        }
    });
}

TEST_F(ControlPlaneTest, GoingDownWithItsWorkLeavesAnOperatorsDrainAlone) {
    auto plane = start();
    std::promise<void> drained;
    plane->ask(0, {Drain{NodeId{1}, true}}, [&](const Result<std::vector<Answer>>&) { drained.set_value(); });
    drained.get_future().wait();
    plane->shut_down(api::RunningWork::ends);
    plane->wait();
    plane.reset();
    plane = start();
    plane->read([](const State& s, Instant, std::uint64_t) { EXPECT_TRUE(s.at<Node>(NodeId{1}).draining); });
}

TEST_F(ControlPlaneTest, WhoIsToldToGoDownAtOnceDoesNotWaitForWorkThatDoesNotEnd) {
    machine_.ends_when_told = false;
    auto plane = start();
    (void)submit(*plane, spec("stubborn", 1));
    ASSERT_TRUE(machine_.wait_for_a_start());
    plane->shut_down(api::RunningWork::ends);
    plane->shut_down(api::RunningWork::ends);  // asked twice
    EXPECT_TRUE(until(*plane, [](const State& s) {
        const auto& ending = s.at<Attempt>(AttemptId{1}).ending;
        return ending && ending->cause == EndCause::cancel;
    }));
    plane->stop();
    plane->wait();
    plane.reset();
}

TEST_F(ControlPlaneTest, FiguresTellTheLongestCommitAndTheStoresSize) {
    auto plane = start();
    const auto figures = plane->figures();
    EXPECT_GT(figures.commit_us_max, 0);
    EXPECT_LE(figures.commit_us_max, figures.commit_us_sum);
    EXPECT_EQ(figures.store_bytes, 4096);
}

TEST_F(ControlPlaneTest, TheLogIsTrimmedWhileItGrowsAndWhatIsLeftStillReplays) {
    gpus_ = 64;
    settings_.max_finished = 100;
    log_limits_ = LogLimits{1'000, 4};
    machine_.ends_at_once = true;
    auto plane = start();
    constexpr int jobs = 4'000;
    (void)submit(*plane, spec("many", 1), {}, jobs);
    const auto all_ended = [](const State& s) {
        return s.counters().attempts == jobs && s.table<Attempt>().size() == 0;
    };
    ASSERT_TRUE(until(*plane, all_ended, 120s));
    auto reader = store::open_sqlite_reader(folder_).value();
    EXPECT_TRUE(until(*plane, [&](const State&) { return reader->extent()->first_fact > 5'000; }));
    std::string rows;
    std::uint64_t last_fact = 0;
    plane->read([&](const State& s, Instant, std::uint64_t folded) {
        rows = s.rows();
        last_fact = folded;
    });
    plane.reset();
    auto begin = twin::where_to_begin(*reader, folder_);
    ASSERT_TRUE(begin) << begin.error().detail;
    EXPECT_GT(begin->last_fact, 5'000U);
    EXPECT_EQ(fold_log(*reader, *twin::where_to_begin(*reader, folder_), last_fact)->state.rows(), rows);
    EXPECT_TRUE(recover(*reader, folder_));
    const auto report = store::examine_store(folder_).value();
    EXPECT_TRUE(report.is_sound()) << report.findings[0].what;
    EXPECT_EQ(report.segments, 4U);
    const auto replayed = twin::replay(*reader, std::move(*begin));
    ASSERT_TRUE(replayed) << replayed.error().detail;
    EXPECT_GT(replayed->compared, 1'000U);
    EXPECT_FALSE(replayed->difference) << replayed->difference->decided;
}

}  // namespace
}  // namespace stargate::live
