#include "up.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <thread>

#include "api/account.hpp"
#include "api/server.hpp"
#include "base/file.hpp"
#include "base/posix.hpp"
#include "engine/local/local_engine.hpp"
#include "engine/local/output_frame.hpp"
#include "engine/local/output_log.hpp"
#include "free_address.hpp"
#include "live/clock.hpp"
#include "live/control_plane.hpp"
#include "live/machine.hpp"
#include "store/room.hpp"
#include "store/sqlite/sqlite_store.hpp"

namespace stargate {

namespace {

/// Tells whoever started us, once, whether we are ready.
class Readiness {
public:
    explicit Readiness(int to) : to_{to} {}
    void ready() { tell("ready\n"); }
    void failed(const std::string& why) { tell(why + "\n"); }

private:
    void tell(const std::string& text) {
        if (to_ < 0) return;
        (void)!::write(to_, text.data(), text.size());
        ::close(to_);
        to_ = -1;
    }
    int to_;
};

std::string this_program() { return std::filesystem::read_symlink("/proc/self/exe").string(); }

std::string shim_beside(const std::string& program) {
    return std::filesystem::path{program}.parent_path() / "stargate-shim";
}

/// Makes the state folder, and returns its path from the root. Others may pass through it to the socket, and see
/// nothing in it. Whoever could write in it could put their own token or exit records there: such a folder is refused.
Result<std::string> prepare_folder(const std::string& folder) {
    std::error_code failed;
    const bool made = std::filesystem::create_directories(folder, failed);
    if (failed)
        return fail(Fault::denied, fmt::format("the state folder {} cannot be made: {}", folder, failed.message()));
    if (made) ::chmod(folder.c_str(), ::geteuid() == 0 ? 0711 : 0700);
    const auto path = std::filesystem::canonical(folder, failed).string();
    struct stat status {};
    if (failed || ::stat(path.c_str(), &status) != 0) return fail_with_errno("look at the state folder", folder);
    if (status.st_uid != ::geteuid()) {
        return fail(Fault::denied, fmt::format("the state folder {} belongs to user {}: name one of your own with "
                                               "--state, or chown it",
                                               path, status.st_uid));
    }
    if ((status.st_mode & 022U) != 0) {
        return fail(Fault::denied,
                    fmt::format("other users can write in the state folder {0}: `chmod go-w {0}` first", path));
    }
    return path;
}

/// Of the database alone: its file and what it has written ahead. -1 when that cannot be seen.
std::int64_t store_bytes(const std::string& folder) {
    std::int64_t bytes = -1;
    for (const auto* name : {"/stargate.db", "/stargate.db-wal"}) {
        std::error_code failed;
        const auto size = std::filesystem::file_size(folder + name, failed);
        if (!failed) bytes = std::max<std::int64_t>(bytes, 0) + static_cast<std::int64_t>(size);
    }
    return bytes;
}

Result<std::vector<api::OutputPiece>> read_output(const std::string& folder, JobId job, AttemptId attempt,
                                                  std::int64_t offset, std::size_t most) {
    const auto log = OutputLog::open(output_log_path(folder, job, attempt));
    if (!log) {
        if (log.error().fault == Fault::not_found) return std::vector<api::OutputPiece>{};
        return tl::unexpected(log.error());
    }
    auto part = log->read(offset, most);
    if (!part) return tl::unexpected(part.error());
    std::vector<api::OutputPiece> pieces;
    auto next = offset;
    for (auto& piece : part->pieces) {
        next += static_cast<std::int64_t>(local::OutputFrameHead::size + piece.bytes.size());
        pieces.push_back({piece.rank, piece.is_errors, piece.unix_us, next, std::move(piece.bytes)});
    }
    return pieces;
}

Result<std::unique_ptr<live::ControlPlane>> start(const UpOptions& options, const std::string& folder) {
    auto node = live::this_machine(options.cpu_gpus);
    if (!node) return tl::unexpected(node.error());
    auto store = store::open_sqlite_store(folder);  // and with it the lock of the folder
    if (!store) return tl::unexpected(store.error());
    if (const auto is_free = check_address_is_free(options.listen); !is_free) return tl::unexpected(is_free.error());
    auto name = live::kept_node_name(folder, node->name);
    if (!name) return tl::unexpected(name.error());
    node->name = std::move(*name);
    auto reader = store::open_sqlite_reader(folder);
    if (!reader) return tl::unexpected(reader.error());
    live::Wiring wiring;
    wiring.folder = folder;
    wiring.store = std::move(*store);
    wiring.reader = std::move(*reader);
    wiring.node = *node;
    wiring.boot = live::boot_id();
    const auto program = this_program();
    wiring.log_limits = options.log_limits;
    wiring.keep_log = [program, folder, limits = options.log_limits](const std::stop_token& stop) {
        return live::run_follower(program, folder, limits, stop);
    };
    wiring.store_bytes = [folder] { return store_bytes(folder); };
    wiring.make_engine = [folder, shim = shim_beside(program), open_files = raise_open_files_limit()](
                             live::Wiring::EngineNeeds needs) -> Result<std::unique_ptr<Engine>> {
        LocalEngineOptions local;
        local.state = folder;
        local.shim = shim;
        local.node = needs.node;
        local.open_files = open_files;
        local.authority = needs.authority;
        local.listener = std::move(needs.listener);
        local.launch_of = std::move(needs.launch_of);
        local.now = std::move(needs.now);
        return LocalEngine::open(std::move(local)).map([](std::unique_ptr<LocalEngine> engine) {
            return std::unique_ptr<Engine>{std::move(engine)};
        });
    };
    wiring.read_output = [folder](JobId job, AttemptId attempt, std::int64_t offset, std::size_t most) {
        return read_output(folder, job, attempt, offset, most);
    };
    return live::ControlPlane::start(std::move(wiring));
}

/// What serves the API, and must go before the control plane it asks.
struct Served {
    std::unique_ptr<api::Tokens> tokens;  // the API refers to it, so it stays where it is when this is moved
    std::unique_ptr<api::Api> api;
    std::unique_ptr<api::Server> server;
};

Result<Served> serve(const UpOptions& options, const std::string& folder, live::ControlPlane& plane) {
    Served served;
    auto tokens = api::Tokens::open(folder);
    if (!tokens) return tl::unexpected(tokens.error());
    served.tokens = std::make_unique<api::Tokens>(std::move(*tokens));
    api::ApiSetting setting;
    setting.version = STARGATE_VERSION;
    if (::geteuid() == 0) {
        auto account = api::job_account(options.job_user);
        if (account) {
            setting.job_user = std::move(*account);
        } else if (account.error().fault == Fault::denied) {
            return tl::unexpected(account.error());
        } else {
            fmt::print(
                stderr,
                "stargate: there is no user {}: what root submits is refused; make the user, or name another with "
                "--job-user\n",
                options.job_user);
        }
    }
    served.api = std::make_unique<api::Api>(plane, *served.tokens, std::move(setting));
    api::ServerSetting listen;
    listen.socket = folder + "/stargate.sock";
    listen.listen = options.listen;
    auto server = api::Server::start(*served.api, plane, listen);
    if (!server) return tl::unexpected(server.error());
    served.server = std::move(*server);
    return served;
}

/// SIGTERM and SIGINT take the control plane down and leave work running.
void stop_on_signals(live::ControlPlane& plane, const sigset_t& signals) {
    std::thread{[&plane, signals] {
        int signal = 0;
        sigwait(&signals, &signal);
        plane.stop();
    }}.detach();
}

int stay_up(const UpOptions& options, Readiness readiness) {
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &signals, nullptr);
    std::signal(SIGPIPE, SIG_IGN);
    const auto failed = [&](const Error& error) {
        const auto why = error.fault == Fault::full ? store::no_room(options.state).detail : error.detail;
        readiness.failed(why);
        if (!options.detach) fmt::print(stderr, "stargate: {}\n", why);
        return 1;
    };
    const auto prepared = prepare_folder(options.state);
    if (!prepared) return failed(prepared.error());
    const auto& folder = *prepared;
    auto plane = start(options, folder);
    if (!plane) return failed(plane.error());
    stop_on_signals(**plane, signals);
    auto served = serve(options, folder, **plane);
    if (!served) return failed(served.error());
    const auto pid_file = folder + "/stargate.pid";
    if (const auto written = write_durably(pid_file, fmt::format("{}\n", ::getpid())); !written) {
        return failed(written.error());
    }
    if (!options.detach) {
        fmt::print("Stargate is up: state {}, API on its socket and 127.0.0.1:{}. Try: stargate run -- hostname\n",
                   folder, served->server->port());
        std::fflush(stdout);
    }
    readiness.ready();
    (*plane)->wait();
    served->server.reset();
    (void)remove_durably(pid_file);
    plane->reset();
    return 0;
}

constexpr int ready_descriptor = STDERR_FILENO + 1;  // of a detached child, to tell its parent that it is ready

/// In the child: keeps nothing of the caller's but `ready`, moved to ready_descriptor. Neither its terminal, nor its
/// folder, which may be on a disk that shall be unmounted, nor any descriptor that it left open.
void leave_caller(const std::string& state, int ready) {
    ::setsid();
    if (::chdir("/") != 0) std::_Exit(1);
    const auto log = state + "/stargate.log";
    const int out = ::open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0600);
    const int in = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (out < 0 || in < 0) {
        Readiness{ready}.failed(fail_with_errno("open", log).value().detail);
        std::_Exit(1);
    }
    ::dup2(in, STDIN_FILENO);
    ::dup2(out, STDOUT_FILENO);
    ::dup2(out, STDERR_FILENO);
    if (ready != ready_descriptor) ::dup2(ready, ready_descriptor);
    ::fcntl(ready_descriptor, F_SETFD, FD_CLOEXEC);
    ::close_range(ready_descriptor + 1, ~0U, 0);
}

