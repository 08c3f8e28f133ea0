#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <future>
#include <memory>
#include <string_view>

#include "api/fake_control.hpp"
#include "api/json.hpp"
#include "api/routes.hpp"
#include "base/scratch_folder.hpp"

namespace {

using namespace stargate;

/// An API on a control plane in memory, made anew now and then so that it stays small.
struct World {
    api::FakeControl control;
    api::Tokens tokens;
    api::Api api;

    explicit World(const std::string& folder)
        : tokens{std::move(*api::Tokens::open(folder))}, api{control, tokens, setting()} {
        control.runs_at_once = true;
    }
    /// Submits of root come through too: they run as somebody else.
    static api::ApiSetting setting() {
        api::ApiSetting setting;
        Account account;
        account.uid = account.gid = 65'534;
        account.name = "nobody";
        account.home = "/";
        setting.job_user = account;
        return setting;
    }
};

void check(const api::Response& response) {
    if (const auto* reply = std::get_if<api::Reply>(&response)) {
        if (reply->status < 200 || reply->status > 599 || reply->status == 500) std::abort();
        if (reply->type == "application/json" && !api::parse_json(reply->body)) std::abort();
        return;
    }
    std::string out;
    for (int i = 0; i < 100; ++i) {
        if (std::get<std::unique_ptr<api::Stream>>(response)->pull(out) != api::Stream::Pulled::more) break;
    }
}

}  // namespace

/// The first line is `METHOD TARGET`, the rest the body. Every request gets one answer, and its JSON is JSON.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static const ScratchFolder folder;
    static std::unique_ptr<World> world;
    static int requests = 0;
    if (requests++ % 256 == 0) world = std::make_unique<World>(folder.path());

    const std::string_view text{reinterpret_cast<const char*>(data), size};
    const auto line = text.substr(0, text.find('\n'));
    const auto space = line.find(' ');
    if (space == std::string_view::npos) return 0;
    const auto target = api::Target::parse(line.substr(space + 1));
    if (!target) return 0;
    api::Request request;
    request.method = line.substr(0, space);
    request.target = *target;
    request.body = text.substr(std::min(line.size() + 1, text.size()));
    request.caller = {geteuid(), true, true};  // whose submits are read to their end
    std::promise<void> answered;               // look-ups answer on a thread of their own; a second answer throws
    world->api.handle(request, [&](const api::Api::Outcome& outcome) {
        check(api::made(outcome));
        answered.set_value();
    });
    answered.get_future().wait();
    return 0;
}
