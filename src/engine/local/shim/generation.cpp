#include "engine/local/shim/generation.hpp"

#include <sys/prctl.h>
#include <sys/wait.h>
#include <csignal>

#include <algorithm>

#include "engine/local/shim/init_messages.hpp"
#include "engine/local/shim/kill_children.hpp"
#include "engine/local/shim/notice.hpp"

namespace stargate::local {

namespace {
/// What ranks get to end in when another of their gang has failed: they wait for it in vain, and may want to say so.
constexpr std::int64_t broken_gang_grace_us = 5'000'000;
constexpr std::int64_t init_patience_us = 5'000'000;
/// What a shell that is told that its terminal goes needs to go too.
constexpr std::int64_t longest_hang_up_us = 1'000'000;
/// A longer grace than any makes sense; keeps sums of times in range.
constexpr std::int64_t longest_grace_us = 365LL * 24 * 3600 * 1'000'000;
}  // namespace

Generation::Generation(AttemptPlace place, Run run) : place_{place}, run_{run}, kill_at_us_{never_us} {}

void Generation::begin() {
    if (place_.spec.confinement == Confinement::none) prctl(PR_SET_CHILD_SUBREAPER, 1);
    init_ = start_init(place_.spec, run_.gpus, place_.lock);
    if (init_) return;
    outcome_ = Outcome{EndKind::refused, 0, failure("cannot make the namespaces")};
    standing_ = Standing::over;
}

void Generation::release() {
    is_released_ = true;
    if (is_built_ && !is_started_ && !warning_ && init_) start_ranks(0);
}

void Generation::start_ranks(std::int32_t from) {
    std::vector<Fd> pipes;
    std::vector<int> numbers;
    for (auto rank = from; !place_.spec.terminal && rank < run_.ranks; ++rank) {
        for (const auto stream : {std::uint8_t{1}, std::uint8_t{2}}) {
            pipes.push_back(place_.output.add_stream(run_.first_rank + rank, stream));
            numbers.push_back(pipes.back().get());
        }
    }
    is_started_ = true;
    alive_.resize(static_cast<std::size_t>(from));
    alive_.resize(static_cast<std::size_t>(run_.ranks), true);
    if (send_packet(init_->link.get(), encode(InitOrder{StartRanks{run_, from}}), numbers)) return;
    outcome_ = Outcome{EndKind::refused, 0, failure("cannot hand the ranks to their init")};
    kill_leaving();
}

void Generation::signal_ranks(std::int32_t number, std::int32_t from, std::int32_t until) {
    if (init_) send_packet(init_->link.get(), encode(InitOrder{SignalRanks{number, from, until}}));
}

std::int32_t Generation::staying() const {
    return warning_ && place_.spec.resize_in_place ? std::max(warning_->keep, 0) : 0;
}

std::int32_t Generation::alive_from(std::int32_t rank) const {
    std::int32_t count = 0;
    for (auto i = static_cast<std::size_t>(rank); i < alive_.size(); ++i) count += alive_[i] ? 1 : 0;
    return count;
}

void Generation::warn(const End& end) {
    if (standing_ == Standing::over) return;
    const auto grace = std::clamp<std::int64_t>(end.grace_us, 0, longest_grace_us);
    if (gang_broken_) {  // they are ending of their own failure, which is what will be told
        kill_at_us_ = std::min(kill_at_us_, boot_time_us() + grace);
        return;
    }
    const auto already_leaving_from = warning_ ? staying() : run_.ranks;
    const auto keep_before = warning_ ? warning_->keep : end.keep;
    const bool is_cancelled = warning_ && warning_->cause == cancel_cause;  // nothing takes that back
    if (standing_ == Standing::resized) standing_ = Standing::running;      // told to end after all
    warning_ = end;
    warning_->keep = std::min(end.keep, keep_before);
    if (is_cancelled) {
        warning_->cause = cancel_cause;
        warning_->next_world = 0;
    }
    kill_at_us_ = std::min(kill_at_us_, boot_time_us() + grace);
    write_notice(place_.job_folder, {warning_->cause, std::max<std::int64_t>(kill_at_us_ - boot_time_us(), 0),
                                     warning_->next_world, run_.generation});
    if (!is_started_) {  // nothing runs yet: nothing needs time to end
        kill_at_us_ = 0;
        return;
    }
    signal_ranks(SIGTERM, staying(), already_leaving_from);
    if (place_.spec.terminal) hang_up_at_us_ = kill_at_us_ - std::min(grace / 2, longest_hang_up_us);
    settle_leaving();
}

void Generation::go_on(const Run& run) {
    const auto ranks_before = standing_ == Standing::resized ? alive_from(0) : run_.ranks;
    run_ = run;
    warning_.reset();
    outcome_.reset();
    kill_at_us_ = never_us;
    was_killed_ = false;
    was_asked_to_kill_ = false;
    has_run_ = false;
    write_notice(place_.job_folder, {"resized", 0, run.world_size, run.generation, run.port});
    if (run.ranks > ranks_before) {
        standing_ = Standing::starting;
        start_ranks(ranks_before);
    } else {
        standing_ = Standing::running;
        has_run_ = true;
    }
}

void Generation::list(std::vector<pollfd>& polled) const {
    polled.push_back({init_ ? init_->link.get() : -1, POLLIN, 0});
    polled.push_back({init_ ? init_->process.get() : -1, POLLIN, 0});
}

void Generation::take_ready(const std::vector<pollfd>& polled, std::size_t first) {
    if (!init_) return;
    if (polled[first].revents != 0) take_answers();
    if (polled[first + 1].revents != 0) {
        take_answers();
        init_ended();
    }
}

void Generation::take_answers() {
    bool closed = false;
    while (auto packet = receive_packet(init_->link.get(), closed)) {
        const auto answer = decode<InitAnswer>(packet->message);
        if (!answer) continue;
        if (const auto* built = std::get_if<Built>(&*answer)) {
            is_built_ = built->why.empty();
            if (!is_built_) outcome_ = Outcome{built->kind, 0, built->why};
            if (is_built_ && is_released_ && !is_started_ && !warning_) start_ranks(0);
        }
        if (const auto* executed = std::get_if<Executed>(&*answer)) {
            if (!executed->why.empty()) {
                const auto kind = executed->code == 0 ? EndKind::refused : EndKind::could_not_start;
                if (!outcome_) outcome_ = Outcome{kind, executed->code, executed->why};
                break_gang();
            } else if (standing_ == Standing::starting) {
                standing_ = Standing::running;
                has_run_ = true;
            }
        }
        if (const auto* rank = std::get_if<RankEnded>(&*answer)) rank_ended(rank->local_rank, rank->status);
        if (std::holds_alternative<TerminalMade>(*answer) && !packet->descriptors.empty()) {
            place_.output.add_terminal(run_.first_rank, std::move(packet->descriptors.front()));
        }
        if (std::holds_alternative<AllGone>(*answer)) standing_ = Standing::over;
    }
    if (closed) init_->link.reset();  // its pidfd says the rest
    settle_leaving();
}

void Generation::rank_ended(std::int32_t rank, std::int32_t status) {
    if (rank < 0 || static_cast<std::size_t>(rank) >= alive_.size()) return;
    alive_[static_cast<std::size_t>(rank)] = false;
    if (standing_ == Standing::resized && warning_) {  // one that stayed: the warning was not for it
        warning_.reset();
        outcome_.reset();
    }
    const bool failed = status != 0;
    const bool was_told = (warning_ && rank >= staying()) || gang_broken_;
    if (failed && !outcome_ && !gang_broken_) {
        const auto name = "rank " + std::to_string(run_.first_rank + rank);
        if (WIFSIGNALED(status)) {
            const char* signal_name = sigabbrev_np(WTERMSIG(status));
            outcome_ = Outcome{EndKind::signalled, WTERMSIG(status),
                               name + " was ended by SIG" + (signal_name != nullptr ? signal_name : "?")};
        } else {
            outcome_ = Outcome{EndKind::exited, WEXITSTATUS(status),
                               name + " ended with status " + std::to_string(WEXITSTATUS(status))};
        }
    }
    if (failed && !was_told) break_gang();
}

void Generation::break_gang() {
    if (gang_broken_ || alive_from(0) == 0) return;
    gang_broken_ = true;
    kill_at_us_ = std::min(kill_at_us_, boot_time_us() + broken_gang_grace_us);
    write_notice(place_.job_folder, {"gang_broken", broken_gang_grace_us, 0, run_.generation});
    signal_ranks(SIGTERM, 0, run_.ranks);
}

void Generation::settle_leaving() {
    if (standing_ != Standing::running || !warning_ || gang_broken_) return;
    if (staying() > 0 && warning_->next_world > 0 && alive_from(staying()) == 0) {
        standing_ = Standing::resized;
        kill_at_us_ = never_us;
    }
}

std::int64_t Generation::next_time() const {
    return standing_ == Standing::over ? never_us : std::min(kill_at_us_, hang_up_at_us_);
}

void Generation::act_on_time(std::int64_t now_us) {
    if (standing_ == Standing::over) return;
    if (now_us >= hang_up_at_us_) {
        hang_up_at_us_ = never_us;
        signal_ranks(SIGHUP, 0, run_.ranks);
    }
    if (now_us >= kill_at_us_) kill_leaving();
}

void Generation::kill_leaving() {
    kill_at_us_ = never_us;
    was_killed_ = is_started_;
    if (!init_) return;
    const auto from = gang_broken_ ? 0 : staying();
    const bool is_namespaced = place_.spec.confinement != Confinement::none;
    if (from == 0 && (is_namespaced || !is_started_ || was_asked_to_kill_)) {
        signal_process(init_->process, SIGKILL);  // the kernel kills the namespace with it
        return;
    }
    signal_ranks(SIGKILL, from, run_.ranks);
    // Without a namespace init does it, process by process; should it hang in a start, its own end kills the ranks.
    was_asked_to_kill_ = true;
    if (from == 0) kill_at_us_ = boot_time_us() + init_patience_us;
}

void Generation::init_ended() {
    if (standing_ != Standing::over && !was_killed_ && !outcome_ && !warning_) {
        outcome_ = Outcome{EndKind::killed, SIGKILL, "the init of its ranks was killed from outside"};
    }
    // Without a namespace nobody else has taken down what is beneath it; it has come to us.
    if (place_.spec.confinement == Confinement::none && standing_ != Standing::over) kill_children(-1);
    standing_ = Standing::over;
    wait_for_init();
}

void Generation::wait_for_init() {
    if (!init_) return;
    init_->link.reset();  // an init that still waits for orders ends
    waitpid(init_->pid, nullptr, 0);
    init_.reset();
}

Ended Generation::outcome() const {
    const auto outcome = outcome_.value_or(Outcome{});
    Ended ended{.generation = run_.generation,
                .kind = outcome.kind,
                .code = outcome.code,
                .detail = outcome.detail,
                .warned = warning_.has_value(),
                .step = read_progress(place_.job_folder),
                .final = !(warning_ && warning_->next_world > 0),
                .left = standing_ == Standing::resized ? staying() : 0,
                .cancelled = warning_ && warning_->cause == cancel_cause};
    if (was_killed_ && warning_) {
        ended.kind = EndKind::killed;
        ended.code = SIGKILL;
        ended.detail = "did not end before the deadline";
    } else if (!is_started_ && warning_) {
        ended.kind = EndKind::signalled;
        ended.code = SIGTERM;
        ended.detail = "told to end before it started";
    }
    return ended;
}

}  // namespace stargate::local
