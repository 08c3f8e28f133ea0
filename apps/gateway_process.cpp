#include "gateway_process.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <charconv>
#include <chrono>
#include <csignal>

#include "base/file.hpp"
#include "base/posix.hpp"
#include "net/unix_socket.hpp"

namespace stargate {

namespace {

using namespace std::chrono_literals;
constexpr auto start_limit = 10s;
constexpr auto end_limit = 5s;
constexpr auto between_looks = 5ms;
constexpr auto between_watches = 200ms;
constexpr auto between_tries = 2s;

std::string line_of(const std::string& path) {
    auto text = read_file(path, Bytes{4096}).value_or("");
    return text.substr(0, text.find('\n'));
}

/// The gateway that serves for this state; 0 when none does.
int running_gateway(const std::string& state) {
    if (!net::connect_to(state + "/gateway.sock")) return 0;
    const auto text = line_of(state + "/gateway.pid");
    int pid = 0;
    std::from_chars(text.data(), text.data() + text.size(), pid);
    return pid;
}

/// `127.0.0.1:0` is content with any port.
bool is_same_address(const std::string& asked, const std::string& has) {
    return asked == has || (asked.ends_with(":0") && has.starts_with(asked.substr(0, asked.size() - 1)));
}

/// What the process said last.
std::string last_words(const std::string& log) {
    auto text = read_file(log, Bytes{1 << 20}).value_or("");
    while (text.ends_with('\n')) text.pop_back();
    const auto line = text.substr(text.rfind('\n') + 1);
    constexpr std::string_view prefix = "stargate: ";
    return line.starts_with(prefix) ? line.substr(prefix.size()) : line;
}

Result<int> spawn(const std::string& program, const std::string& state, const std::string& listen) {
    const auto log = state + "/gateway.log";
    posix_spawn_file_actions_t files;
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&files, STDOUT_FILENO, log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW,
                                     0600);
    posix_spawn_file_actions_adddup2(&files, STDOUT_FILENO, STDERR_FILENO);
    posix_spawn_file_actions_addclosefrom_np(&files, STDERR_FILENO + 1);
    posix_spawn_file_actions_addchdir_np(&files, "/");
    posix_spawnattr_t attributes;
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID);
    std::string name = "stargate", verb = "gateway", a = "--state", b = "--listen", folder = state, address = listen;
    char* words[] = {name.data(), verb.data(), a.data(), folder.data(), b.data(), address.data(), nullptr};
    pid_t pid = 0;
    const int failed = posix_spawn(&pid, program.c_str(), &files, &attributes, words, environ);
    posix_spawn_file_actions_destroy(&files);
    posix_spawnattr_destroy(&attributes);
    if (failed == 0) return static_cast<int>(pid);
    errno = failed;
    return fail_with_errno("start the gateway", program);
}

}  // namespace

Result<std::unique_ptr<GatewayProcess>> GatewayProcess::keep(std::string program, std::string state,
                                                             std::string listen) {
    std::unique_ptr<GatewayProcess> kept{new GatewayProcess{std::move(program), std::move(state), std::move(listen)}};
    if (auto there = kept->take_or_start(); !there) return tl::unexpected(there.error());
    kept->watch_ = std::thread{[self = kept.get()] { self->watch(); }};
    return kept;
}

GatewayProcess::~GatewayProcess() {
    {
        const std::lock_guard lock{mutex_};
        is_over_ = true;
    }
    wake_.notify_all();
    if (watch_.joinable()) watch_.join();
}

Result<void> GatewayProcess::take_or_start() {
    pid_ = running_gateway(state_);
    if (pid_ == 0) return start();
    address_ = line_of(state_ + "/gateway.address");
    if (!is_same_address(listen_, address_)) {  // to end it would cut the answers that it gives
        fmt::print(stderr, "stargate: the gateway that runs serves at {}, not at {}; to move it, end it: kill {}\n",
                   address_, listen_, pid_);
    }
    is_child_ = false;
    return {};
}

Result<void> GatewayProcess::start() {
    (void)remove_durably(state_ + "/gateway.pid");
    const auto pid = spawn(program_, state_, listen_);
    if (!pid) return tl::unexpected(pid.error());
    pid_ = *pid;
    is_child_ = true;
    const auto until = std::chrono::steady_clock::now() + start_limit;
    while (line_of(state_ + "/gateway.pid") != std::to_string(pid_)) {
        if (::waitpid(pid_, nullptr, WNOHANG) == pid_) {
            return fail(Fault::unavailable,
                        fmt::format("the gateway does not start: {}", last_words(state_ + "/gateway.log")));
        }
        if (std::chrono::steady_clock::now() > until) {
            return fail(Fault::timed_out,
                        fmt::format("the gateway does not get ready; look at {}/gateway.log", state_));
        }
        std::this_thread::sleep_for(between_looks);
    }
    address_ = line_of(state_ + "/gateway.address");
    return {};
}

/// Serves on where the gateway died: with a new one, at the same address.
void GatewayProcess::watch() {
    std::unique_lock lock{mutex_};
    std::chrono::steady_clock::time_point next_try{};
    while (!wake_.wait_for(lock, between_watches, [this] { return is_over_; })) {
        const bool is_gone = is_child_ ? ::waitpid(pid_, nullptr, WNOHANG) == pid_
                                       : !net::connect_to(state_ + "/gateway.sock").has_value();
        if (!is_gone || std::chrono::steady_clock::now() < next_try) continue;
        next_try = std::chrono::steady_clock::now() + between_tries;
        listen_ = address_;  // clients know it
        if (const auto again = take_or_start(); !again) {
            fmt::print(stderr, "stargate: {}; tried again in a moment\n", again.error().detail);
            is_child_ = false;
        }
    }
}

void end_gateway(const std::string& state) {
    const int pid = running_gateway(state);
    if (pid <= 0 || ::kill(pid, SIGTERM) != 0) return;
    const auto until = std::chrono::steady_clock::now() + end_limit;
    while (::kill(pid, 0) == 0 && std::chrono::steady_clock::now() < until) {
        if (::waitpid(pid, nullptr, WNOHANG) == pid) return;
        std::this_thread::sleep_for(between_looks);
    }
}

}  // namespace stargate
