#include "live/writer.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <ctime>

#include "base/codec.hpp"
#include "base/overloaded.hpp"
#include "core/owed.hpp"

namespace stargate::live {

namespace {
/// Client requests that may wait for the writer. At 2,000 durable batches a second of many requests each this is far
/// less than a second of work; more than that is an overload that the caller had better hear of.
constexpr std::size_t most_waiting_requests = 20'000;
/// Requests decided in one batch: bounds how long the first of them waits for the last.
constexpr std::size_t most_in_a_batch = 2'000;
constexpr Duration key_life = std::chrono::hours{24 * 7};
constexpr Duration retry_after_full = std::chrono::seconds{1};

bool is_report(const Input& input) {
    return std::holds_alternative<RanksRunning>(input) || std::holds_alternative<RanksEnded>(input) ||
           std::holds_alternative<AttemptLost>(input) || std::holds_alternative<Progress>(input) ||
           std::holds_alternative<ForeignFound>(input);
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

bool Writer::post(Request request) {
    {
        const std::lock_guard lock{mutex_};
        if (stopping_ || inbox_.size() >= most_waiting_requests) return false;
        inbox_.push_back(std::move(request));
    }
    arrived_.notify_one();
    return true;
}

void Writer::report(Report report) {
    Request request;
    std::visit([&](auto& what) { request.input = std::move(what); }, report);
    {
        const std::lock_guard lock{mutex_};
        inbox_.push_back(std::move(request));
    }
    arrived_.notify_one();
}

void Writer::between_batches(std::function<void(store::Store&)> work) {
    {
        const std::lock_guard lock{mutex_};
        chores_.push_back(std::move(work));
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

Writer::Figures Writer::figures() const {
    const std::lock_guard lock{mutex_};
    return figures_;
}

/// Takes what has piled up; waits until there is something or a deadline of State comes. False: time to end.
bool Writer::wait_for_work(std::deque<Request>& taken, std::vector<std::function<void(store::Store&)>>& chores,
                           bool& send_owed) {
    std::unique_lock lock{mutex_};
    while (true) {
        const auto now = parts_.clock.now();
        const bool may_try = try_again_ <= now;
        const auto& deadlines = core_.state().deadlines();
        auto wake = deadlines.empty() || !schedules_ ? never : deadlines.begin()->at;
        if (!may_try) wake = std::max(wake, try_again_);
        if (!deferred_.empty()) wake = std::min(wake, try_again_);
        const bool due = may_try && wake <= now;
        if (!inbox_.empty() || !chores_.empty() || due || send_owed_ || stopping_) {
            if (stopping_ && inbox_.empty() && chores_.empty()) return false;
            if (may_try) {
                taken = std::move(deferred_);
                deferred_.clear();
            }
            while (!inbox_.empty() && taken.size() < most_in_a_batch) {
                taken.push_back(std::move(inbox_.front()));
                inbox_.pop_front();
            }
            chores.swap(chores_);
            send_owed = std::exchange(send_owed_, false);
            if (due) taken.push_back({Due{}, {}, {}, {}, {}});
            return true;
        }
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
        std::vector<std::function<void(store::Store&)>> chores;
        bool send_owed = false;
        if (!wait_for_work(requests, chores, send_owed)) return;
        if (send_owed) {
            for (const auto& command : owed(core_.state())) parts_.carry_out(command);
            schedules_ = true;
        }
        for (auto& chore : chores) chore(parts_.store);
        if (!requests.empty() || send_owed) run_batch(std::move(requests));
        clean_up();
    }
}

void Writer::run_batch(std::deque<Request> requests) {
    const auto now = parts_.clock.now();
    if (now < try_again_) {  // the disk was full a moment ago: say so without trying, keep what must not be lost
        Pending nothing;
        give_back(nothing, requests, {Fault::full, "the disk that holds the state is full: free some space on it"});
        return;
    }
    Pending pending;
    pending.batch.at = now;
    for (auto& request : requests) { pending.answers.push_back(decide_one(pending, now, request)); }
    if (schedules_) {
        const auto before_pass = core_.batch().size();
        (void)decide(core_, now, Pass{});
        log_facts(pending.batch, core_, now, Pass{}, before_pass);
    }
    commit(std::move(pending), now, std::move(requests));
}

Result<Answer> Writer::decide_one(Pending& pending, Instant now, Request& request) {
    if (auto known = known_key(pending, now, request)) return *known;
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
            launches_over_.clear();
            try_again_ = now + retry_after_full;
            read_only_ = true;
            give_back(pending, requests, committed.error);
            return;
        }
        last_input_ = committed.first_input + pending.batch.inputs.size() - 1;
        last_fact_ = committed.first_fact + pending.batch.facts.size() - 1;
        const std::lock_guard lock{mutex_};
        ++figures_.batches;
        figures_.inputs += pending.batch.inputs.size();
        figures_.facts += pending.batch.facts.size();
        figures_.last_fact = last_fact_;
        figures_.commit_microseconds += static_cast<std::uint64_t>((ended.tv_sec - begun.tv_sec) * 1'000'000 +
                                                                   (ended.tv_nsec - begun.tv_nsec) / 1000);
        read_only_ = false;
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
void Writer::give_back(Pending&, std::deque<Request>& requests, const Error& why) {
    View::Batch answers;
    for (auto& request : requests) {
        if (is_from_a_client(request)) {
            answers.answers.push_back([done = std::move(request.done), why] { done(tl::unexpected(why)); });
        } else if (is_report(request.input)) {
            deferred_.push_back(std::move(request));
        }
    }
    parts_.view.fold(std::move(answers));
}

/// Housekeeping that no answer waits for.
void Writer::clean_up() {
    if (!launches_over_.empty()) {
        store::Retention retention;
        retention.launches = std::move(launches_over_);
        launches_over_.clear();
        (void)parts_.store.forget(retention);
    }
    (void)parts_.store.maintain();
}

}  // namespace stargate::live
