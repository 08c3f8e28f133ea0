#include "cli/shell.hpp"

#include <fmt/format.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <csignal>
#include <cstdlib>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

#include "api/json.hpp"
#include "base/json_text.hpp"
#include "base/print_error.hpp"
#include "base/spelling.hpp"
#include "cli/client.hpp"
#include "cli/follow.hpp"
#include "cli/run.hpp"

namespace stargate::cli {

using api::Frame;

namespace {

constexpr std::size_t shown_of_the_past = 8U << 10;  // bytes, to who takes it up again

std::atomic<int> was_interrupted = 0;
std::atomic<bool> window_has_changed = true;

/// As long as it lives, each key goes to the job as it is typed, Ctrl-C too.
class RawTerminal {
public:
    RawTerminal() {
        if (::tcgetattr(STDIN_FILENO, &before_) != 0) return;
        auto raw = before_;
        ::cfmakeraw(&raw);
        is_set_ = ::tcsetattr(STDIN_FILENO, TCSADRAIN, &raw) == 0;
    }
    RawTerminal(const RawTerminal&) = delete;
    RawTerminal& operator=(const RawTerminal&) = delete;
    ~RawTerminal() { restore(); }
    void restore() {
        if (std::exchange(is_set_, false)) ::tcsetattr(STDIN_FILENO, TCSADRAIN, &before_);
    }

private:
    termios before_{};
    bool is_set_ = false;
};

/// Finds `~.` at the beginning of a line, as ssh has it, in what is typed.
class Escape {
public:
    /// What of `typed` goes on to the job; nothing: leave.
    std::optional<std::string> pass(std::string_view typed) {
        std::string on;
        for (const char key : typed) {
            if (has_tilde_ && key == '.') return std::nullopt;
            if (std::exchange(has_tilde_, false) && key != '~') on += '~';
            if (at_begin_ && key == '~') {
                has_tilde_ = true;
                at_begin_ = false;
                continue;
            }
            at_begin_ = key == '\r' || key == '\n';
            on += key;
        }
        return on;
    }

private:
    bool at_begin_ = true;
    bool has_tilde_ = false;
};

/// What is typed, on its way: whoever reads the keys never waits for the control plane.
class Typed {
public:
    /// False: so much waits that this is dropped.
    bool add(std::string_view keys) {
        const std::lock_guard lock{mutex_};
        if (waiting_.size() + keys.size() > most) return false;
        waiting_ += keys;
        came_.notify_one();
        return true;
    }
    void window_changed() {
        const std::lock_guard lock{mutex_};
        window_ = true;
        came_.notify_one();
    }
    struct Next {
        std::string keys;
        bool window = false;
    };
    /// Waits until there is something.
    Next next() {
        std::unique_lock lock{mutex_};
        came_.wait(lock, [this] { return window_ || !waiting_.empty(); });
        Next next{waiting_.substr(0, at_once), std::exchange(window_, false)};
        waiting_.erase(0, next.keys.size());
        return next;
    }
    [[nodiscard]] bool is_empty() {
        const std::lock_guard lock{mutex_};
        return waiting_.empty();
    }

private:
    static constexpr std::size_t most = 1U << 20;
    static constexpr std::size_t at_once = 8U << 10;
    std::mutex mutex_;
    std::condition_variable came_;
    std::string waiting_;
    bool window_ = true;  // tell it once
};

class Session {
public:
    Session(std::string state, std::uint64_t job)
        : state_{std::move(state)}, path_{fmt::format("/api/v1/jobs/{}", job)}, job_{job} {
        followed_.output = [this](const Frame& frame) { show(frame.bytes); };
        followed_.finished = [this](std::uint32_t, const api::Json& end) {
            status_ = static_cast<int>(end["exit_status"].whole);
            detail_ = end["state"].text == "succeeded" ? "" : end["detail"].text;
        };
    }

    /// What it printed last; what comes after that follows.
    Result<void> show_the_past() {
        std::string last;
        Followed past;
        past.output = [&](const Frame& frame) {
            last += frame.bytes;
            if (last.size() > 2 * shown_of_the_past) last.erase(0, last.size() - shown_of_the_past);
        };
        const auto reply = Client{state_}.stream("GET", path_ + "/logs?frames=1", {}, {},
                                                 [&](std::string_view piece) { return past.take(piece); });
        if (!reply) return tl::unexpected(reply.error());
        resume_ = past.resume();
        show(std::string_view{last}.substr(last.size() - std::min(last.size(), shown_of_the_past)));
        return {};
    }

