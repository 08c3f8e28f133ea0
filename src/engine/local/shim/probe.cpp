#include "engine/local/shim/probe.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string>

#include "engine/local/attempt_folder.hpp"
#include "engine/local/shim/init.hpp"
#include "engine/local/shim/init_messages.hpp"

namespace stargate::local {

namespace {

constexpr int patience_ms = 10'000;
constexpr unsigned nobody = 65534;

std::string try_sandbox(const std::string& folder) {
    const Fd place{open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    if (!place || mkdirat(place.get(), job_folder_name, 0700) != 0) return failure("cannot make a folder in /tmp");
    Spec spec{.state = folder, .folder = "/"};
    spec.account.uid = geteuid() == 0 ? nobody : geteuid();
    spec.account.gid = geteuid() == 0 ? nobody : getegid();
    if (fchdir(place.get()) != 0) return failure("cannot enter a folder in /tmp");
    const Fd null{open("/dev/null", O_RDONLY | O_CLOEXEC)};
    auto init = start_init(spec, 0, null.get());
    if (!init) return failure("no namespaces");
    pollfd polled{init->link.get(), POLLIN, 0};
    poll(&polled, 1, patience_ms);
    bool closed = false;
    const auto packet = receive_packet(init->link.get(), closed);
    const auto answer = packet ? decode<InitAnswer>(packet->message) : std::nullopt;
    const auto* built = answer ? std::get_if<Built>(&*answer) : nullptr;
    return built != nullptr ? built->why : "the init of the sandbox did not answer";
}

}  // namespace

int probe() {
    char folder[] = "/tmp/stargate-probe-XXXXXX";
    const auto why = mkdtemp(folder) == nullptr ? failure("cannot make a folder in /tmp") : try_sandbox(folder);
    rmdir((std::string{folder} + "/" + job_folder_name).c_str());
    rmdir(folder);
    if (why.empty()) return 0;
    std::puts(why.c_str());
    return 1;
}

}  // namespace stargate::local
