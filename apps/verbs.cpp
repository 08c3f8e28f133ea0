#include "verbs.hpp"

#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <thread>

#include "api/json.hpp"
#include "base/file_lock.hpp"
#include "base/posix.hpp"
#include "base/print_error.hpp"
#include "cli/client.hpp"
#include "cli/complaint.hpp"
#include "cli/full_disk.hpp"
#include "cli/run.hpp"
#include "cli/verbs.hpp"
#include "core/command.hpp"
#include "engine/local/end_all.hpp"
#include "engine/local/local_engine.hpp"
#include "engine/local/output_log.hpp"
#include "gateway_process.hpp"
#include "live/follower.hpp"
#include "store/doctor.hpp"
#include "store/room.hpp"
#include "store/sqlite/sqlite_store.hpp"
#include "up.hpp"

namespace stargate {

namespace {

/// How long `down` waits for the control plane to go. `down --jobs` may wait for each job's grace besides.
constexpr std::chrono::seconds longest_goodbye{30};

bool is_gone(pid_t pid) { return ::kill(pid, 0) != 0 && errno == ESRCH; }

/// `1 running job`, `3 running jobs`.
std::string counted(std::int64_t count, std::string_view what) {
    return fmt::format("{} {}{}", count, what, count == 1 ? "" : "s");
}

/// What became of the jobs that ran when the control plane was told to go; `reply` is its answer to that.
std::string fate_of_jobs(const std::string& reply, bool ended) {
    const auto told = api::parse_json(reply);
    const auto running = told ? (*told)["running"].whole : 0;
    if (running == 0) return "nothing was running";
    if (!ended) {
        return running == 1 ? "1 running job goes on, and the next `up` adopts it"
                            : fmt::format("{} running jobs go on, and the next `up` adopts them", running);
    }
    std::string names;
    for (const auto& job : (*told)["jobs"].items) {
        names += fmt::format("{}{} (job {})", names.empty() ? "" : ", ", job["name"].text, job["id"].whole);
    }
    const bool is_all = (*told)["jobs"].items.size() == static_cast<std::size_t>(running);
    return fmt::format("{} {} ended: {}{}", counted(running, "running job"), running == 1 ? "was" : "were", names,
                       is_all ? "" : ", ...");
}

/// Ends what runs, as the holder of the state: no control plane starts more meanwhile.
int end_without_control_plane(const std::string& state) {
    raise_open_files_limit();  // an attempt takes two
    const auto ended = end_all_attempts(state, {}, [&](int running) {
        fmt::print("no control plane answers at {}; {}\n", state,
                   running == 0 ? "nothing was running"
                                : counted(running, "running attempt") + " told to end, within the grace of each");
        std::fflush(stdout);
    });
    if (!ended) return say_failed(ended.error());
    end_gateway(state);
    if (*ended > 0) fmt::print("{} ended\n", *ended == 1 ? "it has" : "all have");
    return 0;
}

/// For a state for which nobody answers. Fault::conflict while somebody holds it all the same: a control plane that
/// starts or goes down, or another `down --jobs`.
Result<int> down_when_free(const std::string& state, bool jobs) {
    const bool is_used = std::filesystem::exists(state + "/lock");
    const auto lock = is_used ? FileLock::take(state + "/lock") : fail(Fault::not_found, "");
    if (is_used && !lock && (jobs || lock.error().fault == Fault::conflict)) return tl::unexpected(lock.error());
    if (is_used && jobs) return end_without_control_plane(state);
    fmt::print("no control plane answers at {}: {}\n", state, jobs ? "nothing was running" : "it is down already");
    return 0;
}

/// Waits for the end of a control plane that has been told to go; `reply` is its answer to that.
int wait_until_gone(const std::string& state, const std::string& reply, bool jobs,
                    std::chrono::steady_clock::time_point until) {
    const cli::SayWhenFull say_when_full{state};
    const auto pid = static_cast<pid_t>(api::parse_json(reply).value_or(api::Json{})["pid"].whole);
    while (pid > 0 && !is_gone(pid)) {
        if (std::chrono::steady_clock::now() > until) {
            return say_failed(
                {Fault::timed_out,
                 fmt::format("the control plane, pid {}, does not go; look at {}/stargate.log", pid, state)});
        }
        std::this_thread::sleep_for(std::chrono::milliseconds{5});
    }
    fmt::print("the control plane is down; {}\n", fate_of_jobs(reply, jobs));
    return 0;
}

/// A control plane that is up and whose socket is gone, as one in a folder that is cleaned: it is told by signal.
/// False: this is none.
bool tell_by_signal(const std::string& state) {
    long pid = 0;
    std::ifstream{state + "/stargate.pid"} >> pid;  // is there while one is up
    long holder = 0;
    std::ifstream{state + "/lock"} >> holder;
    const bool has_socket = std::filesystem::exists(state + "/stargate.sock");
    return !has_socket && pid > 0 && pid == holder && ::kill(static_cast<pid_t>(pid), SIGTERM) == 0;
}

/// Others may do the same meanwhile: whoever took it down, it is down.
int down(const std::string& state, bool jobs) {
    const auto until =
        std::chrono::steady_clock::now() + longest_goodbye + (jobs ? std::chrono::hours{1} : std::chrono::hours{0});
    for (bool is_told = false;; is_told = true) {
        const auto reply = cli::Client{state}.call("POST", "/api/v1/shutdown", jobs ? R"({"jobs":true})" : "{}");
        if (reply && reply->status >= 300) return cli::explain_failure(reply->status, reply->body);
        if (reply) return wait_until_gone(state, reply->body, jobs, until);
        if (reply.error().fault == Fault::denied) return say_failed(reply.error());
        // Nobody answers, or the answer broke off: it may have gone.
        const auto done = down_when_free(state, jobs);
        if (done) return *done;
        const auto& why = done.error();
        if (why.fault != Fault::conflict) return say_failed(why);
        if (std::chrono::steady_clock::now() > until) {
            return say_failed(
                {Fault::timed_out, fmt::format("{}, and nobody answers; look at {}/stargate.log", why.detail, state)});
        }
        if (is_told) continue;
        const auto what = tell_by_signal(state) ? "its socket is gone: told to end by SIGTERM" : "nobody answers";
        print_error("stargate: {}, and {}: waiting until that changes\n", why.detail, what);
    }
}

/// Work beside the state: an operator ends it, or puts back the state that knows it.
template <class Say>
void say_foreign(cli::Client client, const Say& say) {
    const auto fleet = client.call("GET", "/api/v1/fleet");
    if (!fleet || fleet->status != 200) return;
    const auto rows = api::parse_json(fleet->body);
    if (!rows) return;
    for (const auto& node : rows->items) {
        const auto running = node["foreign_running"].whole;
        if (running == 0) continue;
        say(false,
            fmt::format("{}: work runs that this state does not know: {} with {}", node["name"].text,
                        counted(running, "attempt"), counted(node["gpus_foreign"].whole, "GPU")),
            "put back the state folder that knows them, or let them end; `stargate down --jobs` ends them once the "
            "control plane is down");
    }
}

/// What a control plane that runs says of its disk; or whether the next one would find room. Empty: all is well.
std::string full_disk(const std::string& state, const Result<cli::HttpReply>& info) {
    const bool is_up = info && info->status == 200;
    const auto said = is_up ? api::parse_json(info->body).value_or(api::Json{})["read_only"].text : std::string{};
    if (!said.empty()) return said;
    const auto left = store::room_left(state);
    const auto needed = store::room_kept_back(state);  // which a control plane that runs has already
    const bool lacks_room = store::is_full(state) || (!is_up && left && needed && *left < *needed);
    return lacks_room ? store::no_room(state).detail : std::string{};
}

/// Why the store cannot be looked at by who asks, so that nothing is known of it; empty when it can.
std::string why_closed(const std::string& state) {
    if (::access((state + "/stargate.db").c_str(), R_OK) == 0 || errno != EACCES) return {};
    return fmt::format("the store in {} cannot be looked at: {}; ask as its owner or as root", state,
                       std::strerror(EACCES));
}

int doctor(const std::string& state, bool only_store) {
    bool well = true;
    const auto say = [&](bool good, const std::string& what, const std::string& remedy) {
        well = well && good;
        fmt::print("{} {}{}\n", good ? "ok  " : "BAD ", what, good || remedy.empty() ? "" : "; " + remedy);
    };
    const auto closed = why_closed(state);
    const auto report = store::examine_store(state);
    if (!closed.empty()) {
        well = !only_store;  // who asks of the store alone is not told that it is well
        fmt::print("?    {}\n", closed);
    } else if (!report) {
        say(false, report.error().detail, "");
    } else {
        for (const auto& finding : report->findings) say(false, finding.what, finding.remedy);
        if (report->findings.empty()) {
            say(true,
                fmt::format("store: {} inputs and {} facts, no gap, term {}; facts from {} on are in the log{}",
                            report->log.end_input - 1, report->log.end_fact - 1, report->identity.term,
                            report->log.first_fact,
                            report->segments == 0
                                ? ""
                                : ", older ones in " + counted(static_cast<std::int64_t>(report->segments), "segment")),
                "");
        }
    }
    if (only_store) return well ? 0 : 1;
    const auto reply = cli::Client{state}.call("GET", "/api/v1/info");
    say(reply && reply->status == 200, reply ? "the control plane answers" : reply.error().detail, "");
    if (reply && reply->status == 200) say_foreign(cli::Client{state}, say);
    const auto full = full_disk(state, reply);
    say(full.empty(), full.empty() ? "there is room on the disk of the state" : full, "");
    const auto shim = std::filesystem::read_symlink("/proc/self/exe").parent_path() / "stargate-shim";
    const auto sandbox = probe_sandbox(shim);
    say(sandbox.has_value(), sandbox ? "the default sandbox can be built here" : sandbox.error().detail, "");
    return well ? 0 : 1;
}

void add_log_limits(CLI::App& verb, live::LogLimits& limits) {
    auto* every =
        verb.add_option("--snapshot-every", limits.facts_between_snapshots, "facts between two snapshots of the state");
    cli::check_whole(every->capture_default_str(), 1);
    auto* kept = verb.add_option("--keep-segments", limits.segments_kept,
                                 "sealed segments of the log that are kept, each of --snapshot-every facts");
    cli::check_whole(kept->capture_default_str(), 0);
}

/// Removes the output of jobs that nobody can ask for any more: those that have left the history too.
void remove_old_output(store::Reader& store, const std::string& folder, const State& state) {
    std::error_code failed;
    const std::filesystem::directory_iterator end;
    for (std::filesystem::directory_iterator at{folder + "/logs", failed}; !failed && at != end; at.increment(failed)) {
        const auto job = job_of_output_log(at->path().filename().string());
        std::error_code ignored;  // it is looked at again the next time
        if (job && live::is_forgotten(store, state, *job).value_or(false)) std::filesystem::remove(at->path(), ignored);
    }
}

int follower(const std::string& folder, const live::LogLimits& limits) {
    const auto reader = store::open_sqlite_reader(folder);
    if (!reader) return say_failed(reader.error());
    return live::follow_once(**reader, folder, limits,
                             [&](const State& state) { remove_old_output(**reader, folder, state); });
}

}  // namespace

CLI::App* add_verb(CLI::App& app, const char* name, const char* what, const char* example) {
    auto* verb = app.add_subcommand(name, what);
    verb->footer(std::string{"Example: stargate "} + example);
    return verb;
}

int say_failed(const Error& error) {
    print_error("stargate: {}\n", error.detail);
    return 1;
}

void add_up(CLI::App& app, std::function<int()>& action) {
    auto options = std::make_shared<UpOptions>();
    options->state = cli::default_state();
    auto* verb = add_verb(app, "up", "start the control plane of this machine", "up --detach");
    cli::add_state(*verb, options->state);
    auto* listen = verb->add_option("--listen", options->listen, "loopback address of the API, for holders of a token");
    cli::check_address(listen->capture_default_str(), "127.0.0.1:7433");
    auto* gateway = verb->add_option("--gateway", options->gateway, "loopback address where clients find the services");
    cli::check_address(gateway->capture_default_str(), "127.0.0.1:7434");
    auto* shares = verb->add_option("--cpu-gpus", options->cpu_gpus,
                                    "shares of this machine's CPU that count as GPUs; 0: one a core");
    cli::check_whole(shares->capture_default_str(), 0, max_gpus_per_node);
    verb->add_option("--job-user", options->job_user, "whom root's own submissions run as")
        ->capture_default_str()
        ->check([](const std::string& user) { return user.empty() ? "is empty; name an account" : ""; }, "");
    verb->add_flag("--allow-sandbox-none", options->allow_sandbox_none,
                   "let everybody ask for `sandbox: none`, not operators alone");
    verb->add_flag("--detach", options->detach, "return once it is ready, and leave it running");
    add_log_limits(*verb, options->log_limits);
    verb->callback([&action, options] { action = [options] { return up(*options); }; });
}

void add_down(CLI::App& app, std::function<int()>& action) {
    struct Asked {
        std::string state = cli::default_state();
        bool jobs = false;
    };
    auto asked = std::make_shared<Asked>();
    auto* verb = add_verb(app, "down", "take the control plane down; work goes on", "down --jobs");
    cli::add_state(*verb, asked->state);
    verb->add_flag("--jobs", asked->jobs, "end running work too, also when the control plane is dead");
    verb->callback([&action, asked] { action = [asked] { return down(asked->state, asked->jobs); }; });
}

void add_doctor(CLI::App& app, std::function<int()>& action) {
    struct Asked {
        std::string state = cli::default_state();
        bool only_store = false;
    };
    auto asked = std::make_shared<Asked>();
    auto* verb = add_verb(app, "doctor", "look for what is wrong, and say what to do", "doctor --store");
    cli::add_state(*verb, asked->state);
    verb->add_flag("--store", asked->only_store, "look at the store alone; the control plane may be down");
    verb->callback([&action, asked] { action = [asked] { return doctor(asked->state, asked->only_store); }; });
}

void add_follower(CLI::App& app, std::function<int()>& action) {
    struct Asked {
        std::string state = cli::default_state();
        live::LogLimits limits;
    };
    auto asked = std::make_shared<Asked>();
    auto* verb = app.add_subcommand("follower", "look after the log; the control plane starts it");
    verb->group("");  // not for people
    cli::add_state(*verb, asked->state);
    add_log_limits(*verb, asked->limits);
    verb->callback([&action, asked] { action = [asked] { return follower(asked->state, asked->limits); }; });
}

}  // namespace stargate
