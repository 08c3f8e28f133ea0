#include "live/writer.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <filesystem>
#include <future>
#include <thread>

#include "base/overloaded.hpp"
#include "core/log.hpp"
#include "core/schedule.hpp"
#include "live/follower.hpp"
#include "live/machine.hpp"
#include "store/memory_store.hpp"

// The order in which the writer writes, answers and commands, seen from outside.
namespace stargate::live {
namespace {

using namespace std::chrono_literals;

class Trace {
public:
    void add(std::string what) {
        const std::lock_guard lock{mutex_};
        seen_.push_back(std::move(what));
        came_.notify_all();
    }
    /// All so far, once the last awaited one is among them.
    std::vector<std::string> until(const std::string& what) {
        std::unique_lock lock{mutex_};
        const bool came =
            came_.wait_for(lock, 10s, [&] { return std::find(seen_.begin(), seen_.end(), what) != seen_.end(); });
        EXPECT_TRUE(came) << what;
        return seen_;
    }
    std::vector<std::string> take() {
        const std::lock_guard lock{mutex_};
        return std::exchange(seen_, {});
    }

private:
    std::mutex mutex_;
    std::condition_variable came_;
    std::vector<std::string> seen_;
};

class WatchedStore final : public store::MemoryStore {
public:
    explicit WatchedStore(Trace& trace) : trace_{trace} {}
    [[nodiscard]] store::Committed commit(const store::Batch& batch) override {
        // A disk takes its time: what does not wait for it is seen to come first.
        std::this_thread::sleep_for(20ms);
        set_next_commit(fate.load());
        if (written_before_one_is_busy-- == 0) {
            trace_.add("not written");
            return {store::Outcome::not_written, 0, 0, {Fault::unavailable, "planted: busy"}};
        }
        const auto committed = MemoryStore::commit(batch);
        trace_.add(committed.outcome == store::Outcome::written ? "written" : "not written");
        return committed;
    }
    [[nodiscard]] Result<std::uint64_t> forget(const store::Retention& retention) override {
        if (const auto fault = std::exchange(next_forget, std::nullopt)) return fail(*fault, "planted");
        launches_forgotten.insert(launches_forgotten.end(), retention.launches.begin(), retention.launches.end());
        return MemoryStore::forget(retention);
    }
    [[nodiscard]] Result<void> maintain() override {
        if (maintenance_fails) return fail(Fault::unknown_outcome, "planted");
        if (uses_its_reserve) return fail(Fault::full, "planted");
        return MemoryStore::maintain();
    }
    std::atomic<Fate> fate{Fate::written};
    std::atomic<int> written_before_one_is_busy{-1};
    std::atomic<bool> maintenance_fails{false};
    std::atomic<bool> uses_its_reserve{false};
    // Of the writer's thread alone, once it runs.
    std::optional<Fault> next_forget;
    std::vector<JobId> launches_forgotten;

private:
    Trace& trace_;
};

class WriterTest : public ::testing::Test {
protected:
    void SetUp() override {
        std::string pattern = ::testing::TempDir() + "stargate_writer_XXXXXX";
        ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
        folder_ = pattern;
        store::Batch old;  // rows of long ago
        old.history.push_back({JobId{77}, Instant{}, "ended"});
        old.keys.push_back({TenantId{1}, "old", {}, JobId{77}, Instant{}});
        ASSERT_EQ(store_.commit(old).outcome, store::Outcome::written);
        view_ = std::make_unique<View>(State{}, 0);
        writer_ = std::make_unique<Writer>(
            Writer::Parts{
                store_, folder_, *view_, *FleetClock::start(folder_, {}),
                [this](const Command& command) {
                    trace_.add(std::visit(
                        overloaded{[](const RunRanks&) { return "run"; }, [](const EndRanks&) { return "end"; },
                                   [](const Forget&) { return "forget"; }, [](const TellReplica&) { return "tell"; }},
                        command));
                },
                [this](const Error&) {
                    std::filesystem::remove_all(folder_);
                    std::_Exit(70);
                }},
            State{}, 0, 0);
        Settings settings;
        ASSERT_TRUE(ask(TakeOffice{1, settings}));
        ASSERT_TRUE(ask(SetTenant{"default"}));
        ASSERT_TRUE(ask(NodeUp{*this_machine(2), "boot"}));
        writer_->send_owed();
        trace_.take();
    }
    void TearDown() override {
        writer_.reset();
        view_.reset();
        std::filesystem::remove_all(folder_);
    }
    Result<Answer> ask(Input input) {
        std::promise<Result<Answer>> answered;
        Request request;
        request.input = std::move(input);
        request.done = [&](Result<Answer> answer) {
            trace_.add("answered");
            answered.set_value(std::move(answer));
        };
        EXPECT_TRUE(writer_->post(std::move(request)));
        return answered.get_future().get();
    }
    /// Runs `look` on the writer's thread, when all that was asked before is written and cleaned up.
    void on_the_writer(const std::function<void()>& look) {
        std::promise<void> done;
        writer_->between_batches([&](store::Store&) -> Result<void> {
            look();
            done.set_value();
            return {};
        });
        done.get_future().wait();
    }
    static Submit a_job() {
        Submit submit;
        submit.spec.name = "a";
        submit.spec.time_limit = 1h;
        submit.tenant = "default";
        return submit;
    }
    void one_job_runs() {
        ASSERT_TRUE(ask(a_job()));
        trace_.until("run");
        writer_->report(RanksRunning{AttemptId{1}, NodeId{1}, 1});
        ASSERT_TRUE(ask(SetTenant{"barrier"}));
        trace_.take();
    }

