#include "live/control_plane.hpp"

#include <fmt/format.h>

#include <chrono>
#include <future>
#include <set>

#include "core/log.hpp"
#include "core/serving.hpp"
#include "store/room.hpp"

namespace stargate::live {

namespace {
/// Launches kept at hand, so that the elements of an array do not each ask the store.
constexpr std::size_t launches_kept = 64;
/// While work is being ended: how late its end may be noticed.
constexpr std::chrono::milliseconds between_looks_at_work{20};

Error going_down() { return {Fault::unavailable, "the control plane is going down or overloaded: try again"}; }
}  // namespace

Result<std::unique_ptr<ControlPlane>> ControlPlane::start(Wiring wiring) {
    std::unique_ptr<ControlPlane> plane{new ControlPlane{std::move(wiring)}};
    if (auto ready = plane->recover_and_take_office(); !ready) return tl::unexpected(ready.error());
    return plane;
}

ControlPlane::~ControlPlane() {
    stop();
    if (goodbye_.joinable()) goodbye_.join();
    // Engines report to the writer and the writer commands engines: the engine goes first, then what it reported is
    // written, then the view folds it. The follower hears of every fold, so it goes last.
    engine_ready_ = nullptr;
    serving_ready_ = nullptr;
    if (writer_) {
        std::promise<void> quiet;
        writer_->between_batches([&](store::Store&) -> Result<void> { return quiet.set_value(), Result<void>{}; });
        quiet.get_future().wait();
    }
    serving_.reset();
    engine_.reset();
    if (follower_) follower_->stop();
    writer_.reset();
    view_.reset();
    follower_.reset();
}

Result<Answer> ControlPlane::decide_and_wait(Input input) {
    auto answered = std::make_shared<std::promise<Result<Answer>>>();
    auto future = answered->get_future();
    Request request;
    request.input = std::move(input);
    request.done = [answered](Result<Answer> answer) { answered->set_value(std::move(answer)); };
    if (!writer_->post(std::move(request))) return tl::unexpected(going_down());
    return future.get();
}

void ControlPlane::wait() {
    std::unique_lock lock{stop_mutex_};
    stop_asked_.wait(lock, [this] { return stopping_; });
}

void ControlPlane::stop() {
    {
        const std::lock_guard lock{stop_mutex_};
        stopping_ = true;
    }
    stop_asked_.notify_all();
}

void ControlPlane::get_ready() { writer_->get_ready(); }

bool ControlPlane::type(AttemptId attempt, std::string bytes) {
    auto* engine = engine_ready_.load();
    return engine != nullptr && engine->type(attempt, std::move(bytes));
}

void ControlPlane::set_window(AttemptId attempt, std::uint16_t rows, std::uint16_t columns) {
    if (auto* engine = engine_ready_.load()) engine->set_window(attempt, rows, columns);
}

void ControlPlane::submit(api::NewJob job, Done<Answer> done) {
    Request request;
    request.by = job.input.spec.owner;
    request.input = std::move(job.input);
    request.launch = std::move(job.launch);
    request.key = std::move(job.key);
    if (!request.key.empty()) request.body_hash = digest_of(job.body);
    request.done = done;
    if (!writer_->post(std::move(request))) done(tl::unexpected(going_down()));
}

Result<std::optional<Answer>> ControlPlane::find_key(const std::string& tenant, const std::string& key,
                                                     const std::string& body) const {
    const auto id = view_->read([&](const State& state) { return state.tenant_named(tenant).value_or(TenantId{}); });
    const std::lock_guard lock{reader_mutex_};
    const auto row = wiring_.reader->find_key(id, key);
    if (!row) return tl::unexpected(row.error());
    if (!*row || (*row)->expires_at <= clock_->now()) return std::optional<Answer>{};
    if ((*row)->body_hash != digest_of(body)) return Answer{{Why::key_conflict, 0, 0, (*row)->first_job.value}, {}};
    return Answer{{}, (*row)->first_job};
}

void ControlPlane::ask(std::uint32_t by, std::vector<Input> inputs, Done<std::vector<Answer>> done) {
    struct Gathered {
        std::mutex mutex;
        std::vector<Answer> answers;
        std::size_t left = 0;
        std::optional<Error> error;
        Done<std::vector<Answer>> done;
    };
    if (inputs.empty()) return done(std::vector<Answer>{});
    auto gathered = std::make_shared<Gathered>();
    gathered->answers.resize(inputs.size());
    gathered->left = inputs.size();
    gathered->done = std::move(done);
    const auto note = [gathered](std::size_t i, Result<Answer> answer) {
        const std::lock_guard lock{gathered->mutex};
        if (answer) {
            gathered->answers[i] = *answer;
        } else {
            gathered->error = answer.error();
        }
        if (--gathered->left > 0) return;
        if (gathered->error) {
            gathered->done(tl::unexpected(*gathered->error));
        } else {
            gathered->done(std::move(gathered->answers));
        }
    };
    std::vector<Request> requests(inputs.size());
    for (std::size_t i = 0; i < inputs.size(); ++i) {
        requests[i].input = std::move(inputs[i]);
        requests[i].by = by;
        requests[i].done = [note, i](Result<Answer> answer) { note(i, std::move(answer)); };
    }
    if (!writer_->post(std::move(requests))) gathered->done(tl::unexpected(going_down()));
}

void ControlPlane::read(const Look& look) const {
    const auto now = clock_->now();
    view_->read([&](const State& state) { look(state, now, view_->folded()); });
}

Result<Launch> ControlPlane::launch_of(JobId job) const {
    JobId first;
    view_->read([&](const State& state) {
        if (const auto* row = state.find<Job>(job)) first = row->spec;
    });
    if (first) {
        const std::lock_guard lock{launches_mutex_};
        for (const auto& [id, launch] : launches_) {
            if (id == first) return *launch;
        }
    }
    const std::lock_guard lock{reader_mutex_};
    const auto row = wiring_.reader->find_launch(job);
    if (!row) return tl::unexpected(row.error());
    if (!*row) return fail(Fault::not_found, fmt::format("how job {} is run is no longer kept", job.value));
    auto launch = decoded<Launch>((*row)->body);
    if (!launch)
        return fail(Fault::malformed, fmt::format("how job {} is run cannot be read by this version", job.value));
    const std::lock_guard launches_lock{launches_mutex_};
    launches_.emplace_back((*row)->job, std::make_shared<const Launch>(*launch));
    if (launches_.size() > launches_kept) launches_.pop_front();
    return *launch;
}

Result<void> ControlPlane::read_facts(std::uint64_t from, std::size_t most,
                                      const std::function<void(const api::LoggedFact&)>& visit) const {
    const auto newest = view_->last_fact();
    if (most == 0 || from > newest) return {};
    std::size_t given = 0;
    const std::lock_guard lock{reader_mutex_};
    return wiring_.reader->read_facts(from, [&](const store::FactRow& row) {
        if (row.seq > newest) return false;
        auto entry = decode_entry(row.body);
        if (entry) visit({row.seq, entry->at, row.input_seq, entry->cause, std::move(entry->fact)});
        return ++given < most;
    });
}

void ControlPlane::on_facts(std::function<void(std::uint64_t)> notify) {
    const std::lock_guard lock{notify_mutex_};
    notify_ = std::move(notify);
}

Result<void> ControlPlane::read_retired(std::size_t most, const std::function<bool(const RetiredJob&)>& visit,
                                        const RetiredJob* after) const {
    constexpr std::size_t page = 1'000;  // read under the lock at once
    std::optional<store::HistoryRow> last;
    if (after != nullptr) last = store::HistoryRow{after->job.id, std::get<Finished>(after->job.phase).at, {}};
    while (most > 0) {
        std::unique_lock lock{reader_mutex_};
        const auto rows = wiring_.reader->newest_history(std::min(most, page), last ? &*last : nullptr);
        lock.unlock();
        if (!rows) return tl::unexpected(rows.error());
        for (const auto& row : *rows) {
            const auto job = decoded<RetiredJob>(row.body);
            if (job && !visit(*job)) return {};
        }
        if (rows->size() < std::min(most, page)) return {};
        most -= rows->size();
        last = rows->back();
    }
    return {};
}

Result<std::optional<RetiredJob>> ControlPlane::find_retired(JobId job) const {
    const std::lock_guard lock{reader_mutex_};
    const auto row = wiring_.reader->find_history(job);
    if (!row) return tl::unexpected(row.error());
    if (!*row) return std::optional<RetiredJob>{};
    return decoded<RetiredJob>((*row)->body);
}

Result<std::vector<api::OutputPiece>> ControlPlane::read_output(JobId job, AttemptId attempt, std::int64_t offset,
                                                                std::size_t most) const {
    return wiring_.read_output(job, attempt, offset, most);
}

api::Figures ControlPlane::figures() const {
    const auto written = writer_->figures();
    api::Figures figures;
    for (const auto byte : identity_.incarnation) figures.incarnation += fmt::format("{:02x}", byte);
    figures.term = identity_.term;
    figures.last_fact = written.last_fact;
    figures.commits = written.batches;
    figures.commit_us_sum = static_cast<std::int64_t>(written.commit_microseconds);
    figures.commit_us_max = static_cast<std::int64_t>(written.longest_commit_microseconds);
    if (wiring_.store_bytes) figures.store_bytes = wiring_.store_bytes();
    view_->read([&](const State& state) {
        state.table<Node>().for_each([&](const Node& node) { figures.foreign_attempts += node.foreign_running; });
    });
    {
        const std::lock_guard lock{reader_mutex_};
        if (const auto log = wiring_.reader->extent()) figures.first_fact = log->first_fact;
    }
    if (writer_->is_full()) figures.read_only = store::no_room(wiring_.folder).detail;
    return figures;
}

void ControlPlane::shut_down(api::RunningWork work) {
    if (work == api::RunningWork::goes_on) return stop();
    const std::lock_guard lock{stop_mutex_};
    if (stopping_ || goodbye_.joinable()) return;  // asked before
    goodbye_ = std::thread{[this] {
        end_running_work();
        stop();
    }};
}

/// A service ends whole: else what waits of it would start with the next control plane, and be all that is left of it.
void ControlPlane::add_other_replicas(std::vector<JobId>& jobs) const {
    view_->read([&](const State& state) {
        std::set<JobId> all;
        for (const auto id : jobs) {
            const auto& job = state.at<Job>(id);
            const auto count = state.find<Service>(job.spec) == nullptr ? 1 : state.at<Spec>(job.spec).count;
            const auto first = count == 1 ? id : job.spec;
            for (std::int32_t task = 0; task < count; ++task) {
                all.insert(JobId{first.value + static_cast<std::uint64_t>(task)});
            }
        }
        jobs.assign(all.begin(), all.end());
    });
}

/// Cancels what runs and waits until it is gone, or until somebody asks to go down at once. What waits goes on waiting:
/// the next start finds the queue as it was.
void ControlPlane::end_running_work() {
    writer_->start_no_more();
    (void)decide_and_wait(Due{});  // once it is answered, the view shows what earlier batches have started
    while (true) {
        std::vector<JobId> to_cancel;  // again when it was refused, as on a full disk
        bool has_work = false;
        view_->read([&](const State& state) {
            state.table<Attempt>().for_each([&](const Attempt& attempt) {
                has_work = true;
                if (!attempt.ending || attempt.ending->cause != EndCause::cancel) to_cancel.push_back(attempt.job);
            });
            for (const auto service : routed_services(state)) {  // no request shall go there any more
                has_work = true;
                to_cancel.push_back(service);
            }
        });
        if (!has_work) return;
        add_other_replicas(to_cancel);
        for (const auto job : to_cancel) (void)decide_and_wait(Cancel{job});
        std::unique_lock lock{stop_mutex_};
        if (stop_asked_.wait_for(lock, between_looks_at_work, [this] { return stopping_; })) return;
    }
}

}  // namespace stargate::live
