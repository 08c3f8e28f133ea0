#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "engine/port.hpp"

namespace stargate {

struct LocalEngineOptions {
    std::string state;  // state folder, made canonical by open()
    std::string shim;   // path of the program stargate-shim
    NodeId node;        // this machine; commands for others are passed over
    Authority authority;
    bool real_gpus = false;        // GPUs are devices of this machine, not shares of its CPU
    std::uint64_t open_files = 0;  // soft limit of ranks on open files; 0: the one of this process
    Engine::Listener listener;
    Engine::LaunchOf launch_of;
    /// Now, by the clock that the deadlines of commands are measured in. Called from the engine's thread.
    std::function<Instant()> now;
};

/// Runs work as processes of this machine, each attempt under a shim that outlives this object and this process.
/// One thread follows them all; reports come from it.
class LocalEngine final : public Engine {
public:
    /// Makes STATE/attempts and STATE/logs and starts the thread.
    [[nodiscard]] static Result<std::unique_ptr<LocalEngine>> open(LocalEngineOptions options);
    /// Leaves all work running.
    ~LocalEngine() override;

    Result<std::vector<Unknown>> adopt(const std::vector<Believed>& believed) override;
    void carry_out(const Command& command) override;
    [[nodiscard]] bool type(AttemptId attempt, std::string bytes) override;
    void set_window(AttemptId attempt, std::uint16_t rows, std::uint16_t columns) override;

private:
    class Thread;
    explicit LocalEngine(std::unique_ptr<Thread> thread);
    std::unique_ptr<Thread> thread_;
};

/// Whether the default sandbox can be built here by this user; if not, a sentence that says what lacks.
[[nodiscard]] Result<void> probe_sandbox(const std::string& shim);

}  // namespace stargate
