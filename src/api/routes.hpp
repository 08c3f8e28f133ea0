#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>

#include "api/control.hpp"
#include "api/http.hpp"
#include "api/tokens.hpp"

namespace stargate::api {

struct ApiSetting {
    std::optional<Account> job_user;      // what root's own jobs run as
    bool anyone_without_sandbox = false;  // operators may always ask for `sandbox: none`
    std::string version = "unknown";
};

/// What the server counts for /metrics.
struct HttpFigures {
    std::map<int, std::uint64_t> replies;  // by status
    std::int64_t connections = 0;          // open now
    std::uint64_t turned_away = 0;         // over the limit of connections
};

/// What each route does. Lives on the server's one thread; only what it hands to Finish comes from others.
class Api {
public:
    /// Called once for each request, from any thread. The server calls `outcome` on its own thread and sends it.
    using Finish = std::function<void(std::function<Response()> outcome)>;

    Api(Control& control, Tokens& tokens, ApiSetting setting)
        : control_{control}, tokens_{tokens}, setting_{std::move(setting)} {}

    void handle(const Request& request, const Finish& finish);

    [[nodiscard]] const Tokens& tokens() const { return tokens_; }
    [[nodiscard]] HttpFigures& figures() { return figures_; }

private:
    using Reading = Response (Api::*)(const Request&);
    Response jobs(const Request& request);
    Response job(const Request& request);
    Response why(const Request& request);
    Response logs(const Request& request);
    Response fleet(const Request& request);
    Response tenants(const Request& request);
    Response events(const Request& request);
    Response event_types(const Request& request);
    Response whoami(const Request& request);
    Response info(const Request& request);
    Response metrics(const Request& request);
    Response make_token(const Request& request);
    Response shut_down(const Request& request);

    void submit(const Request& request, const Finish& finish);
    void act_on_jobs(const Request& request, const Finish& finish);
    void drain(const Request& request, const Finish& finish);
    void set_tenant(const Request& request, const Finish& finish);

    [[nodiscard]] Result<Account> account_for(const Caller& caller);

    Control& control_;
    Tokens& tokens_;
    ApiSetting setting_;
    HttpFigures figures_;
    struct KnownAccount {
        Account account;
        std::chrono::steady_clock::time_point until;
    };
    std::map<std::uint32_t, KnownAccount> accounts_;  // the account database may be a network away
};

/// Whether this caller may know of this tenant's work. As yet everybody on the machine belongs to `default`, which has
/// the whole machine, so everybody sees all of it.
[[nodiscard]] bool may_see(const Caller& caller, const State& state, TenantId tenant);
/// Whether this caller may change what happens to work of this owner.
[[nodiscard]] bool may_act(const Caller& caller, std::uint32_t owner);

/// Appends the metrics of a State in Prometheus' text format.
void append_metrics(std::string& out, const State& state);

}  // namespace stargate::api
