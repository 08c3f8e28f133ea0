#pragma once

#include <functional>
#include <map>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/command.hpp"
#include "core/input.hpp"
#include "core/table.hpp"
#include "engine/port.hpp"
#include "twin/event_queue.hpp"
#include "twin/rng.hpp"
#include "twin/scenario.hpp"

namespace stargate::twin {

/// What is true of a job, which no decision knows: how much work it is and how it ends.
struct Truth {
    TenantId tenant;
    std::int32_t share = 0;
    Duration grace{};
    std::int64_t work = 0;  // GPU-microseconds (of CPU jobs and shares: microseconds)
    std::int64_t done = 0;  // of these, in its newest checkpoint
    std::int32_t exit_code = 0;
    bool never_starts = false;
    bool in_place = false;
    std::int32_t service = -1;  // of a replica: the place of its service in the scenario
};

/// The machines of the simulated world with their engines, and what really happens on them. Obeys commands as the
/// local engine does, keeps its own journal of who held what and what started, and notes whatever must never happen,
/// without a look at State.
class Machines {
public:
    /// `report` takes what an engine or a replica tells; `broken` what must never have happened.
    using Reported = std::function<void(NodeId, Input)>;
    using Broken = std::function<void(std::string)>;
    /// A replica answers nobody any more.
    using Cut = std::function<void(AttemptId)>;

    Machines(EventQueue& queue, const Scenario& scenario, std::uint64_t seed, Reported report, Broken broken, Cut cut);

    NodeId add(const NodeShape& shape);
    void submitted(JobId job, Truth truth) { truths_.put(job, truth); }
    [[nodiscard]] const Truth* truth_of(JobId job) const { return truths_.find(job); }
    void forget_job(JobId job) { truths_.erase(job); }
    /// The end of this attempt is committed: nothing may start for it any more.
    void attempt_ended(AttemptId attempt);

    void carry_out(const Authority& from, Instant now, const Command& command);
    /// Looks for work as an engine does when a control plane comes back; returns what State does not know. From now on
    /// the node obeys no earlier one.
    std::vector<AttemptId> adopt(const Authority& by, NodeId node, const std::vector<Believed>& believed);
    /// The highest term that has spoken to the node.
    [[nodiscard]] std::uint64_t term_of(NodeId node) const { return at(node).authority.term; }
    /// Whether a generation of this attempt before `generation` ended here and is not forgotten.
    [[nodiscard]] bool was_here_before(NodeId node, AttemptId attempt, std::uint32_t generation) const;
    /// Reports again whatever has not been forgotten.
    void reconcile(Instant now, NodeId node);

    void ranks_up(Instant now, const Event& event);
    void gang_done(Instant now, const Event& event);
    void ranks_exit(Instant now, const Event& event);
    void ranks_left(Instant now, const Event& event);
    void replica_acts(Instant now, const Event& event);
    /// Replicas do what they are told from now on.
    void calm() { calm_ = true; }

    // What gateways do with replicas.
    /// Whether the replica takes one more request; else it says that it sleeps, or is not there.
    [[nodiscard]] bool begin_stream(AttemptId attempt);
    void stream_over(Instant now, AttemptId attempt);
    [[nodiscard]] std::int32_t streams_of(AttemptId attempt) const;
    /// The replicas of a node that nobody can reach: their clients are gone.
    [[nodiscard]] std::vector<AttemptId> lose_clients(NodeId node);

    /// Power off: every process is gone, what is on disk stays: a folder without an end.
    void crash(Instant now, NodeId node);
    /// Runs with another boot id from now on.
    void boot(NodeId node);
    [[nodiscard]] std::string boot_id(NodeId node) const;
    /// Its CPUs and memory become three quarters of what they were, or whole again.
    void reshape(NodeId node);
    [[nodiscard]] const NodeShape& shape(NodeId node) const { return at(node).shape; }
    [[nodiscard]] std::size_t size() const { return nodes_.size() - 1; }

    [[nodiscard]] std::uint64_t starts() const { return starts_; }
    [[nodiscard]] std::uint64_t refused_commands() const { return refused_commands_; }
    [[nodiscard]] std::uint64_t refused_starts() const { return refused_starts_; }
    [[nodiscard]] std::uint64_t hung_replicas() const { return hung_replicas_; }
    [[nodiscard]] std::uint64_t stopped_replicas() const { return stopped_replicas_; }
    [[nodiscard]] std::uint64_t dead_replicas() const { return dead_replicas_; }

