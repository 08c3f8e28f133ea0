#include "engine/local/shim/environment.hpp"

#include <bit>

#include "engine/local/attempt_folder.hpp"

namespace stargate::local {

namespace {

class Environment {
public:
    void set(const std::string& name, const std::string& value) {
        auto entry = name + "=" + value;
        for (auto& known : entries_) {
            if (known.compare(0, name.size() + 1, entry, 0, name.size() + 1) == 0) {
                known = std::move(entry);
                return;
            }
        }
        entries_.push_back(std::move(entry));
    }
    void set(const std::string& name, std::int64_t value) { set(name, std::to_string(value)); }
    void set_unless_there(const std::string& name, const std::string& value) {
        const auto start = name + "=";
        for (const auto& known : entries_) {
            if (known.starts_with(start)) return;
        }
        entries_.push_back(start + value);
    }
    [[nodiscard]] std::vector<std::string> take() { return std::move(entries_); }

private:
    std::vector<std::string> entries_;
};

std::string visible_devices(const Spec& spec, const Run& run) {
    std::string list;
    if (!spec.real_gpus) return list;
    for (int gpu = 0; gpu < 64; ++gpu) {
        if ((run.gpus >> gpu & 1U) != 0) list += (list.empty() ? "" : ",") + std::to_string(gpu);
    }
    return list;
}

}  // namespace

std::string job_folder_path(const Spec& spec) {
    if (spec.confinement != Confinement::none) return job_folder_in_sandbox;
    return spec.state + "/attempts/" + attempt_folder_name(spec.attempt) + "/" + job_folder_name;
}

std::vector<std::string> rank_environment(const Spec& spec, const Run& run, std::int32_t local_rank) {
    Environment environment;
    if (!spec.keep_environment) {
        environment.set("HOME", spec.account.home);
        environment.set("USER", spec.account.name);
        environment.set("LOGNAME", spec.account.name);
        environment.set("SHELL", spec.account.shell);
        environment.set("PATH", "/usr/local/bin:/usr/bin:/bin");
        environment.set("LANG", "C.UTF-8");
    }
    for (const auto& [name, value] : spec.environment) environment.set(name, value);
    environment.set_unless_there("OMP_NUM_THREADS", "1");  // ranks share the cores; libraries would take them all
    environment.set("RANK", run.first_rank + local_rank);
    environment.set("LOCAL_RANK", local_rank);
    environment.set("WORLD_SIZE", run.world_size);
    environment.set("LOCAL_WORLD_SIZE", run.ranks);
    environment.set("MASTER_ADDR", "127.0.0.1");
    environment.set("MASTER_PORT", run.port);
    environment.set("CUDA_VISIBLE_DEVICES", visible_devices(spec, run));
    environment.set("STARGATE_JOB_ID", static_cast<std::int64_t>(spec.job));
    environment.set("STARGATE_JOB_NAME", spec.name);
    environment.set("STARGATE_ATTEMPT", static_cast<std::int64_t>(spec.attempt));
    environment.set("STARGATE_GENERATION", run.generation);
    environment.set("STARGATE_GPUS", std::popcount(run.gpus));
    environment.set("STARGATE_TASK", run.task);
    environment.set("STARGATE_NOTICE", job_folder_path(spec) + "/notice");
    environment.set("STARGATE_PROGRESS", job_folder_path(spec) + "/progress");
    if (!spec.checkpoint_folder.empty()) environment.set("STARGATE_CHECKPOINT_DIR", spec.checkpoint_folder);
    return environment.take();
}

}  // namespace stargate::local
