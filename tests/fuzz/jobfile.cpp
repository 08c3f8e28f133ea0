#include "api/jobfile.hpp"

#include <cstddef>
#include <cstdint>
#include <cstdlib>

/// Any bytes are a job or one line that says what is wrong with them.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    stargate::api::JobFileSetting setting;
    setting.file = "fuzz.yaml";
    setting.folder = "/work";
    setting.account.home = "/home/ada";
    setting.gpu_types = {"cpu", "h100"};
    const auto job = stargate::api::parse_job_file({reinterpret_cast<const char*>(data), size}, setting);
    if (!job) {
        const auto& said = job.error().detail;
        if (said.rfind("fuzz.yaml:", 0) != 0 || said.find('\n') != std::string::npos) std::abort();
        return 0;
    }
    const auto& spec = job->submit.spec;
    const bool is_sound = !spec.name.empty() && spec.min_gpus <= spec.max_gpus && spec.min_gpus.count() >= 0 &&
                          spec.share >= 0 && spec.share < 1000 && spec.time_limit.count() > 0 &&
                          spec.grace.count() >= 0 && job->submit.count >= 1 && job->launch.folder[0] == '/' &&
                          spec.cpus_per_rank.count() >= 0 && spec.memory_per_rank.count() >= 0 &&
                          job->launch.argv.empty() != job->launch.shell.empty();
    if (!is_sound) std::abort();
    return 0;
}
