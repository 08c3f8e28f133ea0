#include "cli/run.hpp"

#include <fmt/format.h>
#include <pthread.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <set>
#include <thread>

#include "base/digest.hpp"
#include "base/json_text.hpp"
#include "base/print_error.hpp"
#include "base/spelling.hpp"
#include "base/utf8.hpp"
#include "cli/client.hpp"
#include "cli/follow.hpp"
#include "cli/full_disk.hpp"

namespace stargate::cli {

using api::Frame;

namespace {

constexpr std::chrono::seconds noted_absence{5};  // a restart takes less

/// The first job of the array, once it is accepted; 0 before.
std::atomic<std::uint64_t> accepted_job{0};
std::atomic<int> accepted_count{0};

/// All at once: what one element leaves would start the next. False: the control plane did not answer.
bool cancel_all(const std::string& state) {
    const auto first = accepted_job.load();
    return first == 0 || Client{state}.call("POST", fmt::format("/api/v1/jobs/{}%5B%5D/cancel", first)).has_value();
}

/// For whoever leaves before the end of what was accepted.
void say_left_behind() {
    const auto first = accepted_job.load();
    if (first != 0) print_error("stargate: job {0} may still run; look with: stargate logs {0}\n", first);
}

/// Ctrl-C cancels, also where the control plane has to come back for it; a second one leaves the job to itself, also
/// where the control plane does not answer.
void cancel_on_interrupt(const std::string& state) {
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &signals, nullptr);
    std::thread{[state, signals] {
        int signal = 0;
        sigwait(&signals, &signal);
        if (accepted_job.load() == 0) std::_Exit(128 + signal);
        std::fprintf(stderr, "stargate: cancelling; press Ctrl-C again to leave at once\n");
        std::thread{[state] {
            while (!cancel_all(state)) std::this_thread::sleep_for(pause_between_tries);
        }}.detach();
        sigwait(&signals, &signal);
        say_left_behind();
        std::_Exit(128 + signal);
    }}.detach();
}

/// The worst exit status so far, as that of the whole run.
class Worst {
public:
    void add(const api::Json& end) {
        const auto& state = end["state"].text;
        auto status = static_cast<int>(end["exit_status"].whole);
        if (state != "succeeded" && status == 0) status = 1;
        status_ = std::max(status_, status);
        const auto& detail = end["detail"].text;
        // What the command itself said by its status needs no words of ours.
        const bool is_its_own = status < 126 && detail.ends_with(fmt::format(" ended with status {}", status));
        if (detail.empty() || is_its_own) return;
        const auto& said = detail == state ? state : state + ": " + detail;
        std::fprintf(stderr, "stargate: job %s\n", without_controls(said).c_str());
    }
    [[nodiscard]] int status() const { return status_; }

private:
    int status_ = 0;
};

bool all_ended(const Followed& followed) {
    return accepted_count.load() > 0 && followed.ended() == accepted_count.load();
}

std::string new_key() {
    std::string key;
    for (const auto byte : random_bytes()) key += fmt::format("{:02x}", byte);
    return key;
}

Result<std::string> body_of(const RunOptions& options) {
    const auto folder = callers_folder();
    if (!folder) return tl::unexpected(folder.error());
    const auto environment = environment_json();
    if (!environment) return tl::unexpected(environment.error());
    for (std::size_t i = 0; i < options.command.size(); ++i) {
        if (is_utf8(options.command[i])) continue;
        return fail(Fault::malformed,
                    fmt::format("word {} of the command is not UTF-8; let a shell find it by a pattern: run -- sh -c "
                                "'...'",
                                i + 1));
    }
    std::string body = "{\"argv\":";
    json_text(body, options.command);
    body += ",\"folder\":";
    json_string(body, *folder);
    body += ",\"gpus\":";
    json_string(body, options.gpus);
    body += fmt::format(",\"count\":{}", options.count);
    for (const auto& [name, value] : options.more) {
        body += ",\"" + name + "\":";
        json_string(body, value);
    }
    return body + ",\"environment\":" + *environment + "}";
}

}  // namespace

Result<std::string> callers_folder() {
    std::error_code failed;
    const auto folder = std::filesystem::current_path(failed).string();
    if (failed)
        return fail(Fault::malformed, "this folder cannot be named: " + failed.message() + "; run it from another");
    if (!is_utf8(folder)) {
        return fail(Fault::malformed,
                    fmt::format("this folder's name, {}, is not UTF-8; rename it, or run it from another",
                                without_controls(folder)));
    }
    return folder;
}

