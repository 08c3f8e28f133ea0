#include "up.hpp"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <thread>

#include "api/account.hpp"
#include "api/server.hpp"
#include "base/file.hpp"
#include "base/posix.hpp"
#include "base/spelling.hpp"
#include "cli/verbs.hpp"
#include "core/serving.hpp"
#include "detach.hpp"
#include "engine/local/local_engine.hpp"
#include "engine/local/obeyed_term.hpp"
#include "engine/local/output_frame.hpp"
#include "engine/local/output_log.hpp"
#include "engine/local/port_holder.hpp"
#include "free_address.hpp"
#include "gateway/usage.hpp"
#include "gateway_process.hpp"
#include "live/clock.hpp"
#include "live/control_plane.hpp"
#include "live/machine.hpp"
#include "steward/steward.hpp"
#include "store/room.hpp"
#include "store/sqlite/sqlite_store.hpp"

namespace stargate {

namespace {

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
        return fail(Fault::denied, fmt::format("the state folder {} cannot be made: {}; name another one with --state",
                                               folder, failed.message()));
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
        return fail(Fault::denied, fmt::format("other users can write in the state folder {}: `chmod go-w {}` first",
                                               path, shell_word(path)));
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

/// Filled in as the control plane is made.
struct Hands {
    steward::Steward* steward = nullptr;  // the control plane's own
};

/// All that can be in the way of a control plane, found out before it takes office: whoever fails here leaves the last
/// one's gateway and term as they were.
struct Ground {
    NodeShape node;
    std::unique_ptr<store::Store> store;  // and with it the lock of the folder
    std::unique_ptr<store::Reader> reader;
    std::unique_ptr<api::Tokens> tokens;
    std::unique_ptr<api::GatewayKeys> keys;
    std::unique_ptr<GatewayProcess> gateway;
};

Result<Ground> prepare(const UpOptions& options) {
    const auto& folder = options.state;
    auto node = live::this_machine(options.cpu_gpus);
    if (!node) return tl::unexpected(node.error());
    Ground ground;
    auto store = store::open_sqlite_store(folder);
    if (!store) return tl::unexpected(store.error());
    ground.store = std::move(*store);
    if (const auto is_free = check_address_is_free(options.listen); !is_free) return tl::unexpected(is_free.error());
    auto name = live::kept_node_name(folder, node->name);
    if (!name) return tl::unexpected(name.error());
    node->name = std::move(*name);
    ground.node = *node;
    auto reader = store::open_sqlite_reader(folder);
    if (!reader) return tl::unexpected(reader.error());
    ground.reader = std::move(*reader);
    auto tokens = api::Tokens::open(folder);
    if (!tokens) return tl::unexpected(tokens.error());
    ground.tokens = std::make_unique<api::Tokens>(std::move(*tokens));
    auto keys = api::GatewayKeys::open(folder);
    if (!keys) return tl::unexpected(keys.error());
    ground.keys = std::make_unique<api::GatewayKeys>(std::move(*keys));
    const auto identity = ground.store->identity();
    if (!identity) return tl::unexpected(identity.error());
    auto gateway = GatewayProcess::keep(this_program(), folder, options.gateway,
                                        steward::words_of_incarnation(identity->incarnation));
    if (!gateway) return tl::unexpected(store::is_full(folder) ? store::no_room(folder) : gateway.error());
    ground.gateway = std::move(*gateway);
    return ground;
}

Result<std::unique_ptr<live::ControlPlane>> start(const UpOptions& options, Ground& ground, Hands& hands) {
    const auto& folder = options.state;
    live::Wiring wiring;
    wiring.folder = folder;
    wiring.store = std::move(ground.store);
    wiring.reader = std::move(ground.reader);
    wiring.node = ground.node;
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
    wiring.make_serving = [folder, &hands](Serving::Needs needs) {
        needs.holder_of_port = [holders = std::make_shared<PortHolders>(folder)](AttemptId attempt, std::int32_t port) {
            return holders->holder_of(attempt, port);
        };
        auto steward = steward::Steward::start(folder, std::move(needs));
        hands.steward = steward.get();
        return steward;
    };
    wiring.obeyed_term = [folder](const auto& incarnation) { return obeyed_term(folder, incarnation); };
    wiring.read_output = [folder](JobId job, AttemptId attempt, std::int64_t offset, std::size_t most) {
        return read_output(folder, job, attempt, offset, most);
    };
    return live::ControlPlane::start(std::move(wiring));
}

/// The account that root's own submissions run as; none where we are not root. The default one may not be found, also
/// because the network that knows it is not up yet: what root submits is refused then. One that was asked for must be.
Result<std::optional<Account>> find_job_user(const std::string& name) {
    if (::geteuid() != 0) return std::nullopt;
    auto account = api::job_account(name);
    if (account) return *account;
    if (account.error().fault != Fault::denied && name == UpOptions{}.job_user) return std::nullopt;
    return tl::unexpected(account.error());
}

/// Over all gateways that this state has had. What was under way at one that is gone is lost.
Result<std::vector<api::UsageRow>> read_usage(const std::string& folder) {
    std::map<std::pair<std::string, std::string>, api::UsageRow> sums;
    std::error_code failed;
    std::string newest;
    auto newest_at = std::filesystem::file_time_type::min();  // its zero lies a century ahead
    std::vector<std::string> files;
    for (const auto& entry : std::filesystem::directory_iterator{folder + "/usage", failed}) {
        files.push_back(entry.path().string());
        const auto at = entry.last_write_time(failed);
        if (at >= newest_at) {
            newest = files.back();
            newest_at = at;
        }
    }
    for (const auto& file : files) {
        const auto read = gateway::read_usage(file);
        if (!read) continue;  // of a gateway that died before it counted anything, or of a newer one
        for (const auto& record : read->records) {
            auto& sum = sums[{record.tenant, record.service}];
            sum.tenant = record.tenant;
            sum.service = record.service;
            sum.requests += record.counters.requests;
            sum.prompt_tokens += record.counters.prompt_tokens;
            sum.completion_tokens += record.counters.completion_tokens;
            sum.interrupted += record.counters.interrupted;
            (file == newest ? sum.in_flight : sum.lost) += record.counters.in_flight;
        }
    }
    std::vector<api::UsageRow> rows;
    for (auto& [key, sum] : sums) rows.push_back(std::move(sum));
    return rows;
}

/// What serves the API, and must go before the control plane it asks.
struct Served {
    std::unique_ptr<api::Tokens> tokens;  // the API refers to it, so it stays where it is when this is moved
    std::unique_ptr<api::GatewayKeys> keys;
    std::unique_ptr<api::Api> api;
    std::unique_ptr<api::Server> server;
};

Result<Served> serve(const UpOptions& options, const std::optional<Account>& job_user, Ground& ground,
                     live::ControlPlane& plane, const Hands& hands) {
    const auto& folder = options.state;
    Served served;
    served.tokens = std::move(ground.tokens);
    served.keys = std::move(ground.keys);
    served.keys->on_change([steward = hands.steward](const std::vector<api::GatewayKeys::Key>& all) {
        std::vector<steward::Key> told;
        for (const auto& key : all) told.push_back({key.id(), key.tenant, key.digest});
        steward->set_keys(std::move(told));
    });
    api::ApiSetting setting;
    setting.gateway_keys = served.keys.get();
    setting.read_usage = [folder] { return read_usage(folder); };
    setting.look_at_endpoints = [steward = hands.steward](JobId service) {
        std::vector<api::EndpointSight> seen;
        for (auto& each : steward->endpoints_of(service)) seen.push_back({each.is_serving, std::move(each.detail)});
        return seen;
    };
    setting.look_at_demand = [&plane](JobId service) { return plane.demand_of(service); };
    setting.version = STARGATE_VERSION;
    setting.state = folder;
    setting.job_user = job_user;
    setting.anyone_without_sandbox = options.allow_sandbox_none;
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

/// What a control plane that is up says, once.
/// address  of its API, empty when it listens on its socket alone
std::string greeting(const UpOptions& options, const std::string& address, const std::string& gateway,
                     bool can_run_roots_jobs) {
    auto text = fmt::format("Stargate is up\n  state  {}\n", options.state);
    if (!address.empty()) text += fmt::format("  API    {}, with the token that lies in the state folder\n", address);
    text += fmt::format("  models http://{}/v1, with a key: stargate token create --gateway\n", gateway);
    text += fmt::format("  pid    {}\n", ::getpid());
    std::error_code failed;
    const bool is_usual = std::filesystem::weakly_canonical(cli::default_state(), failed) == options.state;
    const auto state = is_usual ? "" : " --state " + shell_word(options.state);
    text += fmt::format("Next: stargate run{0} -- hostname\n      stargate submit{0} FILE\n      stargate down{0}\n",
                        state);
    if (!can_run_roots_jobs) {
        text += fmt::format(
            "No user {} was found: what root submits is refused; make the user and start again, or name another with "
            "--job-user\n",
            options.job_user);
    }
    return text;
}

/// Where scripts read who we are: our pid, and the API's address with the port that the kernel chose for `:0`.
class Notes {
public:
    explicit Notes(const std::string& folder)
        : pid_{folder + "/stargate.pid"}, address_{folder + "/stargate.address"} {}
    [[nodiscard]] Result<void> write(const std::string& address) const {
        if (auto written = address.empty() ? remove_durably(address_) : write_durably(address_, address + "\n");
            !written) {
            return written;
        }
        return write_durably(pid_, fmt::format("{}\n", ::getpid()));
    }
    void remove() const {
        (void)remove_durably(pid_);
        (void)remove_durably(address_);
    }

private:
    std::string pid_;
    std::string address_;
};

bool has_services(const live::ControlPlane& plane) {
    bool has = false;
    plane.read([&](const State& state, Instant, std::uint64_t) {
        state.table<Attempt>().for_each([&](const Attempt& attempt) { has = has || attempt.port != 0; });
        has = has || !routed_services(state).empty();
    });
    return has;
}

int stay_up(const UpOptions& options, const std::optional<Account>& job_user, Readiness readiness) {
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &signals, nullptr);
    std::signal(SIGPIPE, SIG_IGN);
    const auto failed = [&](const Error& error) {
        readiness.failed(error.fault == Fault::full ? store::no_room(options.state).detail : error.detail);
        return 1;
    };
    auto ground = prepare(options);
    if (!ground) return failed(ground.error());
    const auto failed_beside_gateway = [&](const Error& error) {
        ground->gateway->undo();
        return failed(error);
    };
    Hands hands;
    auto plane = start(options, *ground, hands);
    if (!plane) return failed_beside_gateway(plane.error());
    stop_on_signals(**plane, signals);
    auto served = serve(options, job_user, *ground, **plane, hands);
    if (!served) return failed_beside_gateway(served.error());
    const auto address = served->server->address();
    const Notes notes{options.state};
    if (const auto written = notes.write(address); !written) return failed_beside_gateway(written.error());
    ground->gateway->tell_remark();
    readiness.ready(greeting(options, address, ground->gateway->address(), ::geteuid() != 0 || job_user));
    (*plane)->wait();
    served->server.reset();
    notes.remove();
    ground->gateway.reset();
    if (!has_services(**plane)) end_gateway(options.state);  // else it serves on
    plane->reset();
    return 0;
}

}  // namespace

int up(UpOptions options) {
    ::signal(SIGCHLD, SIG_DFL);  // ignored by who called us, our children could not be waited for
    const auto job_user = find_job_user(options.job_user);
    if (!job_user) {
        Readiness{}.failed(job_user.error().detail);
        return job_user.error().fault == Fault::unavailable ? 1 : 2;
    }
    auto prepared = prepare_folder(options.state);
    if (!prepared) {
        Readiness{}.failed(prepared.error().detail);
        return 1;
    }
    options.state = std::move(*prepared);  // from the root: a detached child leaves the folder that we are in
    if (!options.detach) return stay_up(options, *job_user, {});
    return detach(options.state, [&](Readiness readiness) { return stay_up(options, *job_user, readiness); });
}

}  // namespace stargate