    /// The last of many jobs that one pass does not come to; it alone can start.
    void post_more_than_one_pass_takes() {
        Settings settings;
        settings.pass_steps = 8;
        ASSERT_TRUE(ask(TakeOffice{2, settings}));
        one_job_runs();
        std::vector<Request> requests;
        for (int i = 0; i < 20; ++i) {  // all different, and none of them fits beside the one that runs
            auto wide = a_job();
            wide.spec.min_gpus = wide.spec.max_gpus = GpuCount{2};
            wide.spec.memory_per_rank = mebibytes(1 + i);
            requests.push_back({wide, {}, {}, {}, {}});
        }
        auto fits = a_job();
        fits.spec.time_limit = 1min;  // it ends before the first of them can start
        requests.push_back({fits, {}, {}, {}, {}});
        ASSERT_TRUE(writer_->post(std::move(requests)));
    }

    std::string folder_;
    Trace trace_;
    WatchedStore store_{trace_};
    std::unique_ptr<View> view_;
    std::unique_ptr<Writer> writer_;
};

TEST_F(WriterTest, NothingIsAnsweredOrCommandedBeforeItIsWritten) {
    ASSERT_TRUE(ask(a_job()));
    trace_.until("run");
    EXPECT_EQ(trace_.take(), (std::vector<std::string>{"written", "run", "answered"}));
}

TEST_F(WriterTest, APassThatWasCutOffGoesOnByItself) {
    post_more_than_one_pass_takes();
    trace_.until("run");
}

TEST_F(WriterTest, APassThatWasCutOffGoesOnAfterAStoreThatWasBusy) {
    store_.written_before_one_is_busy = 5;  // of the five before the pass goes on
    post_more_than_one_pass_takes();
    trace_.until("not written");
    trace_.until("run");
}

TEST_F(WriterTest, EndedJobsLeaveInSeveralPassesAndTheRestByItself) {
    Settings settings;
    settings.max_finished = 0;
    ASSERT_TRUE(ask(TakeOffice{2, settings}));
    auto held = a_job();
    held.count = most_retired + 2;
    held.held = true;
    ASSERT_TRUE(ask(held));
    std::vector<Request> requests;
    for (std::uint64_t id = 1; id <= most_retired + 2; ++id) {
        if (id != 77) requests.push_back({Cancel{JobId{id}}, {}, {}, {}, {}});  // that one has a row of long ago
    }
    ASSERT_TRUE(writer_->post(std::move(requests)));
    bool is_gone = false;
    for (int looks = 0; looks < 1'000 && !is_gone; ++looks) {
        on_the_writer([&] { is_gone = store_.find_history(JobId{most_retired + 2}).value().has_value(); });
    }
    EXPECT_TRUE(is_gone);
}

TEST_F(WriterTest, WhatNoDecisionWaitsForIsWrittenAllTheSame) {
    ASSERT_TRUE(ask(a_job()));
    trace_.until("run");
    trace_.take();
    writer_->report(RanksRunning{AttemptId{1}, NodeId{1}, 1});  // and then nothing
    trace_.until("written");
    on_the_writer([&] { EXPECT_EQ(writer_->figures().facts, 6U); });
}

TEST_F(WriterTest, AnAttemptIsForgottenOnlyOnceItsEndIsWritten) {
    one_job_runs();
    writer_->report(RanksEnded{AttemptId{1}, NodeId{1}, 1, {ExitKind::exited, 0, {}}, false, -1, 0});
    EXPECT_EQ(trace_.until("forget"), (std::vector<std::string>{"written", "forget"}));
}

TEST_F(WriterTest, AFullDiskRefusesClientsAndKeepsWhatEnginesSawUntilThereIsRoom) {
    one_job_runs();
    store_.fate = store::MemoryStore::Fate::refused_full;
    writer_->report(RanksEnded{AttemptId{1}, NodeId{1}, 1, {ExitKind::exited, 3, {}}, false, -1, 0});
    writer_->report(ForeignFound{NodeId{1}, 0b10, {AttemptId{9}}, 1});
    trace_.until("not written");
    const auto refused = ask(a_job());
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().fault, Fault::full);
    EXPECT_TRUE(writer_->is_full());
    for (const auto& what : trace_.take()) EXPECT_TRUE(what == "not written" || what == "answered") << what;
    store_.fate = store::MemoryStore::Fate::written;
    trace_.until("forget");
    ASSERT_TRUE(ask(SetTenant{"second barrier"}));
    EXPECT_FALSE(writer_->is_full());
    view_->read([](const State& state) {
        const auto* finished = std::get_if<Finished>(&state.at<Job>(JobId{1}).phase);
        ASSERT_NE(finished, nullptr);
        EXPECT_EQ(finished->exit_status, 3);
        EXPECT_EQ(state.find<Job>(JobId{2}), nullptr) << "what was refused left nothing";
        EXPECT_EQ(state.at<Node>(NodeId{1}).foreign, 0b10U);
    });
}

TEST_F(WriterTest, WhatRunsMayEndInTheRoomThatIsKeptForIt) {
    one_job_runs();
    auto behind = a_job();
    behind.spec.min_gpus = behind.spec.max_gpus = GpuCount{2};
    const auto waits = ask(behind);
    ASSERT_TRUE(waits);
    store_.uses_its_reserve = true;
    ASSERT_TRUE(ask(SetTenant{"barrier of its own"}));
    on_the_writer([] {});
    EXPECT_TRUE(writer_->is_full());
    const auto refused = ask(a_job());
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().fault, Fault::full);
    EXPECT_NE(refused.error().detail.find(folder_), std::string::npos) << "it names the disk";
    writer_->report(Progress{AttemptId{1}, 5});
    ASSERT_TRUE(ask(Cancel{JobId{1}}));
    writer_->report(RanksEnded{AttemptId{1}, NodeId{1}, 1, {ExitKind::exited, 143, {}}, true, -1, 0});
    trace_.until("forget");
    on_the_writer([] {});  // commands go out before the view has folded the batch
    for (int i = 0; i < 500 && view_->last_fact() < writer_->figures().last_fact; ++i) {
        std::this_thread::sleep_for(std::chrono::milliseconds{10});
    }
    view_->read([&](const State& state) {
        EXPECT_TRUE(std::holds_alternative<Finished>(state.at<Job>(JobId{1}).phase));
        EXPECT_EQ(state.at<Job>(JobId{1}).step, -1) << "a step can wait";
        EXPECT_TRUE(std::holds_alternative<Waiting>(state.at<Job>(waits->job).phase)) << "its records have no room";
    });
    trace_.take();
    store_.uses_its_reserve = false;
    const auto until = std::chrono::steady_clock::now() + 10s;
    while (writer_->is_full() && std::chrono::steady_clock::now() < until) std::this_thread::sleep_for(10ms);
    EXPECT_FALSE(writer_->is_full()) << "found without anybody asking";
    trace_.until("run");  // what waited, without anybody asking either
    EXPECT_TRUE(ask(a_job()));
}

