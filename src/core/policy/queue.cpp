#include "core/policy/queue.hpp"

#include <algorithm>
#include <tuple>

#include "core/evolve.hpp"

namespace stargate {

namespace {
/// For a heap with the lowest job on top.
constexpr auto is_younger = [](const auto& a, const auto& b) { return a.job > b.job; };
}  // namespace

Holdings holdings_of(const TenantRow& row) { return {row.used + row.claimed, row.charged, row.tenant.weight}; }

bool goes_before(const Holdings& a, const Holdings& b) {
    const auto share_a = a.held * b.weight;
    const auto share_b = b.held * a.weight;
    if (share_a != share_b) return share_a < share_b;
    // Cross-multiplied in 128 bits: a fleet's GPU-milliseconds of a year times a weight do not fit 64.
    __extension__ using Wide = __int128;
    return Wide{a.charged} * b.weight < Wide{b.charged} * a.weight;
}

bool Queue::Earlier::operator()(const Line* a, const Line* b) const {
    if (goes_before(a->holdings, b->holdings)) return true;
    if (goes_before(b->holdings, a->holdings)) return false;
    return std::tuple{a->heads.front().job, a->tenant} < std::tuple{b->heads.front().job, b->tenant};
}

JobId Queue::next() {
    while (order_.empty() && next_shape_ != state_.shapes().end()) open_next_class();
    return order_.empty() ? JobId{} : first_line().heads.front().job;
}

void Queue::open_next_class() {
    lines_.clear();
    const auto order = next_shape_->first.class_order;
    for (; next_shape_ != state_.shapes().end() && next_shape_->first.class_order == order; ++next_shape_) {
        const auto& [key, shape] = *next_shape_;
        if (shape.ready.empty()) continue;
        auto [line, is_new] = lines_.try_emplace(key.tenant);
        if (is_new) line->second = {key.tenant, holdings_of(state_.at<TenantRow>(key.tenant)), {}};
        if (const auto job = head_of(shape, false)) line->second.heads.push_back({job, &shape, false});
    }
    for (auto& [tenant, line] : lines_) {
        std::make_heap(line.heads.begin(), line.heads.end(), is_younger);
        if (!line.heads.empty()) order_.insert(&line);
    }
}

JobId Queue::head_of(const Shape& shape, bool shortest_first) const {
    const auto may_try = [&](JobId job) { return state_.find<Claim>(job) == nullptr; };
    if (shortest_first) {
        for (const auto& [limit, job] : shape.by_limit) {
            if (may_try(job)) return job;
        }
    } else {
        for (const auto job : shape.ready) {
            if (may_try(job)) return job;
        }
    }
    return {};
}

Queue::Head Queue::take_head() {
    auto& line = **order_.begin();
    order_.erase(order_.begin());
    std::pop_heap(line.heads.begin(), line.heads.end(), is_younger);
    const auto head = line.heads.back();
    line.heads.pop_back();
    return head;
}

void Queue::put_head(Line& line, const Shape& shape, bool shortest_first) {
    const auto job = head_of(shape, shortest_first);
    if (!job) return;
    line.heads.push_back({job, &shape, shortest_first});
    std::push_heap(line.heads.begin(), line.heads.end(), is_younger);
}

void Queue::placed() {
    auto& own = **order_.begin();
    const auto head = take_head();
    put_head(own, *head.shape, head.shortest_first);
    // What the tenant and those above it hold has changed.
    for_each_tenant(state_, own.tenant, [&](TenantId id) {
        const auto line = lines_.find(id);
        if (line == lines_.end()) return;
        const bool tries = !line->second.heads.empty();
        if (tries && &line->second != &own) order_.erase(&line->second);
        line->second.holdings = holdings_of(state_.at<TenantRow>(id));
        if (tries) order_.insert(&line->second);
    });
}

void Queue::blocked() {
    auto& line = **order_.begin();
    take_head();
    if (!line.heads.empty()) order_.insert(&line);
}

bool Queue::too_long() {
    auto& line = **order_.begin();
    const auto head = take_head();
    const bool another = !head.shortest_first && head_of(*head.shape, true) != head.job;
    if (another) put_head(line, *head.shape, true);
    if (!line.heads.empty()) order_.insert(&line);
    return another;
}

}  // namespace stargate
