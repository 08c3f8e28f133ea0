#include "cli/run.hpp"

#include <fmt/format.h>
#include <pthread.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <map>
#include <thread>

#include "api/frame.hpp"
#include "base/digest.hpp"
#include "base/json_text.hpp"
#include "cli/client.hpp"

extern char** environ;

namespace stargate::cli {

using api::Frame;

namespace {

/// How long a control plane that went away is waited for. Its job goes on meanwhile.
constexpr std::chrono::seconds longest_absence{60};
constexpr std::chrono::milliseconds pause_between_tries{50};

/// The first job of the array, once it is accepted; 0 before.
std::atomic<std::uint64_t> accepted_job{0};
std::atomic<int> accepted_count{0};

bool write_all(int to, std::string_view bytes) {
    while (!bytes.empty()) {
        const auto written = ::write(to, bytes.data(), bytes.size());
        if (written < 0 && errno == EINTR) continue;
        if (written <= 0) return false;
        bytes.remove_prefix(static_cast<std::size_t>(written));
    }
    return true;
}

void cancel_all(const std::string& state) {
    Client client{state};
    const auto first = accepted_job.load();
    for (int task = 0; first != 0 && task < accepted_count.load(); ++task) {
        (void)client.call("POST", fmt::format("/api/v1/jobs/{}/cancel", first + static_cast<std::uint64_t>(task)));
    }
}

/// Ctrl-C cancels; a second one leaves the job to itself.
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
        cancel_all(state);
        sigwait(&signals, &signal);
        std::_Exit(128 + signal);
    }}.detach();
}

/// What has come of each element, enough to go on after a break.
class Follower {
public:
    explicit Follower(std::string state) : state_{std::move(state)} {}

    bool take(std::string_view piece) {
        pending_ += piece;
        std::string_view rest{pending_};
        bool broken = false;
        while (const auto frame = Frame::take(rest, broken)) handle(*frame);
        pending_.erase(0, pending_.size() - rest.size());
        return !broken;
    }
    void reconnect() { pending_.clear(); }
    [[nodiscard]] bool is_done() const { return accepted_count.load() > 0 && done_ == accepted_count.load(); }
    [[nodiscard]] int worst() const { return worst_; }
    /// `task:attempt:offset` or `task:done` of each element, as the server wants it.
    [[nodiscard]] std::string resume() const {
        std::string text;
        for (const auto& [task, place] : places_) {
            text += text.empty() ? "" : ",";
            text +=
                place.done ? fmt::format("{}:done", task) : fmt::format("{}:{}:{}", task, place.attempt, place.offset);
        }
        return text;
    }

private:
    struct Place {
        std::uint64_t attempt = 0;
        std::uint64_t offset = 0;
        bool done = false;
    };
    void handle(const Frame& frame) {
        switch (frame.kind) {
            case Frame::Kind::nothing:
                break;
            case Frame::Kind::output:
            case Frame::Kind::errors: {
                places_[frame.task].offset = frame.next_offset;
                const int to = frame.kind == Frame::Kind::output ? STDOUT_FILENO : STDERR_FILENO;
                if (!write_all(to, frame.bytes)) {  // whoever read it has gone: as a pipe would tell the command itself
                    cancel_all(state_);
                    std::_Exit(128 + SIGPIPE);
                }
                break;
            }
            case Frame::Kind::accepted: {
                const auto body = api::parse_json(frame.bytes);
                if (!body) break;
                accepted_count = static_cast<int>((*body)["count"].whole);
                const auto& id = body->find("id") != nullptr ? (*body)["id"] : (*body)["first"];
                accepted_job = static_cast<std::uint64_t>(id.whole);
                break;
            }
            case Frame::Kind::attempt:
                if (const auto body = api::parse_json(frame.bytes)) {
                    places_[frame.task] = {static_cast<std::uint64_t>((*body)["attempt"].whole), 0, false};
                }
                break;
            case Frame::Kind::finished:
                finish(frame);
                break;
        }
    }
    void finish(const Frame& frame) {
        const auto body = api::parse_json(frame.bytes);
        if (!body || places_[frame.task].done) return;
        places_[frame.task].done = true;
        ++done_;
        const auto& state = (*body)["state"].text;
        auto status = static_cast<int>((*body)["exit_status"].whole);
        if (state != "succeeded" && status == 0) status = 1;
        worst_ = std::max(worst_, status);
        // What the command itself said by its status needs no words of ours.
        const auto& detail = (*body)["detail"].text;
        const bool ordinary = state == "succeeded" || (state == "failed" && status < 126);
        if (!ordinary && !detail.empty()) std::fprintf(stderr, "stargate: job %s: %s\n", state.c_str(), detail.c_str());
    }

