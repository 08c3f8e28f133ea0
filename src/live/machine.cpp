#include "live/machine.hpp"

#include <fmt/format.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <thread>

#include "base/file.hpp"
#include "core/command.hpp"

namespace stargate::live {

Result<NodeShape> this_machine(int cpu_gpus) {
    const auto cores = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
    if (cpu_gpus < 0 || cpu_gpus > max_gpus_per_node) {
        return fail(Fault::malformed, fmt::format("--cpu-gpus {}: a node has 1 to {} GPUs; give a number between",
                                                  cpu_gpus, max_gpus_per_node));
    }
    std::array<char, 256> name{};
    if (::gethostname(name.data(), name.size() - 1) != 0)
        return fail(Fault::unavailable, "this machine has no host name");
    struct sysinfo info {};
    if (::sysinfo(&info) != 0) return fail(Fault::unavailable, "the kernel does not tell how much memory there is");
    NodeShape shape;
    shape.name = name.data();
    shape.gpus = GpuCount{cpu_gpus > 0 ? cpu_gpus : std::min(cores, max_gpus_per_node)};
    shape.cpus = cpus(cores);
    shape.memory = Bytes{static_cast<std::int64_t>(info.totalram) * info.mem_unit};
    return shape;
}

Result<std::string> kept_node_name(const std::string& folder, const std::string& host_name) {
    const auto path = folder + "/node";
    auto kept = read_file(path, Bytes{4096});
    if (!kept && kept.error().fault != Fault::not_found) return kept;
    if (kept && kept->size() > 1 && kept->back() == '\n') {
        kept->pop_back();
        return kept;
    }
    return write_durably(path, host_name + "\n").map([&] { return host_name; });
}

}  // namespace stargate::live
