#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "api/control.hpp"
#include "api/endpoints.hpp"
#include "api/gateway_keys.hpp"
#include "api/http.hpp"
#include "api/jobfile.hpp"
#include "api/json.hpp"
#include "api/lookups.hpp"
#include "api/query.hpp"
#include "api/sight.hpp"
#include "api/tokens.hpp"
#include "base/digest.hpp"

namespace stargate::api {

/// What a tenant has used of a service, ever.
struct UsageRow {
    std::string tenant;
    std::string service;
    std::uint64_t requests = 0;
    std::uint64_t prompt_tokens = 0;
    std::uint64_t completion_tokens = 0;
    std::uint64_t interrupted = 0;  // requests among these whose end no replica told
    std::uint64_t in_flight = 0;    // now
    std::uint64_t lost = 0;         // were under way when a gateway died: counted nowhere else
};

struct ApiSetting {
    std::optional<Account> job_user;      // what root's own jobs run as
    bool anyone_without_sandbox = false;  // operators may always ask for `sandbox: none`
    std::string version = "unknown";
    std::string state;                                          // the state folder, which no job may mount
    GatewayKeys* gateway_keys = nullptr;                        // outlives the API; null: there is no gateway
    std::function<Result<std::vector<UsageRow>>()> read_usage;  // ordered by tenant and service; empty: none
    LookAtEndpoints look_at_endpoints;                          // from any thread; empty: nothing is known
    std::function<ServiceDemand(JobId)> look_at_demand;         // the same
};

/// What the server counts for /metrics.
struct HttpFigures {
    std::map<int, std::uint64_t> replies;  // by status
    std::int64_t connections = 0;          // open now
    std::uint64_t turned_away = 0;         // over the limit of connections
};

/// What each route does. Asked on the server's one thread; what may hang, and answers that come later, use others.
class Api {
public:
    /// What a request came to: a reply that is ready, which goes out from whichever thread brings it, or how the
    /// server's own thread makes one.
    using Outcome = std::variant<Reply, std::function<Response()>>;
    /// Called once for each request, from any thread.
    using Finish = std::function<void(Outcome)>;

    Api(Control& control, Tokens& tokens, ApiSetting setting)
        : control_{control}, tokens_{tokens}, setting_{std::move(setting)} {}

    void handle(const Request& request, const Finish& finish);

    /// `GET` `/api/v1/jobs/*`: `*` is any segment, `**` any that follow too.
    struct RouteSight {
        std::string method, path;
        std::vector<Parameter> takes;
    };
    [[nodiscard]] static std::vector<RouteSight> all_routes();

    [[nodiscard]] const Tokens& tokens() const { return tokens_; }
    [[nodiscard]] HttpFigures& figures() { return figures_; }

private:
    struct Route;  // dispatch.cpp
    using Reading = Response (Api::*)(const Request&);
    using Acting = void (Api::*)(const Request&, const Finish&);  // answers later
    static const std::vector<Route>& routes();

    Response jobs(const Request& request);
    Response job(const Request& request);
    Response why(const Request& request);
    Response logs(const Request& request);
    Response fleet(const Request& request);
    Response tenants(const Request& request);
    Response services(const Request& request);
    Response usage(const Request& request);
    Response history(const Request& request);
    Response usage_of_jobs(const Request& request);
    Response events(const Request& request);
    Response event_types(const Request& request);
    Response info(const Request& request);
    Response metrics(const Request& request);
    Response openapi(const Request& request);
    Response follow(const Request& request);
    Response make_token(const Request& request);
    Response make_gateway_key(const Json& body, const std::string& name);
    Response list_tokens(const Request& request);
    Response revoke_token(const Request& request);
    Response shut_down(const Request& request);
    Response type(const Request& request);
    Response set_window(const Request& request);
    [[nodiscard]] tl::expected<AttemptId, Reply> terminal_of(const Request& request);

    void whoami(const Request& request, const Finish& finish);
    void act_on_jobs(const Request& request, const Finish& finish);
    void edit(const Request& request, const Finish& finish);
    void drain(const Request& request, const Finish& finish);
    void set_tenant(const Request& request, const Finish& finish);

    // A submit, step by step (submission.cpp).
    struct Submission;
    using Pending = std::shared_ptr<Submission>;
    void submit(const Request& request, const Finish& finish);
    void read_job(const Pending& pending, const Account& account);
    void check_start(const Pending& pending);
    void hand_in(const Pending& pending);
    void refuse(const Pending& pending, Reply reply);
    [[nodiscard]] Response answered(const Pending& pending, const Answer& answer);
    /// Goes on with the account that the caller's jobs run as, at once where it is known.
    void with_account(const Caller& caller, const Finish& finish,
                      const std::function<void(const Result<Account>&)>& then);

    Control& control_;
    Tokens& tokens_;
    ApiSetting setting_;
    HttpFigures figures_;
    /// What a look-up found, for as long as it is believed.
    template <class Value>
    struct Known {
        Value value;
        std::chrono::steady_clock::time_point until;
    };
    std::mutex known_mutex_;
    std::map<std::uint32_t, Known<Account>> accounts_;
    std::map<Digest, Known<bool>>
        startable_;    // by the digest of what was found to be there and executable a moment ago
    Lookups lookups_;  // the last member: it goes first
};

constexpr std::uint64_t default_rows = 1'000;     // of a listing
constexpr std::uint64_t most_job_rows = 100'000;  // some 50 MB of JSON: more than any table, less than memory

// What the routes answer alike.
[[nodiscard]] Reply no_job(std::string_view reference);
[[nodiscard]] Reply forbidden(std::string_view what);      // to who is neither its owner nor an operator
[[nodiscard]] Reply for_operators(std::string_view what);  // `tokens are made`
[[nodiscard]] Reply malformed(std::string_view detail);    // `what; remedy`
[[nodiscard]] Reply bad_body(const Error& error);          // of parse_body() and who reads on from there
[[nodiscard]] Reply ambiguous(std::string_view reference, const std::vector<JobId>& rivals);
[[nodiscard]] Reply took_too_long();
/// Makes it where it is not ready.
[[nodiscard]] Response made(const Api::Outcome& outcome);
/// A failure of the control plane itself.
[[nodiscard]] Reply failure_reply(const Error& error);

/// Appends the metrics of a State in Prometheus' text format.
void append_metrics(std::string& out, const State& state);

}  // namespace stargate::api