    std::string state_;
    std::string pending_;
    std::map<std::uint32_t, Place> places_;
    int done_ = 0;
    int worst_ = 0;
};

std::string new_key() {
    std::string key;
    for (const auto byte : random_bytes()) key += fmt::format("{:02x}", byte);
    return key;
}

std::string body_of(const RunOptions& options) {
    std::string body = "{\"argv\":";
    json_text(body, options.command);
    body += ",\"folder\":";
    json_string(body, std::filesystem::current_path().string());
    body += ",\"gpus\":";
    json_string(body, options.gpus);
    body += fmt::format(",\"count\":{}", options.count);
    for (const auto& [name, value] : options.more) {
        body += ",\"" + name + "\":";
        json_string(body, value);
    }
    return body + ",\"environment\":" + environment_json() + "}";
}

}  // namespace

std::string environment_json() {
    std::string out = "{";
    for (char** entry = environ; *entry != nullptr; ++entry) {
        const std::string_view text{*entry};
        const auto equals = text.find('=');
        if (equals == std::string_view::npos || equals == 0) continue;
        if (out.size() > 1) out.push_back(',');
        json_string(out, text.substr(0, equals));
        out.push_back(':');
        json_string(out, text.substr(equals + 1));
    }
    return out + "}";
}

int explain_failure(int status, const std::string& body) {
    const auto json = api::parse_json(body);
    const auto message = json ? (*json)["error"]["message"].text : std::string{};
    const auto remedy = json ? (*json)["error"]["remedy"].text : std::string{};
    if (message.empty()) {
        fmt::print(stderr, "stargate: the control plane answered {}\n", status);
    } else {
        fmt::print(stderr, "{}{}{}\n", message, remedy.empty() ? "" : "; ", remedy);
    }
    return status >= 500 || status == 429 ? 1 : 2;
}

int run(const RunOptions& options) {
    std::signal(SIGPIPE, SIG_IGN);
    cancel_on_interrupt(options.state);
    const auto body = body_of(options);
    const Client::Headers headers{{"Idempotency-Key", new_key()}};
    Client client{options.state};
    Follower follower{options.state};
    auto answered = std::chrono::steady_clock::now();
    while (!follower.is_done()) {
        auto target = std::string{"/api/v1/jobs?follow=1"};
        if (const auto resume = follower.resume(); !resume.empty()) target += "&resume=" + escaped(resume);
        const auto reply = client.stream("POST", target, body, headers, [&](std::string_view piece) {
            answered = std::chrono::steady_clock::now();
            return follower.take(piece) && !follower.is_done();
        });
        if (follower.is_done()) break;
        if (reply && reply->status >= 300 && reply->status != 503) return explain_failure(reply->status, reply->body);
        const bool never_accepted = accepted_job.load() == 0;
        if (std::chrono::steady_clock::now() - answered > longest_absence || (!reply && never_accepted)) {
            if (reply) return explain_failure(reply->status, reply->body);
            fmt::print(stderr, "stargate: {}\n", reply.error().detail);
            if (!never_accepted) {
                fmt::print(stderr, "stargate: job {} may still run; look with: stargate logs {}\n", accepted_job.load(),
                           accepted_job.load());
            }
            return 1;
        }
        follower.reconnect();
        std::this_thread::sleep_for(pause_between_tries);
    }
    return follower.worst();
}

}  // namespace stargate::cli