    /// What must never be, found by a look at everything. Nothing when all is well.
    [[nodiscard]] std::optional<std::string> broken() const;

private:
    enum class Standing : std::uint8_t { tombstone, starting, running, leaving, survivors, ended, lost };
    /// An attempt on a node: its folder there.
    struct Record {
        AttemptId attempt;
        JobId job;
        std::uint32_t generation = 0;
        Standing standing = Standing::starting;
        GpuMask gpus = 0;
        std::int32_t ranks = 0;
        std::int32_t world = 0;
        std::int32_t keep = 0;  // ranks that go on when the leaving ones are gone
        bool warned = false;
        Instant deadline = never;
        std::uint64_t epoch = 0;  // of what is planned for it: an older plan is void
        Exit exit;
        std::int64_t step = -1;
        /// No process of it is left; its folder is.
        [[nodiscard]] bool is_over() const {
            return standing == Standing::ended || standing == Standing::tombstone || standing == Standing::lost;
        }
    };
    struct Machine {
        NodeShape shape;
        NodeShape as_built;
        std::uint64_t boot = 1;
        Authority authority;  // the highest that has spoken
        std::vector<Record> records;
        std::vector<AttemptId> holders;    // by GPU: whose ranks compute there; of a shared GPU the first
        std::vector<std::int32_t> shared;  // by GPU: thousandths in use
        std::vector<TenantId> shared_by;
    };
    /// A gang across its nodes, from the first rank of a generation to its end.
    struct Gang {
        std::uint32_t generation = 0;
        std::int32_t world = 0;
        std::int32_t up = 0;  // ranks that run
        bool whole = false;
        Instant since{};  // whole since then
        std::uint64_t epoch = 0;
        std::vector<NodeId> nodes;
    };

    /// A replica from its process's start to its end.
    struct Replica {
        NodeId node;
        Instant loaded{};  // from then on it can prove that it answers
        bool can_sleep = true;
        bool serves = false;       // takes requests
        std::int32_t streams = 0;  // requests that it answers right now
        bool is_told = false;
        std::uint32_t telling = 0;  // the newest that it has heard
        Telling what = Telling::prove;
        bool answers = false;  // it has done so
        bool hangs = false;
        bool will_stop = false;  // it serves, and will stop answering at its next event
        Instant drained_by{};    // requests may last so long when it is told to sleep
        GpuMask seat = 0;        // while it sleeps
        std::uint64_t epoch = 0;
    };

    Machine& at(NodeId node) { return nodes_[node.value]; }
    [[nodiscard]] const Machine& at(NodeId node) const { return nodes_[node.value]; }
    Record* find(NodeId node, AttemptId attempt);
    [[nodiscard]] bool obeys(NodeId node, const Authority& from);
    void run(Instant now, const RunRanks& command);
    void start_ranks(Instant now, Record& record, const RunRanks& command);
    void end(Instant now, const EndRanks& command);
    void forget(const Forget& command);
    void obey(Instant now, const TellReplica& command);
    [[nodiscard]] const ServicePlan& plan_of(const Record& record) const;
    void replica_up(Instant now, NodeId node, const Record& record);
    void replica_gone(AttemptId attempt);
    void plan_answer(Instant at, const Record& record, const Replica& replica);
    void stop_answering(Instant now, NodeId node, const Record& record, Replica& replica);
    void answer(NodeId node, const Record& record, const Replica& replica);
    void hold(NodeId node, const Record& record, GpuMask gpus);
    void let_go(NodeId node, const Record& record, GpuMask gpus);
    void all_gone(Instant now, NodeId node, Record& record, Exit exit);
    void tell(NodeId node, const Record& record);
    void tell_progress(Instant now, NodeId node, const Record& record);
    void gang_breaks(Instant now, AttemptId attempt, std::uint32_t generation, JobId job, bool checkpointed);
    [[nodiscard]] bool has_ended(AttemptId attempt) const;
    [[nodiscard]] static std::int32_t speed_of(const Truth& truth, const Gang& gang);

    EventQueue& queue_;
    const Scenario& scenario_;
    Rng rng_;
    Reported report_;
    Broken broken_;
    Cut cut_;
    bool calm_ = false;
    std::map<AttemptId, Replica> replicas_;
    std::vector<Machine> nodes_;  // by id; the first stands for no node
    Table<JobId, Truth> truths_;
    std::unordered_map<std::uint64_t, Gang> gangs_;  // never iterated
    std::vector<bool> ended_;                        // by attempt
    std::uint64_t epochs_ = 0;
    std::uint64_t starts_ = 0;
    std::uint64_t refused_commands_ = 0;
    std::uint64_t refused_starts_ = 0;
    std::uint64_t hung_replicas_ = 0;
    std::uint64_t stopped_replicas_ = 0;
    std::uint64_t dead_replicas_ = 0;
};

}  // namespace stargate::twin
