#pragma once

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "base/codec.hpp"
#include "store/port.hpp"
#include "twin/checker.hpp"
#include "twin/control_plane.hpp"
#include "twin/gateways.hpp"
#include "twin/machines.hpp"
#include "twin/run.hpp"

namespace stargate::twin {

/// Everything outside the core, on a simulated clock: who submits, the machines, the links between, the disk, and the
/// faults of each.
class World {
public:
    World(const Scenario& scenario, std::uint64_t seed, store::Store& store, bool store_is_ours);
    World(const World&) = delete;
    World& operator=(const World&) = delete;

    /// Until everything is over or something does not hold.
    void run(const std::function<void(double, std::uint64_t)>& progress);
    [[nodiscard]] RunReport report() const;

private:
    void begin();
    void handle(const Event& event);
    void broken(std::string what);

    // The control plane and what reaches it.
    void put(Input input, bool from_client);
    void plan_round(Instant at);
    void round();
    void plan_wake();
    void wake(const Event& event);
    void start_control_plane();
    void control_plane_died();
    [[nodiscard]] bool is_to_be_met(NodeId node) const;
    void meet_engines(const std::vector<NodeId>& nodes);
    CommitFate next_commit();
    [[nodiscard]] Settings settings_of_this_term();
    [[nodiscard]] Duration longest_wait() const;
    void close();
    void committed(Instant at, const store::Batch& batch, const std::vector<Fact>& facts);
    [[nodiscard]] Result<Folded> fold();
    void trim_log();

    // Links.
    void send(const Command& command);
    void deliver_command(const Event& event);
    void deliver_stale_command(const Event& event);
    void reported(NodeId node, Input input);

    // Services, their clients and gateways.
    [[nodiscard]] Gateways::Ports ports_of_gateways();
    void submit_services();
    [[nodiscard]] Truth truth_of_replica(const Submitted& submitted);
    [[nodiscard]] JobId a_replica();
    void tell_demand(DemandWord word);
    void hear_demand(const Event& event);
    void note_demand();
    void check_scaled(const Scaled& scaled);
    void note_routes(const Fact& fact);
    void send_routes_if_changed();
    void send_routes(std::size_t gateway);
    [[nodiscard]] Duration services_need() const;
    void plan_services_close();
    void close_services();
    void job_over(JobId job);

    // People and faults.
    void arrive();
    void submit_one();
    void person();
    void tidy_up();
    void lose_node();
    void node_noticed(const Event& event);
    void node_verdict(const Event& event);
    void node_back(const Event& event);
    void find_stray(NodeId node);
    void stray_ended(const Event& event);
    void tell_stray(NodeId node);
    void plan(Duration mean, Happening what, std::uint64_t a = 0);
    void check();
    void note(const char* fault) { ++faults_[fault]; }

    enum class Act : std::uint8_t { cancel, hold, release, resize, drain, undrain, quota, edit };
    void act(Act what);
    void change_a_quota();
    void change_a_job(JobId job);
    void set_quota(const TenantPlan& tenant, std::int64_t gpus);
    [[nodiscard]] JobId an_active_job();
    [[nodiscard]] Duration mean_of(Act what) const;

    /// A node's link: a message that was on its way when the link broke is lost.
    struct Link {
        bool up = true;
        bool crashed = false;
        bool gone = false;  // it never comes back
        std::uint64_t epoch = 0;
        ForeignFound stray;  // work that somebody else runs there
        std::uint64_t strays = 0;
        Instant last_command{};  // commands arrive in the order in which they were sent
        Instant last_report{};   // so do reports, but for those that faults touch
    };
    /// What a log in memory keeps of State, so that it need not keep everything.
    struct Snapshot {
        std::string rows;  // empty: none yet
        std::uint64_t last_fact = 0;
        std::uint64_t last_input = 0;
    };
    struct CommandOnItsWay {
        Authority from;
        Command command;
    };

    const Scenario& scenario_;
    const std::uint64_t seed_;
    store::Store& store_;
    const bool store_is_ours_;
    EventQueue queue_;
    Instant now_{};
    Rng arrivals_, people_, faults_rng_, links_, probes_;
    Machines machines_;
    Checker checker_;
    Gateways gateways_;
    Rng gateway_links_;
    DemandMerge demand_;          // the control plane's
    std::vector<Link> links_of_;  // by node
    std::optional<ControlPlane> control_plane_;
    std::deque<Request> inbox_;
    bool round_planned_ = false;
    Instant wake_at_ = never;
    InFlight<Input> inputs_on_their_way_;
    InFlight<CommandOnItsWay> commands_on_their_way_;
    InFlight<DemandWord> words_on_their_way_;
    InFlight<RouteTable> routes_on_their_way_;
    Instant silence_at_{};
    bool routes_changed_ = false;
    std::uint64_t route_version_ = 0;
    std::vector<std::int64_t> replicas_of_service_;  // that are not over, by place in the scenario
    bool services_close_planned_ = false;
    std::size_t open_requests_ = SIZE_MAX;    // when services were about to close last
    std::vector<CommandOnItsWay> held_back_;  // copies that arrive after the next takeover
    std::vector<NodeId> came_back_;           // answered again; asked what they have after the next round
    Snapshot snapshot_;
    std::uint64_t facts_at_snapshot_ = 0;
    Instant full_until_{};
    bool next_is_unknown_ = false;

    std::vector<double> kind_loads_, tenant_loads_;
    std::map<std::string, std::string> newest_job_of_;  // by tenant, for `after`
    std::int64_t submitted_ = 0;                        // jobs asked for
    bool closing_ = false;                              // no more arrivals, people and faults: what is left must finish
    Instant closed_at_{};
    Instant closing_deadline_ = never;  // the next job is over by then
    std::uint64_t times_tidied_ = 0;
    std::int64_t open_ = 0;  // jobs in the log that are not over

    std::array<std::uint64_t, fact_names.size()> facts_by_type_{};
    Fingerprint digest_;
    RunReport report_;
    std::map<std::string, std::uint64_t> faults_;
    std::optional<std::string> broken_;
};

}  // namespace stargate::twin