TEST_F(WriterTest, OfStepsThatAFullDiskKeptFromBeingWrittenTheNewestIsEnough) {
    one_job_runs();
    store_.fate = store::MemoryStore::Fate::refused_full;
    writer_->report(ForeignFound{NodeId{1}, 0b10, {AttemptId{9}}, 1});
    trace_.until("not written");
    for (std::int64_t step = 1; step <= 1000; ++step) writer_->report(Progress{AttemptId{1}, step});
    store_.fate = store::MemoryStore::Fate::written;
    trace_.until("written");
    ASSERT_TRUE(ask(SetTenant{"second barrier"}));
    int logged = 0;
    on_the_writer([&] {
        const auto read = store_.read_inputs(1, [&](const store::InputRow& row) {
            if (row.type == type_of(Input{Progress{}})) ++logged;
            return true;
        });
        EXPECT_TRUE(read);
    });
    EXPECT_EQ(logged, 1);
    view_->read([](const State& state) { EXPECT_EQ(state.at<Job>(JobId{1}).step, 1000); });
}

TEST_F(WriterTest, RowsThatHaveOutlivedTheirRetentionAreForgotten) {
    ASSERT_TRUE(ask(SetTenant{"barrier"}));
    on_the_writer([&] {
        EXPECT_FALSE(store_.find_history(JobId{77})->has_value());
        EXPECT_FALSE(store_.find_key(TenantId{1}, "old")->has_value());
    });
}

