#include "cli/full_disk.hpp"

#include <fmt/format.h>

#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <mutex>

#include "api/json.hpp"
#include "cli/client.hpp"

namespace stargate::cli {

namespace {
constexpr std::chrono::seconds between_looks{2};  // also before the first: most verbs are done by then
}

SayWhenFull::SayWhenFull(std::string state)
    : thread_{[state = std::move(state)](const std::stop_token& stop) { look(stop, state); }} {}

void SayWhenFull::look(const std::stop_token& stop, const std::string& state) {
    std::mutex mutex;
    std::condition_variable_any stopped;
    std::unique_lock lock{mutex};
    bool said = false;
    while (!stopped.wait_for(lock, stop, between_looks, [&] { return stop.stop_requested(); })) {
        const auto reply = Client{state}.call("GET", "/api/v1/info");
        if (!reply || reply->status != 200) continue;
        const auto full = api::parse_json(reply->body).value_or(api::Json{})["read_only"].text;
        if (!full.empty() && !said) fmt::print(stderr, "stargate: {}\n", full);
        said = !full.empty();
    }
}

}  // namespace stargate::cli
