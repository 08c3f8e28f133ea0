#include <fmt/format.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <charconv>
#include <csignal>
#include <memory>
#include <optional>
#include <thread>

#include "base/file.hpp"
#include "base/file_lock.hpp"
#include "base/posix.hpp"
#include "base/print_error.hpp"
#include "cli/complaint.hpp"
#include "cli/verbs.hpp"
#include "detach.hpp"
#include "gateway/gateway.hpp"
#include "verbs.hpp"

// The gateway's process. It outlives whoever started it: nothing but SIGTERM, SIGINT or SIGKILL ends it.
namespace stargate {

namespace {

struct GatewayAsked {
    std::string state = cli::default_state();
    std::string listen = "127.0.0.1:7434";
};

/// Of `127.0.0.1:7434` or `[::1]:0`; nothing when it is written wrong or not this machine's own: there is no TLS yet.
bool read_loopback(const std::string& text, gateway::FrontSetting& setting) {
    const auto colon = text.rfind(':');
    if (colon == std::string::npos) return false;
    auto host = text.substr(0, colon);
    if (host == "localhost") host = "127.0.0.1";
    if (host == "[::1]") host = "::1";
    const auto* end = text.data() + text.size();
    const auto read = std::from_chars(text.data() + colon + 1, end, setting.port);
    setting.host = host;
    return read.ec == std::errc{} && read.ptr == end && (host == "::1" || host.starts_with("127."));
}

/// The first signal drains, the second ends at once.
void end_on_signals(net::Loop& loop, gateway::Gateway& gateway, const sigset_t& signals) {
    std::thread{[&loop, &gateway, signals] {
        int signal = 0;
        sigwait(&signals, &signal);
        loop.post([&] { gateway.drain([&] { loop.stop(); }); });
        sigwait(&signals, &signal);
        loop.stop();
    }}.detach();
}

/// Where others read who we are: our pid, and where we serve.
class Notes {
public:
    explicit Notes(const std::string& state) : pid_{state + "/gateway.pid"}, address_{state + "/gateway.address"} {}
    [[nodiscard]] Result<void> write(const std::string& address) const {
        if (auto written = write_durably(address_, address + "\n"); !written) return written;
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

Result<void> serve(const GatewayAsked& asked, gateway::GatewaySetting setting, const sigset_t& signals) {
    if (auto made = make_folder_durably(asked.state); !made) return made;
    const auto lock = FileLock::take(asked.state + "/gateway.lock");
    if (!lock) return tl::unexpected(lock.error());
    raise_open_files_limit();
    net::Loop loop;
    const auto gateway = gateway::Gateway::start(loop, std::move(setting));
    if (!gateway) return tl::unexpected(gateway.error());
    const Notes notes{asked.state};
    if (auto written = notes.write((*gateway)->address()); !written) return written;
    end_on_signals(loop, **gateway, signals);
    fmt::print("gateway on http://{}/v1; end it with SIGTERM\n", (*gateway)->address());
    std::fflush(stdout);
    loop.run();
    notes.remove();
    return {};
}

int run_gateway(const GatewayAsked& asked) {
    gateway::GatewaySetting setting;
    setting.state = asked.state;
    if (!read_loopback(asked.listen, setting.front)) {
        print_error(
            "stargate: {}: TLS is needed to be reached from other machines, and this version has none; listen on "
            "127.0.0.1:7434 and put a proxy that speaks TLS in front\n",
            asked.listen);
        return 2;
    }
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &signals, nullptr);
    std::signal(SIGPIPE, SIG_IGN);
    std::signal(SIGHUP, SIG_IGN);  // the terminal of whoever started us goes without us
    const auto served = serve(asked, std::move(setting), signals);
    return served ? 0 : say_failed(served.error());
}

}  // namespace

void add_gateway(CLI::App& app, std::function<int()>& action) {
    auto asked = std::make_shared<GatewayAsked>();
    auto* verb = add_verb(app, "gateway", "answer OpenAI's API with the services of a control plane",
                          "gateway --state /tmp/stargate --listen 127.0.0.1:7434");
    cli::add_state(*verb, asked->state);
    verb->add_option("--listen", asked->listen, "loopback address to serve at; port 0: any")->capture_default_str();
    verb->callback([&action, asked] { action = [asked] { return run_gateway(*asked); }; });
}

}  // namespace stargate
