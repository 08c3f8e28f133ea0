#pragma once

#include <array>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "api/control.hpp"
#include "engine/port.hpp"
#include "engine/serving_port.hpp"
#include "live/follower.hpp"
#include "live/writer.hpp"
#include "loop/demand.hpp"

namespace stargate::live {

/// What a control plane is made of; the one who starts it chooses the adapters.
struct Wiring {
    struct EngineNeeds {
        Authority authority;
        NodeId node;
        Engine::Listener listener;
        Engine::LaunchOf launch_of;
        std::function<Instant()> now;
    };
    using ReadOutput =
        std::function<Result<std::vector<api::OutputPiece>>(JobId, AttemptId, std::int64_t, std::size_t)>;

    std::string folder;                     // the state
    std::unique_ptr<store::Store> store;    // held by this process alone
    std::unique_ptr<store::Reader> reader;  // a second connection, for those who only read
    Settings settings;
    NodeShape node;  // this machine
    std::string boot;
    std::function<Result<std::unique_ptr<Engine>>(EngineNeeds)> make_engine;
    /// Who speaks with replicas and gateways; empty: nobody, and services get no further than their start.
    std::function<std::unique_ptr<Serving>(Serving::Needs)> make_serving;
    /// The highest term of this incarnation that executors obey already, 0 when none does. Empty: nobody looks.
    std::function<std::uint64_t(const std::array<std::uint8_t, 16>&)> obeyed_term;
    ReadOutput read_output;
    std::function<std::int64_t()> store_bytes;  // room that the store takes on its disk, -1 when not known
    Follower::KeepLog keep_log;                 // empty: no snapshots are made, and the log only grows
    LogLimits log_limits;
};

/// The live control plane of one machine: recovers, takes office, adopts what runs, and then answers the API.
class ControlPlane final : public api::Control {
public:
    [[nodiscard]] static Result<std::unique_ptr<ControlPlane>> start(Wiring wiring);
    ~ControlPlane() override;

    /// Returns when somebody asked it to go down, by shut_down() or stop().
    void wait();
    /// Asks it to go down and leaves work running. Callable from any thread.
    void stop();

    void get_ready() override;
    void submit(api::NewJob job, Done<Answer> done) override;
    [[nodiscard]] Result<std::optional<Answer>> find_key(const std::string& tenant, const std::string& key,
                                                         const std::string& body) const override;
    void ask(std::uint32_t by, std::vector<Input> inputs, Done<std::vector<Answer>> done) override;
    void read(const Look& look) const override;
    [[nodiscard]] Result<Launch> launch_of(JobId job) const override;
    [[nodiscard]] Result<void> read_facts(std::uint64_t from, std::size_t most,
                                          const std::function<void(const api::LoggedFact&)>& visit) const override;
    void on_facts(std::function<void(std::uint64_t)> notify) override;
    [[nodiscard]] Result<void> read_retired(std::size_t most, const std::function<bool(const RetiredJob&)>& visit,
                                            const RetiredJob* after) const override;
    [[nodiscard]] Result<std::optional<RetiredJob>> find_retired(JobId job) const override;
    [[nodiscard]] Result<std::vector<api::OutputPiece>> read_output(JobId job, AttemptId attempt, std::int64_t offset,
                                                                    std::size_t most) const override;
    [[nodiscard]] bool type(AttemptId attempt, std::string bytes) override;
    void set_window(AttemptId attempt, std::uint16_t rows, std::uint16_t columns) override;
    [[nodiscard]] api::Figures figures() const override;
    void shut_down(api::RunningWork work) override;
    /// What gateways say is asked of it now. From any thread.
    [[nodiscard]] ServiceDemand demand_of(JobId service) const;

private:
    explicit ControlPlane(Wiring wiring) : wiring_{std::move(wiring)} {}
    Result<void> recover_and_take_office();
    Result<Answer> decide_and_wait(Input input);
    Result<void> take_office(std::uint64_t newest_known);
    Result<void> decide_all(std::vector<Input> inputs);
    Result<void> open_engine(NodeId here);
    Result<std::vector<Unknown>> adopt(NodeId here);
    [[nodiscard]] ForeignFound foreign_among(const std::vector<Unknown>& found, NodeId here,
                                             std::uint64_t newest_known);
    [[nodiscard]] NodeId this_node() const;
    void end_running_work();
    void add_other_replicas(std::vector<JobId>& jobs) const;
    void carry_out(const Command& command);
    [[nodiscard]] bool may_concern_services();
    void open_serving();
    void tell_demand();

    Wiring wiring_;
    store::Identity identity_;
    std::optional<FleetClock> clock_;
    std::unique_ptr<View> view_;
    std::unique_ptr<Writer> writer_;
    std::unique_ptr<Follower> follower_;
    std::unique_ptr<Engine> engine_;
    std::atomic<Engine*> engine_ready_{nullptr};
    std::unique_ptr<Serving> serving_;
    std::atomic<Serving*> serving_ready_{nullptr};
    std::atomic<bool> had_services_{true};
    mutable std::mutex demand_mutex_;
    DemandMerge demand_;

    mutable std::mutex reader_mutex_;  // the reading connection is for one thread at a time
    mutable std::mutex launches_mutex_;
    mutable std::deque<std::pair<JobId, std::shared_ptr<const Launch>>> launches_;  // used last, newest at the back

    std::mutex notify_mutex_;
    std::function<void(std::uint64_t)> notify_;

    std::mutex stop_mutex_;
    std::condition_variable stop_asked_;
    bool stopping_ = false;
    std::thread goodbye_;  // ends running work before the process goes down; at most one
};

}  // namespace stargate::live