/// Leaves the terminal and the caller: the child stays up, the parent returns once it is ready or has failed.
int detach(UpOptions options) {
    auto prepared = prepare_folder(options.state);
    if (!prepared) {
        fmt::print(stderr, "stargate: {}\n", prepared.error().detail);
        return 1;
    }
    options.state = std::move(*prepared);  // from the root: the child leaves the folder that we are in
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) return 1;
    const auto child = ::fork();
    if (child == 0) {
        leave_caller(options.state, ends[1]);
        const int status = stay_up(options, Readiness{ready_descriptor});
        std::fflush(nullptr);
        std::_Exit(status);
    }
    ::close(ends[1]);
    std::string said;
    std::array<char, 1024> buffer{};
    for (ssize_t got = 0; (got = ::read(ends[0], buffer.data(), buffer.size())) > 0;) {
        said.append(buffer.data(), static_cast<std::size_t>(got));
        if (said.back() == '\n') break;
    }
    ::close(ends[0]);
    if (said == "ready\n") return 0;
    if (child > 0) ::waitpid(child, nullptr, 0);  // it has failed: whoever tries again at once finds nothing in the way
    fmt::print(stderr, "stargate: {}",
               said.empty() ? fmt::format("it ended at once; look at {}/stargate.log\n", options.state) : said);
    return 1;
}

}  // namespace

int up(const UpOptions& options) { return options.detach ? detach(options) : stay_up(options, Readiness{-1}); }

}  // namespace stargate
