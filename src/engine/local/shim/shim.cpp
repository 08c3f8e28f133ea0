#include "engine/local/shim/shim.hpp"

#include <fcntl.h>
#include <sys/inotify.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <csignal>

#include "engine/local/shim/notice.hpp"

namespace stargate::local {

namespace {
constexpr int spec_timeout_ms = 10'000;
/// How long an ended shim waits for a live control plane to commit the end. When it does, no exit record is needed:
/// one disk flush less for every job. It dying closes the link, and the record is written at once.
constexpr std::int64_t dismissal_wait_us = 100'000;
constexpr std::int64_t first_record_pause_us = 100'000;
constexpr std::int64_t longest_record_pause_us = 5'000'000;
constexpr std::int64_t progress_pause_us = 500'000;  // progress is for people and for choosing victims

Refused refused(std::string_view what) {
    const int error = errno;
    return {failure(what, error), is_shortage(error)};
}
}  // namespace

int Shim::run() {
    fcntl(control_.get(), F_SETFD, FD_CLOEXEC);
    for (const int ignored : {SIGPIPE, SIGTERM, SIGINT, SIGHUP, SIGQUIT}) signal(ignored, SIG_IGN);
    umask(0);  // modes are meant as they are given
    if (!receive_spec()) return 2;
    if (const auto refusal = take_folder()) {
        links_.tell(*refusal);
        return 0;
    }
    const auto refusal = open_files();
    if (refusal && refusal->is_shortage) {
        give_folder_back();
        links_.tell(*refusal);
        return 0;
    }
    auto trouble = refusal ? std::optional{refusal->why} : std::nullopt;
    if (!trouble && spec_.account.uid == 0) trouble = "jobs never run as root";
    generation_.emplace(AttemptPlace{spec_, lock_.get(), job_folder_.get(), output_}, spec_.first);
    if (!trouble) generation_->begin();
    // Init builds the sandbox while it is written down, the folder becomes durable and we can be found; only then may
    // anything of the job run.
    if (!trouble && !note_record()) trouble = failure("cannot write the shim's record");
    if (!trouble && !links_.listen()) trouble = failure("cannot listen");
    if (!trouble) {
        if (const auto kept = records_->keep_claim(); !kept) trouble = kept.error().detail;
    }
    if (trouble) {
        finish({.generation = spec_.first.generation, .kind = EndKind::refused, .detail = *trouble, .final = true});
    } else {
        generation_->release();
    }
    links_.take_early([this](const Order& order) { return obey(order); });
    while (!(last_end_ && last_end_->final && (is_recorded_ || is_dismissed_))) wait_and_take();
    if (generation_) generation_->wait_for_init();
    return 0;
}

bool Shim::receive_spec() {
    FrameReader reader;
    pollfd polled{control_.get(), POLLIN, 0};
    while (poll(&polled, 1, spec_timeout_ms) > 0) {
        char bytes[16 << 10];
        const auto got = recv(control_.get(), bytes, sizeof bytes, 0);
        if (got <= 0) return false;
        reader.append({bytes, static_cast<std::size_t>(got)});
        if (const auto payload = reader.next()) {
            auto order = decode<Order>(*payload);
            auto* spec = order ? std::get_if<Spec>(&*order) : nullptr;
            if (spec == nullptr) return false;
            spec_ = std::move(*spec);
            obeys_ = spec_.first.by;
            links_.adopt(std::move(control_), std::move(reader));
            return true;
        }
        if (reader.is_broken()) return false;
    }
    return false;
}

bool Shim::is_authorised() const {
    const auto path = spec_.state + "/" + authority_name;
    const auto authority = read_record<AuthorityRecord>(AT_FDCWD, path.c_str());
    return authority && authority->by == spec_.first.by;
}

std::optional<Refused> Shim::take_folder() {
    const Refused is_late{"another control plane has taken over since", false};
    if (!is_authorised()) return is_late;
    attempts_ = open_attempts(spec_.state);
    if (!attempts_) return refused("cannot open the folder of attempts");
    records_.emplace(spec_.state, spec_.attempt);
    if (const auto claimed = records_->claim(); !claimed) {
        return Refused{claimed.error().detail, claimed.error().fault == Fault::full};
    }
    folder_ = open_attempt(attempts_.get(), spec_.attempt);
    if (folder_ && fchmod(folder_.get(), 0711) == 0 && fchdir(folder_.get()) == 0) lock_ = take_lock(folder_.get());
    if (!lock_) {
        auto refusal = refused("cannot enter and lock the attempt's folder");
        if (refusal.is_shortage) give_folder_back();
        return refusal;
    }
    // A control plane that came back while we were on our way may have taken the lock, found us absent and left this.
    if (records_->is_buried()) return Refused{"a tombstone stands here", false};
    // Or it found nothing, because we had not come this far, and has had the attempt run, end and be forgotten. One
    // that takes office after this line finds our folder.
    if (!is_authorised()) {
        give_folder_back();
        return is_late;
    }
    return std::nullopt;
}

void Shim::give_folder_back() {
    unlinkat(folder_.get(), job_folder_name, AT_REMOVEDIR);
    unlinkat(folder_.get(), shim_record_name, 0);
    unlinkat(attempts_.get(), attempt_folder_name(spec_.attempt).c_str(), AT_REMOVEDIR);
}

std::optional<Refused> Shim::open_files() {
    if (mkdirat(folder_.get(), job_folder_name, 0700) != 0) return refused("cannot make the job's own folder");
    job_folder_ = Fd{openat(folder_.get(), job_folder_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)};
    if (!job_folder_) return refused("cannot open the job's own folder");
    if (geteuid() == 0 && fchown(job_folder_.get(), spec_.account.uid, spec_.account.gid) != 0) {
        return refused("cannot give the job its own folder");
    }
    if (!output_.write_to(spec_.log, spec_.output_limit)) return refused("cannot keep the output in " + spec_.log);
    gpus_ = spec_.first.gpus;
    if (!note_record()) return refused("cannot write the shim's record");  // with room for the init's name
    look_at_progress_us_ = boot_time_us() + progress_pause_us;
    return std::nullopt;
}

/// Who we are is a hint for finding us while we live; it need not survive a power cut, which we do not either.
bool Shim::note_record() const {
    const Fd record{openat(folder_.get(), shim_record_name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600)};
    return record && write_all(record.get(), to_file(about_us()));  // as long as the last one, so in its place
}

ShimRecord Shim::about_us() const {
    const auto init = generation_ ? generation_->init() : 0;
    const auto times = std::max(1, std::popcount(gpus_));  // as the core counts what is asked of a host
    return {.boot_id = spec_.boot_id,
            .pid = getpid(),
            .start_ticks = start_ticks(getpid()),
            .obeys = obeys_,
            .job = spec_.job,
            .gpus = gpus_,
            .init = {.pid = init, .start_ticks = init != 0 ? start_ticks(init) : 0},
            .milli_cpus = spec_.milli_cpus_per_gpu * times,
            .memory = spec_.bytes_per_gpu * times,
            .grace_us = spec_.grace_us};
}

bool Shim::has_right(const Speaker& speaker) {
    if (speaker.incarnation != obeys_.incarnation || speaker.term < obeys_.term) {
        links_.tell(Outranked{obeys_});
        return false;
    }
    if (speaker.term > obeys_.term) {
        const auto before = std::exchange(obeys_, speaker);
        if (!records_->keep_shim(about_us()))
            obeys_ = before;  // not kept is not promised; the order itself is rightful
    }
    return true;
}

bool Shim::obey(const Order& order) {
    const auto* speaker = std::visit(
        [](const auto& kind) -> const Speaker* {
            if constexpr (requires { kind.by; }) return &kind.by;
            return nullptr;
        },
        order);
    if (speaker == nullptr || !has_right(*speaker)) return false;
    if (const auto* run = std::get_if<Run>(&order)) next_generation(*run);
    if (const auto* what = std::get_if<End>(&order)) end(*what);
    if (std::holds_alternative<Ask>(order)) tell_standing();
    if (std::holds_alternative<Dismiss>(order)) be_dismissed();
    if (const auto* typed = std::get_if<Typed>(&order)) output_.type(typed->bytes);
    if (const auto* window = std::get_if<Window>(&order)) output_.set_window(window->rows, window->columns);
    return true;
}

void Shim::next_generation(const Run& run) {
    using Standing = Generation::Standing;
    const bool is_later = last_end_ && run.generation > last_end_->generation;
    // Resized in place, and the ranks that stayed ended before their new generation was named: it ends with them.
    if (is_later && last_end_->final) last_end_->generation = run.generation;
    const bool is_awaited = told_ == Standing::resized || (told_ == Standing::over && !last_end_->final);
    const bool grows = told_ == Standing::running && generation_->grows_into(run.generation) && run.ranks > 0;
    if ((!is_later || !is_awaited) && !grows) return tell_standing();
    gpus_ = run.gpus;
    // For a store that does not know us, at worst it sees what we used before; and for who finds us killed.
    const auto note = [this] { (void)note_record(); };
    if (grows || generation_->standing() == Standing::resized) {
        generation_->go_on(run);
        note();
    } else {
        generation_->wait_for_init();
        unlinkat(job_folder_.get(), "notice", 0);  // it spoke to the last generation
        generation_.emplace(AttemptPlace{spec_, lock_.get(), job_folder_.get(), output_}, run);
        generation_->begin();
        note();
        generation_->release();
    }
    told_ = Standing::starting;
    settle();
}

void Shim::end(const End& what) {
    using Standing = Generation::Standing;
    const auto standing = generation_->standing();
    const bool is_now = what.generation == 0 || what.generation == generation_->number();
    // The generation that was to follow the last end, named by nothing but its own end: it never runs.
    const bool is_next = last_end_ && what.generation > last_end_->generation;
    if (is_next && last_end_->final) last_end_->generation = what.generation;
    const bool is_named_now = (standing == Standing::resized && is_next) || generation_->grows_into(what.generation);
    if (is_named_now) generation_->take_number(what.generation);
    if (standing != Standing::over && (is_now || is_named_now)) {
        if (told_ == Standing::resized) told_ = Standing::running;  // what comes of it is told again
        return generation_->warn(what);
    }
    if (standing == Standing::over && last_end_ && !last_end_->final && (is_next || (is_now && what.next_world == 0))) {
        auto ended = *last_end_;
        ended.generation = std::max(ended.generation, what.generation);
        ended.warned = true;
        ended.cancelled = what.cause == cancel_cause;
        ended.final = what.next_world == 0;
        return finish(std::move(ended));
    }
    tell_standing();
}

void Shim::tell_standing() {
    if (told_ == Generation::Standing::running) links_.tell(Running{generation_->number()});
    if ((told_ == Generation::Standing::resized || told_ == Generation::Standing::over) && last_end_) {
        links_.tell(*last_end_);
    }
}

void Shim::settle() {
    using Standing = Generation::Standing;
    const auto standing = generation_->standing();
    if (standing == told_ || told_ == Standing::over) return;
    if (told_ == Standing::starting && generation_->has_run()) {
        told_ = Standing::running;
        links_.tell(Running{generation_->number()});
    }
    if (standing == Standing::resized) {
        told_ = standing;
        last_end_ = generation_->outcome();
        links_.tell(*last_end_);
    } else if (standing == Standing::over) {
        output_.drain();
        auto ended = generation_->outcome();
        if (const auto loss = output_.untold_loss(); !loss.empty()) {
            ended.detail += (ended.detail.empty() ? "" : "; ") + loss;
        }
        finish(std::move(ended));
    }
}

void Shim::finish(Ended ended) {
    told_ = Generation::Standing::over;
    last_end_ = std::move(ended);
    links_.tell(*last_end_);
    if (!last_end_->final) return generation_->wait_for_init();
    record_at_us_ = boot_time_us() + (links_.has_listener() ? dismissal_wait_us : 0);
}

void Shim::keep_record() {
    is_recorded_ = records_->keep_end({.obeyed = obeys_, .ended = *last_end_}).has_value();
    // The disk may be full. The lock stays held, so nobody takes the attempt for lost, and whoever asks is told.
    record_pause_us_ = std::clamp(record_pause_us_ * 2, first_record_pause_us, longest_record_pause_us);
    record_at_us_ = is_recorded_ ? never_us : boot_time_us() + record_pause_us_;
}

void Shim::be_dismissed() {
    // Also between two generations: the job was ended there, and no other order will come.
    if (!last_end_ || told_ != Generation::Standing::over) return;
    last_end_->final = true;
    is_dismissed_ = true;
    // Should the control plane die before it has removed the folder, its successor sees that nothing is owed to it.
    (void)records_->dismiss();
}

/// Whoever types waits for this.
void Shim::tell_taken() {
    if (const auto bytes = output_.taken(); bytes > 0) links_.tell(Taken{bytes});
}

void Shim::wait_and_take() {
    arm_timer(next_time());
    // The progress watch rests between two looks, so a job that writes without end costs nothing.
    const bool may_look = look_at_progress_us_ == never_us;
    std::vector<pollfd> polled{{timer_.get(), POLLIN, 0}, {may_look ? progress_watch_.get() : -1, POLLIN, 0}};
    const auto generation_at = polled.size();
    generation_->list(polled);
    const auto output_at = polled.size();
    output_.list(polled);
    const auto links_at = polled.size();
    links_.list(polled);
    if (poll(polled.data(), polled.size(), -1) < 0) return;

    // What was printed before the end is taken before the end is told; the links come last, for they may start a
    // generation and so change what is listed.
    if (polled[1].revents != 0) look_at_progress();
    output_.take_ready(polled, output_at);
    generation_->take_ready(polled, generation_at);
    act_on_time();
    settle();
    links_.take_ready(polled, links_at, [this](const Order& order) { return obey(order); });
    settle();
    tell_taken();
    // The control plane died before it could commit the end: nobody else keeps it now.
    if (last_end_ && last_end_->final && !is_recorded_ && record_pause_us_ == 0 && !links_.has_listener())
        keep_record();
}

void Shim::arm_timer(std::int64_t at_us) {
    if (at_us == armed_us_) return;
    armed_us_ = at_us;
    // CLOCK_BOOTTIME: a deadline passes while the machine sleeps, too.
    if (!timer_) timer_ = Fd{timerfd_create(CLOCK_BOOTTIME, TFD_NONBLOCK | TFD_CLOEXEC)};
    itimerspec when{};
    if (at_us != never_us) {
        const auto sane = std::max<std::int64_t>(at_us, 1);
        when.it_value = {.tv_sec = sane / 1'000'000, .tv_nsec = sane % 1'000'000 * 1000};
    }
    timerfd_settime(timer_.get(), TFD_TIMER_ABSTIME, &when, nullptr);
}

std::int64_t Shim::next_time() const {
    return std::min({generation_->next_time(), look_at_progress_us_, record_at_us_});
}

void Shim::act_on_time() {
    const auto now = boot_time_us();
    if (now >= armed_us_) armed_us_ = never_us - 1;  // has fired: to be armed anew, whatever comes next
    generation_->act_on_time(now);
    if (now >= look_at_progress_us_) {
        look_at_progress_us_ = never_us;
        if (!progress_watch_) look_at_progress();
    }
    if (now >= record_at_us_ && !is_dismissed_) keep_record();
}

void Shim::look_at_progress() {
    if (!progress_watch_) {  // a short job never gets here, and never pays for the watch
        progress_watch_ = Fd{inotify_init1(IN_NONBLOCK | IN_CLOEXEC)};
        const auto watched = std::string{"./"} + job_folder_name;
        if (progress_watch_) inotify_add_watch(progress_watch_.get(), watched.c_str(), IN_CLOSE_WRITE | IN_MOVED_TO);
    }
    char events[4096];
    while (read(progress_watch_.get(), events, sizeof events) > 0) {}
    look_at_progress_us_ = boot_time_us() + progress_pause_us;
    const auto step = read_progress(job_folder_.get());
    if (step <= step_) return;
    step_ = step;
    links_.tell(Stepped{step});
}

}  // namespace stargate::local
