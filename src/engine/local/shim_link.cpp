#include "engine/local/shim_link.hpp"

#include <fcntl.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

namespace stargate::local {

void ShimLink::send(const Order& order) {
    rest_ += frame(encode(order));
    send_rest();
}

void ShimLink::send_rest() {
    while (socket_ && !rest_.empty()) {
        const auto sent = ::send(socket_.get(), rest_.data(), rest_.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0 && errno == EINTR) continue;
        if (sent < 0) return;  // full: epoll tells when there is room; dead: reading tells
        rest_.erase(0, static_cast<std::size_t>(sent));
    }
}

std::vector<Answer> ShimLink::receive() {
    std::vector<Answer> answers;
    while (socket_) {
        char bytes[4096];
        const auto got = recv(socket_.get(), bytes, sizeof bytes, MSG_DONTWAIT);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0 && errno == EAGAIN) break;
        if (got <= 0) {
            socket_.reset();
            break;
        }
        reader_.append({bytes, static_cast<std::size_t>(got)});
        while (const auto payload = reader_.next()) {
            auto answer = decode<Answer>(*payload);
            if (answer) answers.push_back(std::move(*answer));
        }
        if (reader_.is_broken()) socket_.reset();
        if (static_cast<std::size_t>(got) < sizeof bytes) break;  // level-triggered: the end is told again
    }
    return answers;
}

std::optional<SpawnedShim> spawn_shim(const std::string& program, std::uint64_t attempt) {
    constexpr int control_link = 3;
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) return std::nullopt;
    Fd ours{ends[0]};
    const Fd theirs{ends[1]};

    posix_spawn_file_actions_t files;
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_adddup2(&files, theirs.get(), control_link);
    posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDWR, 0);
    posix_spawn_file_actions_adddup2(&files, STDIN_FILENO, STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&files, STDIN_FILENO, STDERR_FILENO);
    posix_spawn_file_actions_addclosefrom_np(&files, control_link + 1);

    posix_spawnattr_t attributes;
    posix_spawnattr_init(&attributes);
    sigset_t signals;
    sigemptyset(&signals);
    posix_spawnattr_setsigmask(&attributes, &signals);
    sigfillset(&signals);
    posix_spawnattr_setsigdefault(&attributes, &signals);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);

    std::string words[] = {"stargate-shim", "attempt", std::to_string(attempt)};
    char* const arguments[] = {words[0].data(), words[1].data(), words[2].data(), nullptr};
    char* const environment[] = {nullptr};
    SpawnedShim shim;
    const int error = posix_spawn(&shim.pid, program.c_str(), &files, &attributes, arguments, environment);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&files);
    if (error != 0) {
        errno = error;
        return std::nullopt;
    }
    shim.process = open_process(shim.pid);
    if (!shim.process) {  // nobody would notice its end; without its Spec it has done nothing
        const int lack = errno;
        kill(shim.pid, SIGKILL);
        waitpid(shim.pid, nullptr, 0);
        errno = lack;
        return std::nullopt;
    }
    shim.link = ShimLink{std::move(ours)};
    return shim;
}

}  // namespace stargate::local
