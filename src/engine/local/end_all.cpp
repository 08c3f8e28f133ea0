#include "engine/local/end_all.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <csignal>
#include <vector>

#include "engine/local/attempt_folder.hpp"
#include "engine/local/shim_link.hpp"

namespace stargate {

namespace {

using namespace local;

constexpr std::int64_t kill_patience_us = 5'000'000;  // for the kernel to take down what was killed
constexpr int look_pause_ms = 10;

struct Live {
    std::uint64_t attempt = 0;
    Fd folder;
    ShimLink link;
    std::int64_t kill_at_us = 0;
    bool is_killed = false;
};

bool is_dead(int folder) {
    if (!take_lock(folder)) return false;
    const auto record = read_record<ShimRecord>(folder, shim_record_name);
    return !record || !has_living_init(*record, boot_id());
}

std::vector<Live> live_attempts(int attempts) {
    std::vector<Live> live;
    DIR* listing = fdopendir(openat(attempts, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (listing == nullptr) return live;
    while (const dirent* found = readdir(listing)) {
        const auto attempt = attempt_of(found->d_name);
        auto folder = attempt ? open_attempt(attempts, *attempt) : Fd{};
        if (folder && !is_dead(folder.get())) live.push_back({*attempt, std::move(folder), {}});
    }
    closedir(listing);
    return live;
}

/// Speaks with the authority that the shim obeys already: whoever can read its record owns the state folder.
bool ask_to_end(Live& live, std::optional<Duration> grace) {
    const auto record = read_record<ShimRecord>(live.folder.get(), shim_record_name);
    if (!record) return false;
    live.link = ShimLink{connect_to_shim(live.folder.get())};
    if (!live.link.is_open()) return false;
    const auto grace_us = grace ? grace->count() : record->grace_us;
    live.kill_at_us = boot_time_us() + grace_us + kill_patience_us / 2;
    live.link.send(End{.by = record->obeys, .generation = 0, .cause = "cancel", .grace_us = grace_us, .cancels = true});
    return true;
}

void kill_shim(const Live& live) {
    const auto record = read_record<ShimRecord>(live.folder.get(), shim_record_name);
    if (!record || record->boot_id != boot_id()) return;
    const auto process = open_process(record->pid);
    if (process && start_ticks(record->pid) == record->start_ticks) signal_process(process, SIGKILL);
}

}  // namespace

Result<int> end_all_attempts(const std::string& state, std::optional<Duration> grace) {
    const auto attempts = open_attempts(state);
    if (!attempts && errno == ENOENT) return 0;  // nothing has ever run here
    if (!attempts) return fail(Fault::unavailable, failure("folder " + state + "/attempts"));
    // Without an authority no shim takes a folder; what has taken one before this line holds its lock.
    const auto authority = state + "/" + authority_name;
    if (unlink(authority.c_str()) != 0 && errno != ENOENT) {
        const auto why = failure("cannot remove " + authority);
        return fail(Fault::unavailable, why + "; make its folder writable, then try again");
    }
    auto live = live_attempts(attempts.get());
    const auto count = static_cast<int>(live.size());
    for (auto& each : live) {
        if (!ask_to_end(each, grace)) each.kill_at_us = boot_time_us();
    }
    while (true) {
        std::erase_if(live, [](const Live& each) { return is_dead(each.folder.get()); });
        if (live.empty()) return count;
        const auto now = boot_time_us();
        for (auto& each : live) {
            if (now < each.kill_at_us) continue;
            if (!std::exchange(each.is_killed, true))
                kill_shim(each);  // its init dies with it, and all ranks with that
            if (now > each.kill_at_us + kill_patience_us) {
                return fail(Fault::timed_out, "attempt " + std::to_string(each.attempt) + " is still alive");
            }
        }
        poll(nullptr, 0, look_pause_ms);
    }
}

}  // namespace stargate