    /// Until it has ended, or the control plane stays away.
    int follow() {
        auto answered = std::chrono::steady_clock::now();
        while (!status_) {
            auto resume = followed_.resume();
            if (resume.empty()) resume = resume_;
            const auto target =
                path_ + "/logs?follow=1&frames=1&typed=1" + (resume.empty() ? "" : "&resume=" + escaped(resume));
            (void)Client{state_}.stream("GET", target, {}, {}, [&](std::string_view piece) {
                answered = std::chrono::steady_clock::now();
                return followed_.take(piece) && !status_;
            });
            if (status_) break;
            if (std::chrono::steady_clock::now() - answered > longest_absence) {
                detail_ = fmt::format("no control plane answers; job {0} goes on: stargate shell --attach {0}", job_);
                return 1;
            }
            followed_.reconnect();
            std::this_thread::sleep_for(pause_between_tries);
        }
        return *status_;
    }

    /// Reads keys until the caller leaves (true), or there are no more (false).
    bool read_keys() {
        Escape escape;
        const bool is_person = ::isatty(STDIN_FILENO) != 0;
        char last = '\n';
        char keys[4096];
        while (true) {
            if (window_has_changed.exchange(false)) typed_.window_changed();
            const auto got = ::read(STDIN_FILENO, keys, sizeof keys);
            if (got < 0 && errno == EINTR) continue;
            if (got < 0 || (got == 0 && is_hung_up())) return false;
            if (got ==
                0) {  // the end of a file, or Ctrl-D before the terminal was ours: as a key, which ends a line first
                add(last == '\n' || last == '\r' ? "\x04" : "\n\x04", true);
                if (!is_person) return false;
                continue;
            }
            const std::string_view read{keys, static_cast<std::size_t>(got)};
            last = read.back();
            const auto on = is_person ? escape.pass(read) : std::string{read};
            if (!on) return true;
            add(*on, !is_person);
        }
    }

    /// Passes on what was read, for ever. What a control plane may have taken before it went away is not typed twice.
    [[noreturn]] void pass_on() {
        while (true) {
            const auto next = typed_.next();
            if (next.window) tell_window();
            while (!next.keys.empty()) {
                const auto reply = Client{state_}.call("POST", path_ + "/input", next.keys);
                const bool may_be_typed = reply ? reply->status != 429 && reply->status != 503
                                                : reply.error().fault == Fault::unknown_outcome;
                if (may_be_typed) break;  // or it has no terminal now, as one that waits to start anew
                std::this_thread::sleep_for(pause_between_tries);
            }
        }
    }

