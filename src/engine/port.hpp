#pragma once

#include <functional>
#include <variant>
#include <vector>

#include "base/result.hpp"
#include "core/command.hpp"
#include "core/input.hpp"
#include "core/report.hpp"
#include "work/launch.hpp"

namespace stargate {

/// What engines tell the core, and whoever speaks with replicas and gateways. Reports may come late, twice and out of
/// order; the core sorts them out.
using Report = std::variant<RanksRunning, RanksEnded, AttemptLost, Progress, ForeignFound, ReplicaReady, ReplicaAsleep,
                            ServiceDemand, ReplicaFailed, ReplicaAnswered>;

/// What State holds of an attempt on a node, for the search after a restart.
struct Believed {
    AttemptId attempt;
    /// It has been seen running. When it has not, finding nothing proves nothing: its RunRanks is still owed.
    bool started = false;
    friend bool operator==(const Believed&, const Believed&) = default;
};

/// What an engine finds beside what State believes.
struct Unknown {
    AttemptId attempt;
    bool is_alive = false;
    GpuMask gpus = 0;  // that it holds, while it is alive
    MilliCpus cpus{};  // the same of its host
    Bytes memory{};
    friend bool operator==(const Unknown&, const Unknown&) = default;
};

/// Runs work on machines. The core decides; an engine starts, warns, ends and tells what it saw.
class Engine {
public:
    /// Called from any thread of the engine; must not block.
    using Listener = std::function<void(Report)>;
    /// How a job is run, from the store. Called from the engine's thread.
    using LaunchOf = std::function<Result<Launch>(JobId)>;

    Engine() = default;
    Engine(const Engine&) = delete;
    Engine& operator=(const Engine&) = delete;
    virtual ~Engine() = default;

    /// Looks for work that outlived the last control plane. `believed` are the attempts that State holds as live here:
    /// each that is found is adopted (its state is reported again), each that provably is not is reported lost, and
    /// what is found beyond them is left alone and returned. Whatever of that is not forgotten is foreign: when some of
    /// it ends, what remains is reported.
    virtual Result<std::vector<Unknown>> adopt(const std::vector<Believed>& believed) = 0;

    /// Carries out one command, in order for one attempt. Returns at once; the outcome comes as a report.
    virtual void carry_out(const Command& command) = 0;

    /// Typed at the terminal of an attempt that has one. False: so much of what was typed before has not been taken
    /// there that it has to wait. Lost where the attempt does not run here.
    [[nodiscard]] virtual bool type(AttemptId, std::string) { return true; }
    /// The size of its terminal, in characters.
    virtual void set_window(AttemptId, std::uint16_t /*rows*/, std::uint16_t /*columns*/) {}
};

}  // namespace stargate
