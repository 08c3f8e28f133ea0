#include "detach.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "base/posix.hpp"
#include "base/print_error.hpp"

namespace stargate {

namespace {

constexpr int ready_descriptor = STDERR_FILENO + 1;  // of a detached child, to tell its parent that it is ready
constexpr std::string_view ready_word = "ready\n";   // what it tells begins with, unless it has failed

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

}  // namespace

void Readiness::tell(const std::string& text) {
    if (pipe_ < 0) return;
    (void)!::write(pipe_, text.data(), text.size());
    ::close(pipe_);
    pipe_ = -1;
}

void Readiness::ready(const std::string& greeting) {
    if (pipe_ >= 0) return tell(std::string{ready_word} + greeting);
    fmt::print("{}", greeting);
    std::fflush(stdout);
}

void Readiness::failed(const std::string& why) {
    if (pipe_ >= 0) return tell(why + "\n");
    print_error("stargate: {}\n", why);
}

int detach(const std::string& state, const std::function<int(Readiness)>& stay_up) {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) return 1;
    const auto child = ::fork();
    if (child == 0) {
        leave_caller(state, ends[1]);
        const int status = stay_up(Readiness{ready_descriptor});
        std::fflush(nullptr);
        std::_Exit(status);
    }
    ::close(ends[1]);
    std::string said;
    std::array<char, 1024> buffer{};
    for (ssize_t got = 0; (got = ::read(ends[0], buffer.data(), buffer.size())) > 0;) {
        said.append(buffer.data(), static_cast<std::size_t>(got));
    }
    ::close(ends[0]);
    if (said.starts_with(ready_word)) {
        fmt::print("{}", said.substr(ready_word.size()));
        return 0;
    }
    if (child > 0) ::waitpid(child, nullptr, 0);  // it has failed: whoever tries again at once finds nothing in the way
    print_error("stargate: {}",
                said.empty() ? fmt::format("it ended at once; look at {}/stargate.log\n", state) : said);
    return 1;
}

}  // namespace stargate