    [[nodiscard]] const std::string& detail() const { return detail_; }

private:
    void tell_window() {
        winsize size{};
        if (::ioctl(STDIN_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_row == 0 || size.ws_col == 0) return;
        (void)Client{state_}.call("POST", path_ + "/window",
                                  fmt::format(R"({{"rows":{},"columns":{}}})", size.ws_row, size.ws_col));
    }
    /// A person hears that a key was lost; a file waits.
    void add(const std::string& keys, bool waits) {
        while (!typed_.add(keys)) {
            if (!waits) return show("\a");
            std::this_thread::sleep_for(pause_between_tries);
        }
    }
    static bool is_hung_up() {
        pollfd input{STDIN_FILENO, POLLIN, 0};
        return ::isatty(STDIN_FILENO) != 0 && ::poll(&input, 1, 0) > 0 && (input.revents & POLLHUP) != 0;
    }
    static void show(std::string_view bytes) { (void)write_all(STDOUT_FILENO, bytes); }

    std::string state_;
    std::string path_;
    std::uint64_t job_;
    Typed typed_;
    std::string resume_;
    Followed followed_;
    std::optional<int> status_;
    std::string detail_;
};

void on_signal(int number, void (*does)(int)) {
    struct sigaction action {};
    action.sa_handler = does;  // without SA_RESTART: a read is interrupted
    ::sigaction(number, &action, nullptr);
}

Result<std::string> body_of(const ShellOptions& options) {
    const auto folder = callers_folder();
    if (!folder) return tl::unexpected(folder.error());
    const auto environment = environment_json();
    if (!environment) return tl::unexpected(environment.error());
    const std::vector<std::string> account_shell{"/bin/sh", "-c", "exec \"${SHELL:-/bin/sh}\" -i"};
    const char* kind = std::getenv("TERM");
    std::string body = "{\"terminal\":true,\"argv\":";
    json_text(body, options.command.empty() ? account_shell : options.command);
    body += ",\"folder\":";
    json_string(body, *folder);
    body += ",\"gpus\":";
    json_string(body, options.gpus);
    body += ",\"env\":{\"TERM\":";
    json_string(body, kind != nullptr ? kind : "dumb");
    body += "}";
    for (const auto& [name, value] : options.more) {
        body += ",\"" + name + "\":";
        json_string(body, value);
    }
    return body + ",\"environment\":" + *environment + "}";
}

/// Says once what it waits for. False: it was given up by Ctrl-C, or the control plane stays away.
bool wait_for_start(const std::string& state, std::uint64_t job) {
    bool has_said = false;
    auto answered = std::chrono::steady_clock::now();
    while (true) {
        const auto reply = Client{state}.call("GET", fmt::format("/api/v1/jobs/{}", job));
        const auto row = reply && reply->status == 200 ? api::parse_json(reply->body) : Result<api::Json>{};
        const auto& now = row ? (*row)["state"].text : std::string{};
        if (reply && (reply->status == 404 || (!now.empty() && now != "waiting" && now != "starting"))) return true;
        const auto& reasons = row ? (*row)["reasons"].items : std::vector<api::Json>{};
        if (now == "waiting" && !reasons.empty() && !std::exchange(has_said, true)) {
            print_error("stargate: job {} waits: {}; Ctrl-C gives it up\n", job, reasons.front()["message"].text);
        }
        if (reply) answered = std::chrono::steady_clock::now();
        const bool is_away = std::chrono::steady_clock::now() - answered > longest_absence;
        if (was_interrupted || is_away) {
            const bool is_over = Client{state}.call("POST", fmt::format("/api/v1/jobs/{}/cancel", job)).has_value();
            if (is_over) return false;
            if (is_away || was_interrupted > 1) {
                print_error("stargate: no control plane answers; job {} may still start: stargate cancel {}\n", job,
                            job);
                return false;
            }
        }
        std::this_thread::sleep_for(std::chrono::milliseconds{has_said || !reply ? 100 : 5});
    }
}

Result<std::uint64_t> job_of(const ShellOptions& options, int& status) {
    status = 1;
    const bool is_new = options.attach.empty();
    const auto body = is_new ? body_of(options) : Result<std::string>{std::string{}};
    if (!body) return tl::unexpected(body.error());
    const auto reply = is_new ? post_once(options.state, "/api/v1/jobs", *body)
                              : Client{options.state}.call("GET", "/api/v1/jobs/" + escaped(options.attach));
    if (!reply) return tl::unexpected(reply.error());
    if (reply->status >= 300) {
        status = explain_failure(reply->status, reply->body);
        return 0;
    }
    const auto row = api::parse_json(reply->body);
    return row ? static_cast<std::uint64_t>((*row)["id"].whole) : 0;
}

}  // namespace

int shell(const ShellOptions& options) {
    std::signal(SIGPIPE, SIG_IGN);
    on_signal(SIGINT, [](int) { ++was_interrupted; });
    int status = 1;
    const auto job = job_of(options, status);
    if (!job) return fail_with(job.error());
    if (*job == 0) return status;
    Session session{options.state, *job};
    std::optional<RawTerminal> terminal;  // from before anything is seen of it: who sees it may type
    if (options.attach.empty()) {
        if (!wait_for_start(options.state, *job)) return 130;
    } else {
        // Says also that it is none, before anything else is done.
        const auto reply = Client{options.state}.call("POST", "/api/v1/jobs/" + escaped(options.attach) + "/input");
        if (!reply) return fail_with(reply.error());
        if (reply->status >= 300) return explain_failure(reply->status, reply->body);
        terminal.emplace();
        if (const auto shown = session.show_the_past(); !shown) {
            terminal.reset();
            return fail_with(shown.error());
        }
    }
    std::signal(SIGINT, SIG_DFL);  // at a terminal of ours it is a key
    on_signal(SIGWINCH, [](int) { window_has_changed = true; });
    if (!terminal) terminal.emplace();
    sigset_t window;  // the read of the thread that has the keys is what it interrupts
    sigemptyset(&window);
    sigaddset(&window, SIGWINCH);
    pthread_sigmask(SIG_BLOCK, &window, nullptr);
    std::thread{[&] { session.pass_on(); }}.detach();
    std::thread{[&] {
        pthread_sigmask(SIG_UNBLOCK, &window, nullptr);
        if (!session.read_keys()) return;  // what it prints is still shown
        terminal->restore();
        print_error("\nstargate: left; take it up again with: stargate shell --attach {}\n", *job);
        std::_Exit(0);
    }}.detach();
    status = session.follow();
    terminal->restore();
    if (!session.detail().empty()) print_error("stargate: job {}: {}\n", *job, without_controls(session.detail()));
    std::fflush(nullptr);
    std::_Exit(status);  // the other threads wait for keys
}

}  // namespace stargate::cli
