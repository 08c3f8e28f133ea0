#include <fmt/format.h>

#include <cstdlib>
#include <fstream>
#include <iostream>
#include <string>

#include "api/fake_control.hpp"
#include "api/server.hpp"
#include "base/scratch_folder.hpp"

/// What `make bars` shows a browser: the real API and core with so many nodes and jobs, in memory. Prints its port and
/// its token. For each line on standard input it has one more job handed in, and prints the job's name and when that
/// was known, in milliseconds since 1970.
namespace {

using namespace stargate;

std::int64_t now_ms() {
    return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch())
        .count();
}

void submit(api::FakeControl& control, const std::string& name, std::int32_t gpus, std::int32_t count) {
    JobSpec spec;
    spec.name = name;
    spec.min_gpus = spec.max_gpus = GpuCount{gpus};
    spec.time_limit = std::chrono::hours{24};
    control.submit({Submit{spec, "default", {}, count, false}, {}, {}, {}}, [](const Result<Answer>& answer) {
        if (!answer || !answer->accepted()) std::abort();
    });
}

}  // namespace

int main(int count, char** words) {
    if (count != 3) return std::cerr << "usage: bench_page NODES JOBS\n", 2;
    const int nodes = std::atoi(words[1]);
    const int jobs = std::atoi(words[2]);
    const ScratchFolder folder;
    api::FakeControl control{8};
    for (int i = 1; i < nodes; ++i) {
        NodeShape shape{fmt::format("node{:04}", i), 0, GpuCount{8}, cpus(64), gibibytes(256), 0, 0, 0, 0, {}};
        control.report(NodeUp{std::move(shape), "boot"});
    }
    constexpr int in_an_array = 100;
    for (int i = 0; i * in_an_array < jobs; ++i) submit(control, fmt::format("sweep{}", i), 8, in_an_array);
    auto tokens = std::move(*api::Tokens::open(folder.path()));
    api::Api api{control, tokens, {}};
    api::ServerSetting setting;
    setting.listen = "127.0.0.1:0";
    auto server = std::move(*api::Server::start(api, control, setting));
    std::string token;
    std::ifstream{folder.path() + "/token"} >> token;
    std::cout << server->port() << ' ' << token << std::endl;
    int handed_in = 0;
    for (std::string line; std::getline(std::cin, line);) {
        const auto name = fmt::format("late{}", handed_in++);
        submit(control, name, 8, 1);
        std::cout << name << ' ' << now_ms() << std::endl;
    }
}
