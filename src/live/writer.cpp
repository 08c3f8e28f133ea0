#include "live/writer.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <ctime>

#include "base/codec.hpp"
#include "base/overloaded.hpp"
#include "core/owed.hpp"
#include "core/schedule.hpp"
#include "store/room.hpp"

namespace stargate::live {

namespace {
/// Requests of one user that may wait for the writer. At 2,000 durable batches a second of many requests each this is
/// far less than a second of work; more than that is an overload that the caller had better hear of.
constexpr std::size_t most_waiting_of_one = 20'000;
/// The line in the inbox for what engines report: no uid.
constexpr std::int64_t of_engines = -1;
/// Requests decided in one batch: bounds how long the first of them waits for the last.
constexpr std::size_t most_in_a_batch = 2'000;
/// How long the writer waits without sleep for a submit that is being read, which takes some 40 us.
constexpr Duration readiness = std::chrono::microseconds{100};
/// What no decision waits for is written with what comes next, or after this: so the start and the end of a short job
/// cost one commit.
constexpr Duration patience = std::chrono::milliseconds{1};
constexpr Duration between_looks_at_disk = std::chrono::milliseconds{10};
constexpr Duration key_life = std::chrono::hours{24 * 7};
constexpr Duration retry_after_full = std::chrono::seconds{1};
/// How long a job that left State can still be asked for; its output is removed with it.
constexpr Duration history_life = std::chrono::hours{24 * 90};
/// Between two looks for keys and history rows that are old enough to be forgotten.
constexpr Duration between_looks_for_old = std::chrono::minutes{1};

bool is_report(const Input& input) {
    return std::holds_alternative<RanksRunning>(input) || std::holds_alternative<RanksEnded>(input) ||
           std::holds_alternative<AttemptLost>(input) || std::holds_alternative<Progress>(input) ||
           std::holds_alternative<ForeignFound>(input) || std::holds_alternative<ReplicaReady>(input) ||
           std::holds_alternative<ReplicaAsleep>(input) || std::holds_alternative<ReplicaFailed>(input) ||
           std::holds_alternative<ReplicaAnswered>(input) || std::holds_alternative<ServiceDemand>(input);
}

bool is_from_a_client(const Request& request) { return static_cast<bool>(request.done); }
}  // namespace

/// What one batch will write, while it is being decided.
struct Writer::Pending {
    store::Batch batch;
    std::vector<Result<Answer>> answers;
};

Writer::Writer(Parts parts, State state, std::uint64_t last_fact, std::uint64_t last_input)
    : parts_{std::move(parts)},
      core_{std::move(state)},
      due_{core_.state()},
      last_fact_{last_fact},
      last_input_{last_input} {
    figures_.last_fact = last_fact;
    thread_ = std::thread{[this] { work(); }};
}

Writer::~Writer() {
    {
        const std::lock_guard lock{mutex_};
        stopping_ = true;
    }
    arrived_.notify_one();
    thread_.join();
}

void Writer::get_ready() {
    {
        const std::lock_guard lock{mutex_};
        gets_ready_ = true;
        has_posted_ = false;
    }
    arrived_.notify_one();
}

bool Writer::post(Request request) {
    std::vector<Request> one;
    one.push_back(std::move(request));
    return post(std::move(one));
}

bool Writer::post(std::vector<Request> requests) {
    {
        const std::lock_guard lock{mutex_};
        if (stopping_ || (!requests.empty() && inbox_.size_of(requests.front().by) >= most_waiting_of_one))
            return false;
        for (auto& request : requests) inbox_.push(request.by, std::move(request));
        inbox_waits_until_ = {};
        has_posted_ = true;
    }
    arrived_.notify_one();
    return true;
}

void Writer::report(Report report) {
    Request request;
    const bool may_wait = std::holds_alternative<RanksRunning>(report) || std::holds_alternative<Progress>(report);
    std::visit([&](auto& what) { request.input = std::move(what); }, report);
    {
        const std::lock_guard lock{mutex_};
        if (!may_wait) inbox_waits_until_ = {};
        if (may_wait && inbox_.empty()) inbox_waits_until_ = parts_.clock.now() + patience;
        inbox_.push(of_engines, std::move(request));
    }
    arrived_.notify_one();
}

void Writer::between_batches(Chore chore) {
    {
        const std::lock_guard lock{mutex_};
        chores_.push_back(std::move(chore));
    }
    arrived_.notify_one();
}

void Writer::send_owed() {
    {
        const std::lock_guard lock{mutex_};
        send_owed_ = true;
    }
    arrived_.notify_one();
}

void Writer::start_no_more() { starts_no_more_ = true; }

Writer::Figures Writer::figures() const {
    const std::lock_guard lock{mutex_};
    return figures_;
}

/// Takes what has piled up; waits until there is something or a deadline of State comes. False: time to end.
bool Writer::wait_for_work(std::deque<Request>& taken, std::vector<Chore>& chores, bool& send_owed) {
    std::unique_lock lock{mutex_};
    while (true) {
        const auto now = parts_.clock.now();
        const bool may_try = try_again_ <= now;
        const auto& deadlines = core_.state().deadlines();
        auto wake = deadlines.empty() || !schedules_ || starts_no_more_ ? never : deadlines.begin()->at;
        if (!may_try) wake = std::max(wake, try_again_);
        if (!deferred_.empty() || pass_is_due_) wake = std::min(wake, try_again_);
        const bool due = may_try && (wake <= now || pass_goes_on_ || pass_is_due_);
        const bool looks_for_room = is_full() && look_for_room_at_ <= now;
        const bool has_mail = !inbox_.empty() && (inbox_waits_until_ <= now || stopping_);
        if (has_mail || !chores_.empty() || due || looks_for_room || send_owed_ || stopping_) {
            if (stopping_ && inbox_.empty() && chores_.empty()) return false;
            if (may_try) {
                taken = std::move(deferred_);
                deferred_.clear();
            }
            while (!inbox_.empty() && taken.size() < most_in_a_batch) { taken.push_back(inbox_.pop()); }
            chores.swap(chores_);
            send_owed = std::exchange(send_owed_, false);
            if (due) taken.push_back({Due{}, {}, {}, {}, {}});
            return true;
        }
        if (std::exchange(gets_ready_, false)) {
            lock.unlock();
            const auto until = std::chrono::steady_clock::now() + readiness;
            while (!has_posted_ && std::chrono::steady_clock::now() < until) {}
            lock.lock();
            continue;
        }
        if (is_full()) wake = std::min(wake, look_for_room_at_);
        if (!inbox_.empty()) wake = std::min(wake, inbox_waits_until_);
        if (wake == never) {
            arrived_.wait(lock);
        } else {
            arrived_.wait_for(lock, wake - now);
        }
    }
}

void Writer::work() {
    while (true) {
        std::deque<Request> requests;
        std::vector<Chore> chores;
        bool send_owed = false;
        if (!wait_for_work(requests, chores, send_owed)) return;
        const auto now = parts_.clock.now();
        if (is_full() && now >= look_for_room_at_) look_for_room(now);
        if (send_owed) {
            for (const auto& command : owed(core_.state())) parts_.carry_out(command);
            schedules_ = true;
        }
        for (auto& chore : chores) (void)holds(chore(parts_.store));
        if (!requests.empty() || send_owed) run_batch(std::move(requests));
        clean_up();
    }
}

void Writer::run_batch(std::deque<Request> requests) {
    const auto now = parts_.clock.now();
    if (now < try_again_) {  // it failed a moment ago: say so without trying, keep what must not be lost
        give_back(requests, not_written_);
        return;
    }
    const bool takes_work = std::any_of(requests.begin(), requests.end(), [](const Request& request) {
        return std::holds_alternative<Submit>(request.input);
    });
    if (takes_work && look_at_disk_at_ <= now) {
        look_at_disk_at_ = now + between_looks_at_disk;
        if (store::is_full(parts_.folder)) note_full(now);
    }
    Pending pending;
    pending.batch.at = now;
    const bool was_cut_off = std::exchange(pass_goes_on_, false);
    for (auto& request : requests) { pending.answers.push_back(decide_one(pending, now, request)); }
    if (schedules_ && !starts_no_more_) {
        const auto before_pass = core_.batch().size();
        const Pass pass{is_full(), was_cut_off && before_pass == 0, most_retired};
        (void)decide(core_, now, pass);
        log_facts(pending.batch, core_, now, pass, before_pass);
        pass_goes_on_ = !is_full() && is_cut_off(core_.state(), now);
    }
    pass_is_due_ = false;
    commit(std::move(pending), now, std::move(requests));
}

Result<Answer> Writer::decide_one(Pending& pending, Instant now, Request& request) {
    if (auto known = known_key(pending, now, request)) return *known;
    if (is_full()) {  // what room is left is for the ends of what runs
        if (std::holds_alternative<Submit>(request.input)) return tl::unexpected(store::no_room(parts_.folder));
        if (const auto* step = std::get_if<Progress>(&request.input)) {
            late_steps_[step->attempt] = *step;
            return Answer{};
        }
    }
    const auto from = core_.batch().size();
    auto answer = decide(core_, now, request.input);
    log_facts(pending.batch, core_, now, request.input, from);
    if (!answer.accepted() || !std::holds_alternative<Submit>(request.input)) return answer;
    const auto& submit = std::get<Submit>(request.input);
    if (request.launch) {
        pending.batch.launches.push_back(
            {answer.job, static_cast<std::uint32_t>(submit.count), encoded(*request.launch)});
    }
    if (!request.key.empty()) {
        const auto tenant = core_.state().tenant_named(submit.tenant).value_or(TenantId{});
        pending.batch.keys.push_back({tenant, request.key, request.body_hash, answer.job, now + key_life});
    }
    return answer;
}

/// The answer that this key was given before, if it was.
std::optional<Result<Answer>> Writer::known_key(const Pending& pending, Instant now, const Request& request) {
    const auto* submit = std::get_if<Submit>(&request.input);
    if (submit == nullptr || request.key.empty()) return std::nullopt;
    const auto tenant = core_.state().tenant_named(submit->tenant).value_or(TenantId{});
    std::optional<store::KeyRow> row;
    for (const auto& key : pending.batch.keys) {
        if (key.tenant == tenant && key.key == request.key) row = key;
    }
    if (!row) {
        const auto stored = parts_.store.find_key(tenant, request.key);
        if (!stored) return Result<Answer>{tl::unexpected(stored.error())};
        if (*stored && (*stored)->expires_at > now) row = **stored;
    }
    if (!row) return std::nullopt;
    if (row->body_hash != request.body_hash) return Answer{{Why::key_conflict, 0, 0, row->first_job.value}, {}};
    return Answer{{}, row->first_job};
}

void Writer::commit(Pending pending, Instant now, std::deque<Request> requests) {
    log_history(pending.batch, core_);
    const auto over_before = launches_over_.size();
    for (const auto& retired : core_.retired()) {
        if (core_.state().find<Spec>(retired.job.spec) == nullptr) launches_over_.push_back(retired.job.spec);
    }
    if (!pending.batch.inputs.empty()) {
        timespec begun{}, ended{};
        clock_gettime(CLOCK_MONOTONIC, &begun);
        const auto committed = parts_.store.commit(pending.batch);
        clock_gettime(CLOCK_MONOTONIC, &ended);
        if (committed.outcome == store::Outcome::unknown) parts_.stop_process(committed.error);
        if (committed.outcome == store::Outcome::not_written) {
            core_.undo_to({});
            pass_goes_on_ = false;
            pass_is_due_ = true;
            launches_over_.resize(over_before);
            const bool wants_room = committed.error.fault == Fault::full;
            if (wants_room) note_full(now);
            try_again_ = now + retry_after_full;
            not_written_ = wants_room ? store::no_room(parts_.folder) : committed.error;
            give_back(requests, not_written_);
            return;
        }
        last_input_ = committed.first_input + pending.batch.inputs.size() - 1;
        last_fact_ = committed.first_fact + pending.batch.facts.size() - 1;
        const std::lock_guard lock{mutex_};
        ++figures_.batches;
        figures_.inputs += pending.batch.inputs.size();
        figures_.facts += pending.batch.facts.size();
        figures_.last_fact = last_fact_;
        const auto took = static_cast<std::uint64_t>((ended.tv_sec - begun.tv_sec) * 1'000'000 +
                                                     (ended.tv_nsec - begun.tv_nsec) / 1000);
        figures_.commit_microseconds += took;
        figures_.longest_commit_microseconds = std::max(figures_.longest_commit_microseconds, took);
    }
    const auto commands = due_.after(core_.state(), core_.batch());
    View::Batch folded{now, core_.batch(), last_fact_, {}};
    core_.commit();
    for (const auto& command : commands) parts_.carry_out(command);
    for (std::size_t i = 0; i < requests.size(); ++i) {
        if (!is_from_a_client(requests[i])) continue;
        folded.answers.push_back(
            [done = std::move(requests[i].done), answer = std::move(pending.answers[i])] { done(answer); });
    }
    parts_.view.fold(std::move(folded));
}

/// The batch was not written: clients hear it, what engines saw is kept and tried again.
void Writer::give_back(std::deque<Request>& requests, const Error& why) {
    View::Batch answers;
    for (auto& request : requests) {
        if (is_from_a_client(request)) {
            answers.answers.push_back([done = std::move(request.done), why] { done(tl::unexpected(why)); });
        } else if (is_report(request.input)) {
            defer(std::move(request));
        }
    }
    parts_.view.fold(std::move(answers));
}

/// Of levels that are told again and again the newest is enough: so this stays as small as the work that runs, however
/// long the disk is full.
void Writer::defer(Request report) {
    const auto replaces = [&](const Request& older) {
        const auto* step = std::get_if<Progress>(&report.input);
        const auto* older_step = std::get_if<Progress>(&older.input);
        if (step != nullptr && older_step != nullptr) return step->attempt == older_step->attempt;
        const auto* foreign = std::get_if<ForeignFound>(&report.input);
        const auto* older_foreign = std::get_if<ForeignFound>(&older.input);
        if (foreign != nullptr && older_foreign != nullptr) return foreign->node == older_foreign->node;
        const auto* demand = std::get_if<ServiceDemand>(&report.input);
        const auto* older_demand = std::get_if<ServiceDemand>(&older.input);
        return demand != nullptr && older_demand != nullptr && demand->service == older_demand->service;
    };
    std::erase_if(deferred_, replaces);
    deferred_.push_back(std::move(report));
}

template <class T>
bool Writer::holds(const Result<T>& done) const {
    if (!done && done.error().fault == Fault::unknown_outcome) parts_.stop_process(done.error());
    return done.has_value();
}

/// Housekeeping that no answer waits for. What fails for want of room is done after a later batch.
void Writer::clean_up() {
    const auto now = parts_.clock.now();
    if (!is_full()) look_for_room(now);
    if (is_full()) return;
    if (!launches_over_.empty()) forget_what_is_over();
    if (now >= look_for_old_at_) forget_what_is_old(now);
}

/// The store keeps room for the ends of what runs, and says when it cannot.
void Writer::look_for_room(Instant now) {
    const auto kept = parts_.store.maintain();
    if (!holds(kept) && kept.error().fault == Fault::full) return note_full(now);
    if (is_full() && store::is_full(parts_.folder)) return note_full(now);
    if (!full_.exchange(false)) return;
    pass_is_due_ = true;  // now what waited may start
    const std::lock_guard lock{mutex_};
    for (auto& [attempt, step] : late_steps_) inbox_.push(of_engines, {step, {}, {}, {}, {}});
    late_steps_.clear();
}

void Writer::note_full(Instant now) {
    full_ = true;
    look_for_room_at_ = now + retry_after_full;
}

void Writer::forget_what_is_over() {
    store::Retention retention;
    retention.launches.swap(launches_over_);
    if (!holds(parts_.store.forget(retention))) launches_over_.swap(retention.launches);
}

void Writer::forget_what_is_old(Instant now) {
    store::Retention retention;
    retention.keys_expired_before = now;
    retention.history_before = now - history_life;
    const auto gone = parts_.store.forget(retention);
    // As long as there is more than fits into one call, some goes after every batch.
    if (!holds(gone) || *gone == 0) look_for_old_at_ = now + between_looks_for_old;
}

}  // namespace stargate::live
