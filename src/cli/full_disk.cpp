#include "cli/full_disk.hpp"

#include <fmt/format.h>

#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <mutex>

#include "api/json.hpp"
#include "base/print_error.hpp"
#include "cli/client.hpp"

namespace stargate::cli {

namespace {
constexpr std::chrono::milliseconds before_first_look{500};  // most verbs are done by then
constexpr std::chrono::seconds between_looks{10};
constexpr std::chrono::seconds patience{2};  // with one look: the verb does not end before it
}  // namespace

SayWhenFull::SayWhenFull(std::string state)
    : thread_{[state = std::move(state)](const std::stop_token& stop) { look(stop, state); }} {}

void SayWhenFull::look(const std::stop_token& stop, const std::string& state) {
    std::mutex mutex;
    std::condition_variable_any stopped;
    std::unique_lock lock{mutex};
    bool said = false;
    std::chrono::milliseconds pause = before_first_look;
    while (!stopped.wait_for(lock, stop, pause, [&] { return stop.stop_requested(); })) {
        pause = between_looks;
        const auto reply = Client{state, patience}.call("GET", "/api/v1/info");
        if (!reply || reply->status != 200) continue;
        const auto full = api::parse_json(reply->body).value_or(api::Json{})["read_only"].text;
        if (!full.empty() && !said) print_error("stargate: {}\n", full);
        said = !full.empty();
    }
}

}  // namespace stargate::cli
