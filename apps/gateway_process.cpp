#include "gateway_process.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <charconv>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <utility>
#include <variant>

#include "base/file.hpp"
#include "base/file_lock.hpp"
#include "base/posix.hpp"
#include "base/print_error.hpp"
#include "gateway/messages.hpp"
#include "net/unix_socket.hpp"

namespace stargate {

namespace {

using namespace std::chrono_literals;
constexpr auto start_limit = 10s;
constexpr auto end_limit = 5s;
constexpr auto between_looks = 5ms;
constexpr auto between_watches = 200ms;
constexpr auto between_tries = 2s;
constexpr auto drain_patience = 40s;  // a gateway that drains has 30 s for what is under way
constexpr timeval hello_patience{2, 0};

std::string line_of(const std::string& path) {
    auto text = read_file(path, Bytes{4096}).value_or("");
    return text.substr(0, text.find('\n'));
}

void say(const std::string& sentence) { print_error("stargate: {}\n", sentence); }

/// The gateway that serves for this state; 0 when none does.
int running_gateway(const std::string& state) {
    if (!net::connect_to(state + "/gateway.sock")) return 0;
    const auto text = line_of(state + "/gateway.pid");
    int pid = 0;
    std::from_chars(text.data(), text.data() + text.size(), pid);
    return pid;
}

/// What a gateway says first on each link; nothing where it says nothing that can be read.
std::optional<gateway::Introduction> introduction_of(const FileDescriptor& link) {
    ::setsockopt(link.get(), SOL_SOCKET, SO_RCVTIMEO, &hello_patience, sizeof hello_patience);
    std::string line;
    char bytes[1024];
    while (line.find('\n') == std::string::npos) {
        const auto got = ::recv(link.get(), bytes, sizeof bytes, 0);
        if (got <= 0 || line.size() > sizeof bytes * 16) return std::nullopt;
        line.append(bytes, static_cast<std::size_t>(got));
    }
    const auto report = gateway::read_report(line.substr(0, line.find('\n')));
    const auto* known = report ? std::get_if<gateway::Report>(&*report) : nullptr;
    const auto* hello = known == nullptr ? nullptr : std::get_if<gateway::Introduction>(known);
    return hello == nullptr ? std::nullopt : std::optional{*hello};
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

/// A gateway that takes links.
struct GatewayProcess::Found {
    int pid = 0;
    std::string address;
    gateway::Introduction says;
};

std::optional<GatewayProcess::Found> GatewayProcess::find(const std::string& state) {
    const auto link = net::connect_to(state + "/gateway.sock");
    if (!link) return std::nullopt;
    Found found;
    found.says = introduction_of(*link).value_or(gateway::Introduction{});
    found.pid = running_gateway(state);
    found.address = line_of(state + "/gateway.address");
    return found;
}

Result<std::unique_ptr<GatewayProcess>> GatewayProcess::keep(std::string program, std::string state, std::string listen,
                                                             std::string incarnation) {
    std::unique_ptr<GatewayProcess> kept{
        new GatewayProcess{std::move(program), std::move(state), std::move(listen), std::move(incarnation)}};
    if (auto there = kept->take_or_start(drain_patience); !there) return tl::unexpected(there.error());
    kept->watch_ = std::thread{[self = kept.get()] { self->watch(); }};
    return kept;
}

GatewayProcess::~GatewayProcess() { stop_watching(); }

void GatewayProcess::stop_watching() {
    {
        const std::lock_guard lock{mutex_};
        is_over_ = true;
    }
    wake_.notify_all();
    if (watch_.joinable()) watch_.join();
}

void GatewayProcess::tell_remark() const {
    if (!remark_.empty()) say(remark_);
}

void GatewayProcess::undo() {
    stop_watching();
    if (is_child_) end_gateway(state_);
}

/// One that has been told to end takes no more links, and holds its lock until it has.
Result<void> GatewayProcess::take_or_start(std::chrono::steady_clock::duration patience) {
    const auto until = std::chrono::steady_clock::now() + patience;
    bool has_said_so = false;
    while (true) {
        if (const auto found = find(state_)) return take(*found);
        const auto is_gone = FileLock::take(state_ + "/gateway.lock");
        if (is_gone) break;
        if (is_gone.error().fault != Fault::conflict || std::chrono::steady_clock::now() > until) {
            return tl::unexpected(is_gone.error());
        }
        if (!std::exchange(has_said_so, true)) {
            say("the last gateway is ending; waiting until it has answered what it has");
        }
    }
    return start();
}

Result<void> GatewayProcess::take(const Found& found) {
    const bool is_ours = found.says.incarnation.empty() || found.says.incarnation == incarnation_;
    if (!is_ours && found.says.services > 0) {
        return fail(Fault::conflict,
                    fmt::format("the gateway that runs here (pid {0}) serves for another store, whose replicas this "
                                "one does not know; end it, then start again: kill {0}",
                                found.pid));
    }
    pid_ = found.pid;
    address_ = found.address;
    if (!is_same_address(listen_, address_)) {  // to end it would cut the answers that it gives
        remark_ = fmt::format("the gateway that runs serves at {}, not at {}; to move it, end it: kill {}", address_,
                              listen_, pid_);
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
            ::kill(pid_, SIGKILL);
            ::waitpid(pid_, nullptr, 0);
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
    std::string said;
    while (!wake_.wait_for(lock, between_watches, [this] { return is_over_; })) {
        const bool is_gone = is_child_ ? ::waitpid(pid_, nullptr, WNOHANG) != 0  // also when it was reaped before
                                       : !net::connect_to(state_ + "/gateway.sock").has_value();
        if (!is_gone || std::chrono::steady_clock::now() < next_try) continue;
        next_try = std::chrono::steady_clock::now() + between_tries;
        listen_ = address_;  // clients know it
        const auto again = take_or_start({});
        const auto failure = again ? std::string{} : again.error().detail;
        if (!again) is_child_ = false;
        if (!again && failure != said) say(failure + "; tried again and again");
        said = failure;
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
