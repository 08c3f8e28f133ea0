#include <algorithm>
#include <limits>

#include "api/job_rows.hpp"
#include "api/query.hpp"
#include "api/routes.hpp"
#include "api/served_files.hpp"

/// Which route answers which request, and what it takes in its query.
namespace stargate::api {

/// A segment `*` of its path is any one, `**` as the last one any that follow.
struct Api::Route {
    std::string_view method;
    std::vector<std::string_view> path;
    std::variant<Reading, Acting> does;
    std::vector<Parameter> takes{};

    [[nodiscard]] bool fits(const Request& request) const {
        const auto& asked = request.target.path;
        const bool is_open = !path.empty() && path.back() == "**";
        if (request.method != method || (is_open ? asked.size() < path.size() : asked.size() != path.size()))
            return false;
        return std::equal(path.begin(), path.end(), asked.begin(),
                          [](std::string_view own, const std::string& segment) {
                              return own == segment || own == "*" || own == "**";
                          });
    }
};

namespace {
constexpr std::uint64_t most_instant = std::numeric_limits<std::int64_t>::max();
constexpr std::uint64_t most_uid = std::numeric_limits<std::uint32_t>::max();

std::vector<Parameter> with_limit(std::vector<Parameter> taken) {
    taken.push_back(whole_in("limit", 1, most_job_rows));
    return taken;
}
}  // namespace

const std::vector<Api::Route>& Api::routes() {
    constexpr std::uint64_t most_gpus = 10'000'000;
    static const std::vector<Parameter> of_history{whole_in("since", 0, most_instant),
                                                   whole_in("until", 0, most_instant), whole_in("owner", 0, most_uid),
                                                   text_in("tenant")};
    static const std::vector<Route> all{
        {"GET", {"metrics"}, &Api::metrics},
        {"GET", {"openapi.json"}, &Api::openapi},
        {"GET",
         {"api", "v1", "jobs"},
         &Api::jobs,
         {whole_in("limit", 1, most_job_rows), flag_in("active"), flag_in("mine"), text_in("name"),
          word_in<JobState>("state")}},
        {"POST", {"api", "v1", "jobs"}, &Api::submit, {flag_in("follow")}},
        {"GET", {"api", "v1", "jobs", "*"}, &Api::job},
        {"PATCH", {"api", "v1", "jobs", "*"}, &Api::edit},
        {"GET", {"api", "v1", "jobs", "*", "why"}, &Api::why},
        {"GET",
         {"api", "v1", "jobs", "*", "logs"},
         &Api::logs,
         {flag_in("follow"), flag_in("frames"), whole_in("attempt", 1), text_in("resume"), flag_in("typed")}},
        {"POST", {"api", "v1", "jobs", "*", "follow"}, &Api::follow},
        {"POST", {"api", "v1", "jobs", "*", "cancel"}, &Api::act_on_jobs},
        {"POST", {"api", "v1", "jobs", "*", "hold"}, &Api::act_on_jobs},
        {"POST", {"api", "v1", "jobs", "*", "release"}, &Api::act_on_jobs},
        {"POST", {"api", "v1", "jobs", "*", "resize"}, &Api::act_on_jobs, {whole_in("gpus", 0, most_gpus)}},
        {"POST", {"api", "v1", "jobs", "*", "input"}, &Api::type},
        {"POST", {"api", "v1", "jobs", "*", "window"}, &Api::set_window},
        {"GET", {"api", "v1", "fleet"}, &Api::fleet},
        {"POST", {"api", "v1", "fleet", "*", "drain"}, &Api::drain},
        {"POST", {"api", "v1", "fleet", "*", "undrain"}, &Api::drain},
        {"GET", {"api", "v1", "tenants"}, &Api::tenants},
        {"PUT", {"api", "v1", "tenants", "**"}, &Api::set_tenant},
        {"GET", {"api", "v1", "services"}, &Api::services},
        {"GET", {"api", "v1", "usage"}, &Api::usage},
        {"GET", {"api", "v1", "history"}, &Api::history, with_limit(of_history)},
        {"GET", {"api", "v1", "history", "usage"}, &Api::usage_of_jobs, of_history},
        {"GET",
         {"api", "v1", "events"},
         &Api::events,
         {whole_in("from", 0), whole_in("limit", 1), flag_in("follow"), word_in("format", {"jsonl"})}},
        {"GET", {"api", "v1", "events", "types"}, &Api::event_types},
        {"GET", {"api", "v1", "whoami"}, &Api::whoami},
        {"GET", {"api", "v1", "info"}, &Api::info},
        {"POST", {"api", "v1", "tokens"}, &Api::make_token},
        {"GET", {"api", "v1", "tokens"}, &Api::list_tokens},
        {"DELETE", {"api", "v1", "tokens", "*"}, &Api::revoke_token},
        {"POST", {"api", "v1", "shutdown"}, &Api::shut_down},
    };
    return all;
}

std::vector<Api::RouteSight> Api::all_routes() {
    std::vector<RouteSight> all;
    for (const auto& route : routes()) {
        std::string path;
        for (const auto segment : route.path) path.append("/").append(segment);
        all.push_back({std::string{route.method}, std::move(path), route.takes});
    }
    return all;
}

Response Api::openapi(const Request&) { return Reply{200, std::string{openapi_text}}; }

void Api::handle(const Request& request, const Finish& finish) {
    const auto route =
        std::find_if(routes().begin(), routes().end(), [&](const Route& each) { return each.fits(request); });
    if (route == routes().end()) {
        return finish(error_reply(404, "not_found", "there is no such route", "docs/api.md lists them all"));
    }
    if (auto wrong = check_query(request.target, route->takes)) return finish(std::move(*wrong));
    if (const auto* acting = std::get_if<Acting>(&route->does)) return (this->**acting)(request, finish);
    const auto reading = std::get<Reading>(route->does);
    finish([outcome = std::make_shared<Response>((this->*reading)(request))] { return std::move(*outcome); });
}

}  // namespace stargate::api
