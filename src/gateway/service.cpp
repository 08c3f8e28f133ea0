#include "gateway/service.hpp"

#include <algorithm>
#include <utility>

namespace stargate::gateway {

namespace {

constexpr Duration usual_limit = std::chrono::milliseconds{200};  // of waiting, where a service has no slo
constexpr Duration unknown_pace = std::chrono::seconds{1};
constexpr Duration nobody_serves = std::chrono::seconds{5};
constexpr Duration shortest_wait = std::chrono::milliseconds{50};
constexpr Duration longest_wait = std::chrono::seconds{60};
/// A replica that failed is left alone for so long, twice as long each time.
constexpr Duration first_rest = std::chrono::milliseconds{250};
constexpr Duration longest_rest = std::chrono::seconds{8};
constexpr Duration sleeper_rest = std::chrono::seconds{1};

}  // namespace

Load::Load(std::shared_ptr<Service> service, std::shared_ptr<Replica> replica, Errand& errand, std::int64_t now_us)
    : service_{std::move(service)},
      replica_{std::move(replica)},
      errand_{&errand},
      tokens_{errand.tokens},
      pace_{service_->pace_},
      began_us_{now_us} {
    ++replica_->in_flight;
    replica_->full.set(replica_->in_flight >= pace_->places(), now_us);
    full_before_us_ = replica_->full.total_us(now_us);
    replica_->tokens += tokens_;
    replica_->errands.insert(errand_);
    ++service_->in_flight_;
    service_->began_us_ += began_us_;
    service_->in_flight_tokens_ += tokens_;
}

Load::~Load() {
    --replica_->in_flight;
    if (replica_->full.is_full()) {  // else the clock need not be read
        replica_->full.set(replica_->in_flight >= service_->pace_->places(), net::Loop::now_us());
    }
    replica_->tokens -= tokens_;
    replica_->errands.erase(errand_);
    --service_->in_flight_;
    service_->began_us_ -= began_us_;
    service_->in_flight_tokens_ -= tokens_;
    if (replica_->in_flight == 0 && service_->events_.emptied) service_->events_.emptied(*replica_);
    service_->changed();
    service_->pump();
}

void Load::progress() {
    ++deltas_;
    deltas_while_full_ += replica_->full.is_full() ? 1 : 0;
    if (tokens_ == 0) return;
    --tokens_;
    --replica_->tokens;
    --service_->in_flight_tokens_;
}

void Load::answered() { replica_->failures = 0; }

void Load::heard() { replica_->has_answered = true; }

void Load::begun() {
    if (replica_->answered_telling == replica_->entry.telling) return;
    replica_->answered_telling = replica_->entry.telling;
    if (service_->events_.answered_first) service_->events_.answered_first(*replica_);
}

void Load::unreachable() {
    const auto rest = std::min(first_rest * (1 << std::min(replica_->failures, 10)), longest_rest);
    ++replica_->failures;
    replica_->rests_until_us = net::Loop::now_us() + rest.count();
}

void Load::asleep() {
    replica_->said_asleep = true;
    replica_->rests_until_us = net::Loop::now_us() + sleeper_rest.count();
}

/// A delta may have several tokens. An answer in one piece is taken to have grown evenly.
void Load::finished(std::int64_t tokens) {
    const auto now = net::Loop::now_us();
    service_->note_hold(now - began_us_);
    const auto full_us = replica_->full.total_us(now) - full_before_us_;
    if (full_us <= 0) return;
    const auto share = [](std::int64_t part, std::int64_t of) {
        return static_cast<double>(part) / static_cast<double>(of);
    };
    const auto while_full = deltas_ > 0 ? share(deltas_while_full_, deltas_) : share(full_us, now - began_us_);
    pace_->note(static_cast<double>(tokens) * while_full, full_us, now);
}

Service::~Service() {
    loop_.cancel(limit_timer_);
    loop_.cancel(wake_timer_);
}

void Service::update(const ServiceEntry& entry, std::vector<std::shared_ptr<Replica>> replicas) {
    const bool is_same = entry.max_concurrency == pace_->places() && entry.model == entry_.model;
    entry_ = entry;
    replicas_ = std::move(replicas);
    if (!is_same) forget_pace();
    changed();
    pump();
}

/// What is under way adds to the pace as it was, which nobody asks for any more.
void Service::forget_pace() {
    pace_ = std::make_shared<Pace>(entry_.max_concurrency);
    const auto now = net::Loop::now_us();
    for (const auto& replica : replicas_) replica->full.set(replica->in_flight >= pace_->places(), now);
}

void Service::drop(const Refusal& refusal) {
    replicas_.clear();
    for (const auto& errand : queue_.take_all()) {
        left_queue(*errand);
        errand->refuse(refusal);
    }
    changed();
}

void Service::submit(std::shared_ptr<Errand> errand) {
    ++arrived_;
    wanted_.note(errand->since_us, static_cast<double>(errand->answer_tokens));
    if (queue_.size() == 0) {
        if (auto replica = place_for(*errand)) return put_to_work(errand, std::move(replica));
    }
    std::vector<std::shared_ptr<Errand>> put_out;
    const bool fits = queue_.make_room(*errand, {entry_.queue_requests, entry_.queue_bytes.count()}, put_out);
    for (const auto& each : put_out) {
        left_queue(*each);
        refuse(*each, too_many(wait_for_room()));
    }
    if (!fits) {
        const bool is_own_fault = is_served() && entry_.queue_requests > 0;
        return refuse(*errand,
                      is_own_fault ? too_many(wait_for_room()) : overloaded("all places are taken", wait_for_room()));
    }
    enqueue(std::move(errand), false);
    pump();
}

bool Service::submit_again(std::shared_ptr<Errand> errand) {
    const bool has_another = std::any_of(replicas_.begin(), replicas_.end(), [&](const auto& replica) {
        return replica->is_serving() && std::count(errand->tried.begin(), errand->tried.end(), replica->entry.id) == 0;
    });
    if (!has_another) return false;
    ++meters_.retries;
    enqueue(std::move(errand), true);
    pump();
    return true;
}

void Service::withdraw(Errand& errand) {
    if (!queue_.remove(&errand)) return;
    left_queue(errand);
    changed();
}

void Service::enqueue(std::shared_ptr<Errand> errand, bool goes_first) {
    const auto waited = Duration{net::Loop::now_us() - errand->since_us};
    errand->patience_timer =
        loop_.after(errand->patience - waited, [self = weak_from_this(), errand = std::weak_ptr<Errand>{errand}] {
            const auto service = self.lock();
            const auto waiting = errand.lock();
            if (service && waiting) service->lost_patience(*waiting);
        });
    if (goes_first) {
        queue_.push_front(std::move(errand));
    } else {
        queue_.push(std::move(errand));
    }
    watch_limit();
    changed();
}

void Service::left_queue(Errand& errand) { loop_.cancel(std::exchange(errand.patience_timer, 0)); }

void Service::lost_patience(Errand& errand) {
    if (!queue_.remove(&errand)) return;
    errand.patience_timer = 0;
    refuse(errand, overloaded("no replica was free in time", wait_for_room()));
    changed();
}

void Service::refuse(Errand& errand, const Refusal& refusal) {
    ++rejected_;
    errand.refuse(refusal);
    changed();
}

void Service::pump() {
    if (std::exchange(is_pumping_, true)) return;  // whoever starts may end at once
    while (const auto errand = queue_.next()) {
        auto replica = place_for(*errand);
        if (!replica) break;
        queue_.pop();
        left_queue(*errand);
        put_to_work(errand, std::move(replica));
    }
    is_pumping_ = false;
    if (queue_.size() > 0) wake_later();
}

std::shared_ptr<Replica> Service::place_for(const Errand& errand) const {
    const auto now = net::Loop::now_us();
    std::shared_ptr<Replica> best;
    for (const auto& replica : replicas_) {
        if (!replica->has_room(entry_.max_concurrency, now)) continue;
        if (std::count(errand.tried.begin(), errand.tried.end(), replica->entry.id) > 0) continue;
        const auto work = [](const Replica& each) { return std::pair{each.tokens, each.in_flight}; };
        if (!best || work(*replica) < work(*best)) best = replica;
    }
    return best;
}

void Service::put_to_work(const std::shared_ptr<Errand>& errand, std::shared_ptr<Replica> replica) {
    const auto now = net::Loop::now_us();
    errand->start(std::make_unique<Load>(shared_from_this(), std::move(replica), *errand, now));
    changed();
}

bool Service::is_served() const {
    return std::any_of(replicas_.begin(), replicas_.end(), [](const auto& replica) { return replica->is_serving(); });
}

Duration Service::limit() const {
    return entry_.slo_ms > 0 ? Duration{std::chrono::milliseconds{entry_.slo_ms}} : usual_limit;
}

/// Passing the limit is news, though nothing else happens.
void Service::watch_limit() {
    if (limit_timer_ != 0 || queue_.size() == 0) return;
    const auto waited = Duration{net::Loop::now_us() - queue_.oldest_us()};
    if (waited > limit()) return;
    constexpr Duration just_past = std::chrono::milliseconds{1};
    limit_timer_ = loop_.after(limit() - waited + just_past, [this] {
        limit_timer_ = 0;
        changed();
        watch_limit();
    });
}

void Service::wake_later() {
    if (wake_timer_ != 0) return;
    const auto now = net::Loop::now_us();
    std::int64_t first_us = INT64_MAX;
    for (const auto& replica : replicas_) {
        if (replica->is_serving() && replica->rests_until_us > now)
            first_us = std::min(first_us, replica->rests_until_us);
    }
    if (first_us == INT64_MAX) return;
    wake_timer_ = loop_.after(Duration{first_us - now}, [this] {
        wake_timer_ = 0;
        pump();
    });
}

ServiceDemand Service::demand() const {
    const auto now = net::Loop::now_us();
    ServiceDemand told;
    told.name = entry_.name;
    told.queued = queue_.size();
    told.queued_tokens = queue_.tokens();
    told.in_flight = in_flight_;
    told.in_flight_tokens = in_flight_tokens_;
    told.arrived = arrived_;
    told.rejected = rejected_;
    std::int64_t places = 0;
    for (const auto& replica : replicas_) places += replica->is_serving() ? entry_.max_concurrency : 0;
    told.over_limit = told.queued > 0 && told.queued + told.in_flight > places;
    if (told.queued > 0) {
        const auto waited = Duration{now - queue_.oldest_us()};
        told.oldest_ms = std::chrono::duration_cast<std::chrono::milliseconds>(waited).count();
        told.over_limit = told.over_limit || waited > limit();
    }
    told.wanted_tokens_per_s = static_cast<std::int64_t>(std::max(wanted_.per_second(now), 0.0));
    told.replica_tokens_per_s = pace_->tokens_per_s(now);
    return told;
}

/// The queue is emptied as fast as places become free. How long one is held is known from those that were, and from
/// those that are, which may be held for longer.
Duration Service::wait_for_room() {
    if (!is_served()) return nobody_serves;
    std::int64_t places = 0;
    for (const auto& replica : replicas_) {
        if (replica->is_serving()) places += replica->failures > 0 ? 1 : entry_.max_concurrency;
    }
    const auto age_us = in_flight_ > 0 ? net::Loop::now_us() - began_us_ / in_flight_ : 0;
    if (usual_hold_us_ == 0 && age_us < unknown_pace.count()) return unknown_pace;
    const auto ahead = static_cast<double>(std::max<std::int64_t>(queue_.size(), 1));
    const auto spread = 1 + std::uniform_real_distribution<double>{0, 0.1}(chance_);
    const auto hold_us = static_cast<double>(std::max(usual_hold_us_, age_us));
    const auto wait_us = ahead * hold_us / static_cast<double>(places) * spread;
    return std::clamp(Duration{static_cast<std::int64_t>(std::min(wait_us, 1e12))}, shortest_wait, longest_wait);
}

void Service::note_hold(std::int64_t held_us) {
    constexpr std::int64_t weight = 8;  // of what was, to one of what is new
    usual_hold_us_ = usual_hold_us_ == 0 ? held_us : (usual_hold_us_ * (weight - 1) + held_us) / weight;
}

void Service::note_answer(std::int64_t tokens) {
    constexpr std::int64_t weight = 8;  // of what was, to one of what is new
    usual_answer_ = std::max<std::int64_t>((usual_answer_ * (weight - 1) + tokens) / weight, 1);
}

void Service::put_right(std::int64_t expected, std::int64_t tokens) {
    wanted_.note(net::Loop::now_us(), static_cast<double>(tokens - expected));
}

}  // namespace stargate::gateway