TEST_F(WriterTest, WhatCouldNotBeForgottenIsForgottenAfterALaterBatch) {
    Settings settings;
    settings.max_finished = 0;
    ASSERT_TRUE(ask(TakeOffice{2, settings}));
    on_the_writer([&] { store_.next_forget = Fault::full; });
    one_job_runs();
    writer_->report(RanksEnded{AttemptId{1}, NodeId{1}, 1, {ExitKind::exited, 0, {}}, false, -1, 0});
    trace_.until("forget");
    ASSERT_TRUE(ask(SetTenant{"second barrier"}));
    ASSERT_TRUE(ask(SetTenant{"third barrier"}));
    on_the_writer([&] { EXPECT_EQ(store_.launches_forgotten, std::vector<JobId>{JobId{1}}); });
}

TEST_F(WriterTest, TheLogIsLookedAfterAgainSoonAfterAFailure) {
    std::promise<void> done;
    int looks = 0;
    Follower follower{[&](const std::stop_token&) -> Result<LogKept> {
                          if (++looks < 3) return fail(Fault::full, "planted");
                          done.set_value();
                          return LogKept{};
                      },
                      {10, 100, 1ms},
                      *writer_,
                      0};
    follower.log_reached(10);
    EXPECT_EQ(done.get_future().wait_for(10s), std::future_status::ready) << "without a single new fact";
    follower.stop();
    EXPECT_EQ(looks, 3);
}

TEST_F(WriterTest, WhoAsksForMuchWaitsForHimself) {
    std::promise<void> begun, go_on;
    writer_->between_batches([&](store::Store&) -> Result<void> {
        begun.set_value();
        go_on.get_future().wait();
        return {};
    });
    begun.get_future().wait();  // from now on what is posted waits
    const auto requests = [](std::uint32_t by, int count, const Request::Done& done) {
        std::vector<Request> all(static_cast<std::size_t>(count));
        for (auto& each : all) {
            each.input = Hold{JobId{99}, true};
            each.done = done;
            each.by = by;
        }
        return all;
    };
    constexpr int many = 25'000;
    int answered = 0;
    std::promise<void> all_answered;
    const auto count = [&](const Result<Answer>&) {
        if (++answered == many) all_answered.set_value();
    };
    EXPECT_TRUE(writer_->post(requests(1, many, count)));
    EXPECT_FALSE(writer_->post(requests(1, 1, {})));
    int before_the_other = 0;
    EXPECT_TRUE(writer_->post(requests(2, 1, [&](const Result<Answer>&) { before_the_other = answered; })));
    go_on.set_value();
    all_answered.get_future().wait();
    EXPECT_LT(before_the_other, 2'000);  // it was in the first batch
}

TEST_F(WriterTest, AFailedSyncOutsideACommitStopsTheProcessToo) {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    EXPECT_EXIT(
        {
            store_.maintenance_fails = true;
            (void)ask(a_job());
            std::this_thread::sleep_for(10s);
            std::_Exit(1);
        },
        ::testing::ExitedWithCode(70), "");
    EXPECT_EXIT(
        {
            writer_->between_batches([](store::Store&) { return fail(Fault::unknown_outcome, "planted"); });
            std::this_thread::sleep_for(10s);
            std::_Exit(1);
        },
        ::testing::ExitedWithCode(70), "");
}

TEST_F(WriterTest, AnUnknownOutcomeStopsTheProcessAndIsNeverAnswered) {
    GTEST_FLAG_SET(death_test_style, "threadsafe");  // the child needs a writer of its own
    EXPECT_EXIT(
        {
            store_.fate = store::MemoryStore::Fate::unknown_and_lost;
            (void)ask(a_job());
            std::_Exit(1);
        },
        ::testing::ExitedWithCode(70), "");
}

}  // namespace
}  // namespace stargate::live
