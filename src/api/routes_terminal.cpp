#include <fmt/format.h>

#include "api/job_rows.hpp"
#include "api/references.hpp"
#include "api/routes.hpp"

/// What people type at terminals; what comes of it is output, as any.
namespace stargate::api {

namespace {
constexpr std::size_t most_typed = 16U << 10;  // bytes at once
constexpr std::int64_t largest_window = 10'000;
}  // namespace

/// The attempt whose terminal the request speaks of, or the refusal.
tl::expected<AttemptId, Reply> Api::terminal_of(const Request& request) {
    const auto& reference = request.target.path[3];
    Named named;
    std::optional<JobId> id;
    bool may_type = false;
    AttemptId attempt;
    control_.read([&](const State& state, Instant, std::uint64_t) {
        const Sight sight{request.caller, state};
        named = jobs_of(sight, reference);
        id = one_of(state, named.jobs);
        if (!id) return;
        const auto& job = state.at<Job>(*id);
        // Closer than to look on: an operator who is not root does not act as somebody else.
        may_type = request.caller.uid == 0 || request.caller.uid == state.spec_of(job).owner;
        if (const auto* active = std::get_if<Active>(&job.phase)) attempt = active->attempt;
    });
    if (!named.rivals.empty()) return tl::unexpected(ambiguous(reference, named.rivals));
    if (!id) return tl::unexpected(no_job(reference));
    if (!may_type) return tl::unexpected(forbidden("this terminal is its job's owner's"));
    if (!attempt) {
        return tl::unexpected(error_reply(409, "wrong_state", fmt::format("{} does not run", reference),
                                          "look at it: stargate show " + reference));
    }
    const auto launch = control_.launch_of(*id);
    if (!launch || !launch->terminal) {
        return tl::unexpected(error_reply(409, "no_terminal", fmt::format("{} has no terminal", reference),
                                          "one has what was started with: stargate shell"));
    }
    return attempt;
}

Response Api::type(const Request& request) {
    if (request.body.size() > most_typed) {
        return error_reply(413, "too_large", "more than 16 KiB were typed at once", "send it in pieces");
    }
    const auto attempt = terminal_of(request);
    if (!attempt) return attempt.error();
    if (!control_.type(*attempt, request.body)) {
        auto reply = error_reply(429, "too_much_typed", "nobody reads at that terminal what was typed before",
                                 "send it again in a moment");
        reply.retry_after_s = 1;
        return reply;
    }
    return Reply{200, "{\"ok\":true}\n"};
}

Response Api::set_window(const Request& request) {
    const auto body = parse_body(request.body);
    if (!body) return bad_body(body.error());
    for (const auto* name : {"rows", "columns"}) {
        const auto& value = (*body)[name];
        if (value.kind == Json::Kind::number && value.whole >= 1 && value.whole <= largest_window) continue;
        return malformed(
            fmt::format("{}: no number from 1 to {}; give {{\"rows\": 24, \"columns\": 80}}", name, largest_window));
    }
    const auto attempt = terminal_of(request);
    if (!attempt) return attempt.error();
    control_.set_window(*attempt, static_cast<std::uint16_t>((*body)["rows"].whole),
                        static_cast<std::uint16_t>((*body)["columns"].whole));
    return Reply{200, "{\"ok\":true}\n"};
}

}  // namespace stargate::api
