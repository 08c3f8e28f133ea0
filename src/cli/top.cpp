#include "cli/top.hpp"

#include <fmt/format.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <ctime>
#include <set>

#include "cli/client.hpp"
#include "cli/listings.hpp"
#include "cli/run.hpp"
#include "cli/table.hpp"

namespace stargate::cli {

using api::Json;

namespace {

constexpr int most_jobs = 1'000;   // asked for
constexpr int most_shown = 1'000;  // lines of one table where the screen has no end

volatile std::sig_atomic_t told_to_go = 0;
void go(int) { told_to_go = 1; }

/// The terminal without echo and lines, on a screen of its own, for as long as this lives.
class Screen {
public:
    Screen() {
        has_keys_ = ::tcgetattr(STDIN_FILENO, &before_) == 0;
        if (has_keys_) {
            auto now = before_;
            now.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO);
            ::tcsetattr(STDIN_FILENO, TCSANOW, &now);
        }
        struct sigaction action {};
        action.sa_handler = go;  // without SA_RESTART: the wait for a key ends
        for (const auto signal : {SIGINT, SIGTERM, SIGHUP}) ::sigaction(signal, &action, nullptr);
        put("\x1b[?1049h\x1b[?25l");
    }
    Screen(const Screen&) = delete;
    Screen& operator=(const Screen&) = delete;
    ~Screen() {
        put("\x1b[?25h\x1b[?1049l");
        if (has_keys_) ::tcsetattr(STDIN_FILENO, TCSANOW, &before_);
    }
    void show(std::string text) const {
        for (auto at = text.find('\n'); at != std::string::npos; at = text.find('\n', at + 4))
            text.insert(at, "\x1b[K");
        put("\x1b[H" + text + "\x1b[J");
    }
    /// False: somebody wants to leave.
    [[nodiscard]] bool wait_a_second() const {
        pollfd key{has_keys_ ? STDIN_FILENO : -1, POLLIN, 0};
        const auto ready = ::poll(&key, 1, 1'000);
        if (told_to_go != 0) return false;
        if (ready != 1) return true;
        char letter = 'q';
        return ::read(STDIN_FILENO, &letter, 1) == 1 && letter != 'q' && letter != 'Q';
    }

private:
    static void put(const std::string& text) {
        std::fwrite(text.data(), 1, text.size(), stdout);
        std::fflush(stdout);
    }
    termios before_{};
    bool has_keys_ = false;
};

Result<Json> get(const std::string& state, const std::string& target) {
    constexpr std::chrono::seconds patience{5};
    const auto reply = Client{state, patience}.call("GET", target);
    if (!reply) return tl::unexpected<Error>(reply.error());
    auto json = api::parse_json(reply->body);
    if (reply->status >= 300 || !json) {
        return fail(Fault::unavailable,
                    json ? (*json)["error"]["message"].text : std::string{"the control plane's reply cannot be read"});
    }
    return *json;
}

Json of_states(const Json& jobs, const std::set<std::string>& states) {
    Json some;
    some.kind = Json::Kind::list;
    for (const auto& job : jobs.items) {
        if (states.contains(job["state"].text)) some.items.push_back(job);
    }
    return some;
}

/// `title`, and as many of the rows as `lines` of the screen have room for.
std::string part(const std::string& title, Json rows, const std::vector<Column>& columns, std::size_t lines,
                 std::size_t width) {
    const auto all = rows.items.size();
    auto out = fmt::format("\n{} ({})\n", title, all);
    if (all == 0 || lines < 4) return out;
    const auto room = lines - 3;
    if (all > room) rows.items.resize(room - 1);
    out += table_text(rows, columns, false, width);
    if (all > room) out += fmt::format("  and {} more\n", all - rows.items.size());
    return out;
}

Result<std::string> picture(const std::string& state, std::size_t height, std::size_t width) {
    const auto fleet = get(state, "/api/v1/fleet");
    if (!fleet) return tl::unexpected<Error>(fleet.error());
    const auto jobs = get(state, fmt::format("/api/v1/jobs?active=1&limit={}", most_jobs));
    if (!jobs) return tl::unexpected<Error>(jobs.error());
    double gpus = 0, free = 0;
    for (const auto& node : fleet->items) {
        gpus += node["gpus"].number;
        free += node["gpus_free"].number;
    }
    const auto waiting = of_states(*jobs, {"waiting"});
    const auto running = of_states(*jobs, {"starting", "running", "stopping", "unknown"});
    auto out = fmt::format("stargate  {}  {} of {} GPUs in use\n",
                           clock_of(std::int64_t{std::time(nullptr)} * 1'000'000), gpus - free, gpus);
    const auto left = height - std::min<std::size_t>(height, 2);
    const auto of_fleet = std::min(left / 4, fleet->items.size() + 3);
    const auto of_running = std::min((left - of_fleet) * 2 / 3, running.items.size() + 3);
    out += part("nodes", *fleet, node_columns(), of_fleet, width);
    out += part("running", running, job_columns(), of_running, width);
    out += part("waiting", waiting, job_columns(), left - of_fleet - of_running, width);
    return out;
}

}  // namespace

int top(const std::string& state) {
    winsize size{};
    const bool is_screen = ::isatty(STDOUT_FILENO) != 0 && ::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0;
    if (!is_screen) {
        const auto once = picture(state, 3 * most_shown, 0);
        if (!once) return fail_with(once.error());
        return fmt::print("{}", *once), 0;
    }
    if (const auto first = picture(state, size.ws_row, size.ws_col); !first) return fail_with(first.error());
    const Screen screen;
    do {
        ::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size);
        const auto now = picture(state, size.ws_row, size.ws_col);
        screen.show(now ? *now : "stargate: " + now.error().detail + "\n");  // it may be back in a moment
    } while (screen.wait_a_second());
    return 0;
}

}  // namespace stargate::cli