Result<std::string> environment_json() {
    std::string out = "{";
    std::set<std::string_view> names;  // an environment may hold one twice: programs find the first
    for (char** entry = environ; *entry != nullptr; ++entry) {
        const std::string_view text{*entry};
        const auto equals = text.find('=');
        if (equals == std::string_view::npos || equals == 0) continue;
        if (!is_utf8(text)) {
            const auto name = text.substr(0, equals);
            if (name == "PWD" || name == "OLDPWD") continue;  // where a shell stands: the folder is sent by itself
            return fail(Fault::malformed,
                        fmt::format("the environment variable {} is not UTF-8; unset it, or set it to UTF-8",
                                    is_utf8(name) ? name : "with a strange name"));
        }
        if (!names.insert(text.substr(0, equals)).second) continue;
        if (out.size() > 1) out.push_back(',');
        json_string(out, text.substr(0, equals));
        out.push_back(':');
        json_string(out, text.substr(equals + 1));
    }
    return out + "}";
}

Result<HttpReply> post_once(const std::string& state, const std::string& target, const std::string& body) {
    const Client::Headers headers{{"Idempotency-Key", new_key()}};
    const auto until = std::chrono::steady_clock::now() + longest_absence;
    bool may_be_in = false;
    while (true) {
        auto reply = Client{state}.call("POST", target, body, headers);
        if (reply && (reply->status != 503 || !may_be_in)) return reply;
        may_be_in = may_be_in || (!reply && reply.error().fault == Fault::unknown_outcome);
        if (!may_be_in) return reply;
        if (std::chrono::steady_clock::now() > until) {
            if (!reply) reply.error().detail += "; it may have been accepted: look with `stargate jobs`";
            return reply;
        }
        std::this_thread::sleep_for(pause_between_tries);
    }
}

int fail_with(const Error& error) {
    print_error("stargate: {}\n", error.detail);
    return error.fault == Fault::malformed ? 2 : 1;
}

int explain_failure(int status, const std::string& body, const std::string& file) {
    const auto json = api::parse_json(body);
    const auto message = json ? (*json)["error"]["message"].text : std::string{};
    const auto remedy = json ? (*json)["error"]["remedy"].text : std::string{};
    if (message.empty()) {
        print_error("stargate: the control plane answered {}\n", status);
    } else {
        const bool has_place = !file.empty() && message.starts_with(file + ":");
        print_error("{}{}{}{}\n", has_place ? "" : "stargate: ", message, remedy.empty() ? "" : "; ", remedy);
    }
    return status >= 500 || status == 429 ? 1 : 2;
}

int run(const RunOptions& options) {
    std::signal(SIGPIPE, SIG_IGN);
    const auto body = body_of(options);
    if (!body) return fail_with(body.error());
    cancel_on_interrupt(options.state);
    const SayWhenFull say_when_full{options.state};
    const Client::Headers headers{{"Idempotency-Key", new_key()}};
    Client client{options.state};
    Worst worst;
    Followed followed;
    followed.output = [&](const Frame& frame) {
        const int to = frame.kind == Frame::Kind::output ? STDOUT_FILENO : STDERR_FILENO;
        if (write_all(to, frame.bytes) || errno == EBADF) return;  // a stream that is closed or only read takes nothing
        if (errno != EPIPE)
            print_error("stargate: cancelled, because its output cannot be written: {}\n", std::strerror(errno));
        (void)cancel_all(options.state);  // whoever read it has gone: as a pipe would tell the command itself
        std::_Exit(128 + SIGPIPE);
    };
    followed.accepted = [](std::uint64_t first, int count) {
        accepted_count = count;
        accepted_job = first;
    };
    followed.finished = [&](std::uint32_t, const api::Json& end) { worst.add(end); };
    auto answered = std::chrono::steady_clock::now();
    bool may_be_in = false;
    bool says_waiting = false;
    while (!all_ended(followed)) {
        const auto take = [&](std::string_view piece) {
            answered = std::chrono::steady_clock::now();
            says_waiting = false;
            return followed.take(piece) && !all_ended(followed);
        };
        const auto first = accepted_job.load();
        std::string resume = "{\"resume\":";
        json_string(resume, followed.resume());
        const auto reply =
            first == 0 ? client.stream("POST", "/api/v1/jobs?follow=1", *body, headers, take)
                       : client.stream("POST", fmt::format("/api/v1/jobs/{}/follow", first), resume + "}", {}, take);
        if (all_ended(followed)) break;
        if (reply && reply->status >= 300 && reply->status != 503) return explain_failure(reply->status, reply->body);
        // Without an answer the job may be in all the same: its key finds it.
        may_be_in = may_be_in || reply || reply.error().fault == Fault::unknown_outcome;
        const bool never_accepted = accepted_job.load() == 0;
        const auto absence = std::chrono::steady_clock::now() - answered;
        if (!never_accepted && absence > noted_absence && !std::exchange(says_waiting, true)) {
            print_error("stargate: no control plane answers; job {} goes on, and this waits to hear of it\n",
                        accepted_job.load());
        }
        if (absence > longest_absence || (never_accepted && !may_be_in)) {
            if (reply) return explain_failure(reply->status, reply->body);
            const int status = fail_with(reply.error());
            say_left_behind();
            return status;
        }
        followed.reconnect();
        std::this_thread::sleep_for(pause_between_tries);
    }
    return worst.status();
}

}  // namespace stargate::cli
