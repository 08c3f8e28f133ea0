#include <benchmark/benchmark.h>
#include <sys/socket.h>

#include <cstdlib>
#include <string>

#include "api/fake_control.hpp"
#include "api/server.hpp"
#include "base/scratch_folder.hpp"
#include "net/unix_socket.hpp"

/// What the API itself costs: a control plane in memory behind the real server, one client on the unix socket.
namespace {

using namespace stargate;

class World {
public:
    World() : tokens_{std::move(*api::Tokens::open(folder_.path()))}, api_{control_, tokens_, setting()} {
        api::ServerSetting server;
        server.socket = folder_.path() + "/stargate.sock";
        server_ = std::move(*api::Server::start(api_, control_, server));
        socket_ = std::move(*net::connect_to(server.socket));
    }
    /// Sends a request and reads its reply; returns its length.
    std::size_t ask(const std::string& request) {
        (void)!::send(socket_.get(), request.data(), request.size(), MSG_NOSIGNAL);
        std::size_t whole = 0;
        std::size_t got = 0;
        while (whole == 0 || got < whole) {
            const auto more = recv(socket_.get(), buffer_.data() + got, buffer_.size() - got, 0);
            if (more <= 0) std::abort();
            got += static_cast<std::size_t>(more);
            const std::string_view text{buffer_.data(), got};
            const auto end = text.find("\r\n\r\n");
            if (whole == 0 && end != std::string_view::npos) {
                whole = end + 4 + std::strtoul(text.data() + text.find("Content-Length: ") + 16, nullptr, 10);
            }
        }
        return got;
    }
    static std::string request(const std::string& method, const std::string& target, const std::string& body = {}) {
        return method + " " + target +
               " HTTP/1.1\r\nHost: localhost\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
    }
    api::FakeControl& control() { return control_; }

private:
    static api::ApiSetting setting() {
        api::ApiSetting setting;
        Account account;
        account.uid = account.gid = 65'534;
        account.name = "nobody";
        setting.job_user = account;
        return setting;
    }
    ScratchFolder folder_;
    api::FakeControl control_;
    api::Tokens tokens_;
    api::Api api_;
    std::unique_ptr<api::Server> server_;
    FileDescriptor socket_;
    std::string buffer_ = std::string(8U << 20, '\0');
};

const std::string job_file =
    R"({"yaml":"kind: batch\nname: job\ncount: 1\nheld: true\nrun: 'true'\n","file":"j.yaml","folder":"/"})";

void whoami(benchmark::State& bench) {  // what does one request cost at least?
    World world;
    const auto request = World::request("GET", "/api/v1/whoami");
    for (auto _ : bench) benchmark::DoNotOptimize(world.ask(request));
}
BENCHMARK(whoami)->Unit(benchmark::kMicrosecond)->UseRealTime();

void submit_one_job_file(benchmark::State& bench) {  // and a submit, beyond its fsync?
    World world;
    const auto request = World::request("POST", "/api/v1/jobs", job_file);
    for (auto _ : bench) benchmark::DoNotOptimize(world.ask(request));
}
BENCHMARK(submit_one_job_file)->Unit(benchmark::kMicrosecond)->UseRealTime()->Iterations(5'000);

void list_a_thousand_of(benchmark::State& bench) {  // how long does a listing take with so many jobs waiting?
    World world;
    const auto array =
        World::request("POST", "/api/v1/jobs", R"({"argv":["true"],"folder":"/","name":"many","gpus":4,"count":1000})");
    for (std::int64_t jobs = 0; jobs < bench.range(0); jobs += 1'000) world.ask(array);
    const auto request = World::request("GET", "/api/v1/jobs?limit=1000");
    std::size_t bytes = 0;
    for (auto _ : bench) bytes = world.ask(request);
    bench.counters["bytes"] = static_cast<double>(bytes);
}
BENCHMARK(list_a_thousand_of)->Arg(1'000)->Arg(100'000)->Unit(benchmark::kMillisecond)->UseRealTime();

}  // namespace

BENCHMARK_MAIN();
