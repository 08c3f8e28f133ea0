#pragma once

#include <deque>
#include <map>
#include <memory>
#include <vector>

#include "gateway/errand.hpp"

namespace stargate::gateway {

/// Requests that wait for one service. In order of arrival within a tenant; among tenants next is the one that has had
/// the fewest tokens since it began to wait (a virtual token counter: Sheng et al., Fairness in Serving Large Language
/// Models, OSDI 2024). Cost O(tenants that wait).
class FairQueue {
public:
    struct Bounds {
        std::int64_t requests = 0;
        std::int64_t bytes = 0;
    };

    void push(std::shared_ptr<Errand> errand);
    /// Before all others of its tenant: it has waited already.
    void push_front(std::shared_ptr<Errand> errand);
    /// Whose turn it is; nullptr when nobody waits.
    [[nodiscard]] std::shared_ptr<Errand> next() const;
    /// Takes out next(), whose tokens its tenant has had now.
    void pop();
    /// False when it is not here.
    bool remove(const Errand* errand);
    [[nodiscard]] std::vector<std::shared_ptr<Errand>> take_all();

    /// Whether the newcomer fits. Makes room for it where its tenant has less here than another: the last of the one
    /// that has most are put out, into `out`.
    [[nodiscard]] bool make_room(const Errand& newcomer, const Bounds& bounds,
                                 std::vector<std::shared_ptr<Errand>>& out);

    [[nodiscard]] std::int64_t size() const { return size_; }
    [[nodiscard]] std::int64_t tokens() const { return tokens_; }
    [[nodiscard]] std::int64_t bytes() const { return bytes_; }
    /// When the one that waits longest arrived; size() > 0.
    [[nodiscard]] std::int64_t oldest_us() const;

private:
    struct Line {
        std::deque<std::shared_ptr<Errand>> waiting;
        std::int64_t bytes = 0;
        std::int64_t had_tokens = 0;
    };
    Line& line_of(const Errand& errand);
    void count(Line& line, const Errand& errand, std::int64_t sign);
    void forget_if_empty();

    std::map<std::string, Line, std::less<>> lines_;  // by tenant; all are forgotten when nobody waits any more
    std::int64_t size_ = 0;
    std::int64_t tokens_ = 0;
    std::int64_t bytes_ = 0;
};

}  // namespace stargate::gateway
