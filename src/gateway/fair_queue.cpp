#include "gateway/fair_queue.hpp"

#include <algorithm>

#include "base/check.hpp"

namespace stargate::gateway {

/// The line of its tenant. One that was empty begins with as little as the least of those that wait has had: nobody
/// saves up turns while away.
FairQueue::Line& FairQueue::line_of(const Errand& errand) {
    auto& line = lines_[errand.tenant];
    if (!line.waiting.empty() || size_ == 0) return line;
    std::int64_t least = INT64_MAX;
    for (const auto& [tenant, other] : lines_) {
        if (!other.waiting.empty()) least = std::min(least, other.had_tokens);
    }
    line.had_tokens = std::max(line.had_tokens, least);
    return line;
}

void FairQueue::count(Line& line, const Errand& errand, std::int64_t sign) {
    line.bytes += sign * errand.bytes;
    size_ += sign;
    tokens_ += sign * errand.tokens;
    bytes_ += sign * errand.bytes;
}

void FairQueue::forget_if_empty() {
    if (size_ == 0) lines_.clear();
}

void FairQueue::push(std::shared_ptr<Errand> errand) {
    auto& line = line_of(*errand);
    count(line, *errand, 1);
    line.waiting.push_back(std::move(errand));
}

void FairQueue::push_front(std::shared_ptr<Errand> errand) {
    auto& line = line_of(*errand);
    count(line, *errand, 1);
    line.waiting.push_front(std::move(errand));
}

std::shared_ptr<Errand> FairQueue::next() const {
    const Line* first = nullptr;
    for (const auto& [tenant, line] : lines_) {
        if (line.waiting.empty()) continue;
        if (first == nullptr || line.had_tokens < first->had_tokens) first = &line;
    }
    return first == nullptr ? nullptr : first->waiting.front();
}

void FairQueue::pop() {
    const auto errand = next();
    CHECK(errand != nullptr);
    auto& line = lines_[errand->tenant];
    line.waiting.pop_front();
    line.had_tokens += errand->tokens;
    count(line, *errand, -1);
    forget_if_empty();
}

bool FairQueue::remove(const Errand* errand) {
    const auto found = lines_.find(errand->tenant);
    if (found == lines_.end()) return false;
    auto& line = found->second;
    const auto place = std::find_if(line.waiting.begin(), line.waiting.end(),
                                    [errand](const auto& each) { return each.get() == errand; });
    if (place == line.waiting.end()) return false;
    count(line, *errand, -1);
    line.waiting.erase(place);
    forget_if_empty();
    return true;
}

std::vector<std::shared_ptr<Errand>> FairQueue::take_all() {
    std::vector<std::shared_ptr<Errand>> all;
    while (size_ > 0) {
        all.push_back(next());
        pop();
    }
    return all;
}

bool FairQueue::make_room(const Errand& newcomer, const Bounds& bounds, std::vector<std::shared_ptr<Errand>>& out) {
    if (bounds.requests < 1 || newcomer.bytes > bounds.bytes) return false;
    while (size_ + 1 > bounds.requests || bytes_ + newcomer.bytes > bounds.bytes) {
        const bool lacks_bytes = size_ + 1 <= bounds.requests;
        const auto has = [&](const Line& line) {
            return lacks_bytes ? line.bytes : static_cast<std::int64_t>(line.waiting.size());
        };
        const auto most = std::max_element(lines_.begin(), lines_.end(),
                                           [&](const auto& a, const auto& b) { return has(a.second) < has(b.second); });
        const auto own = lines_.find(newcomer.tenant);
        const auto would_have =
            (own == lines_.end() ? 0 : has(own->second)) + (lacks_bytes ? newcomer.bytes : std::int64_t{1});
        if (most == lines_.end() || has(most->second) <= would_have) return false;
        out.push_back(most->second.waiting.back());
        most->second.waiting.pop_back();
        count(most->second, *out.back(), -1);
    }
    return true;
}

std::int64_t FairQueue::oldest_us() const {
    std::int64_t oldest = INT64_MAX;
    for (const auto& [tenant, line] : lines_) {
        if (!line.waiting.empty()) oldest = std::min(oldest, line.waiting.front()->since_us);
    }
    return oldest;
}

}  // namespace stargate::gateway
