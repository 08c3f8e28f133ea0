#include "engine/local/end_all.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <csignal>
#include <memory>
#include <vector>

#include "engine/local/attempt_folder.hpp"
#include "engine/local/attempt_records.hpp"
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

Result<std::vector<Live>> live_attempts(int attempts) {
    std::vector<Live> live;
    const std::unique_ptr<DIR, int (*)(DIR*)> listing{
        fdopendir(openat(attempts, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)), closedir};
    if (!listing) return fail(Fault::unavailable, failure("cannot list the folder of attempts"));
    while (const dirent* found = readdir(listing.get())) {
        const auto attempt = attempt_of(found->d_name);
        if (!attempt) continue;
        auto folder = open_attempt(attempts, *attempt);
        if (!folder && errno != ENOENT) {
            return fail(Fault::unavailable, failure("cannot look at attempt " + std::to_string(*attempt)));
        }
        if (folder && !is_dead(folder.get())) live.push_back({*attempt, std::move(folder), {}});
    }
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
    live.link.send(End{.by = record->obeys, .generation = 0, .cause = cancel_cause, .grace_us = grace_us});
    return true;
}

void kill_shim(const Live& live) {
    const auto record = read_record<ShimRecord>(live.folder.get(), shim_record_name);
    if (!record || record->boot_id != boot_id()) return;
    const auto process = open_process(record->pid);
    if (process && start_ticks(record->pid) == record->start_ticks) signal_process(process, SIGKILL);
}

/// A shim that had to be killed could not say that its job was cancelled.
void tell_for(const std::string& state, const Live& killed) {
    const auto lock = take_lock(killed.folder.get());
    AttemptRecords records{state, killed.attempt};
    const auto record = records.shim();
    if (!lock || !record || records.end()) return;
    (void)records.keep_end({.obeyed = record->obeys,
                            .ended = {.generation = 1,  // or whichever State waits for
                                      .kind = EndKind::killed,
                                      .code = SIGKILL,
                                      .detail = "killed, for it did not end when it was told to",
                                      .warned = true,
                                      .final = true,
                                      .cancelled = true}});
}

}  // namespace

Result<int> end_all_attempts(const std::string& state, std::optional<Duration> grace,
                             const std::function<void(int)>& begun) {
    const auto attempts = open_attempts(state);
    if (!attempts && errno == ENOENT) return 0;  // nothing has ever run here
    if (!attempts) return fail(Fault::unavailable, failure("folder " + state + "/attempts"));
    // Without an authority no shim takes a folder; what has taken one before this line holds its lock.
    const auto authority = state + "/" + authority_name;
    if (unlink(authority.c_str()) != 0 && errno != ENOENT) {
        const auto why = failure("cannot remove " + authority);
        return fail(Fault::unavailable, why + "; make its folder writable, then try again");
    }
    auto found = live_attempts(attempts.get());
    if (!found) return tl::unexpected(found.error());
    auto& live = *found;
    const auto count = static_cast<int>(live.size());
    for (auto& each : live) {
        if (!ask_to_end(each, grace)) each.kill_at_us = boot_time_us();
    }
    if (begun) begun(count);
    while (true) {
        std::erase_if(live, [&](const Live& each) {
            if (!is_dead(each.folder.get())) return false;
            if (each.is_killed) tell_for(state, each);
            return true;
        });
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
