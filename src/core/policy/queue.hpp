#pragma once

#include <map>
#include <set>
#include <vector>

#include "core/state.hpp"

namespace stargate {

/// What a tenant holds, with what has been promised to it, and has had, for its weight.
struct Holdings {
    std::int64_t held = 0;     // thousandths of GPUs
    std::int64_t charged = 0;  // GPU-milliseconds
    std::int32_t weight = 1;
};
Holdings holdings_of(const TenantRow& row);

/// Whether tenant `a` goes before `b`: the one that holds less of its share, then the one that has had less.
bool goes_before(const Holdings& a, const Holdings& b);

/// The order in which waiting jobs may try in one pass: class, fair share, age. One shape is blocked after another.
/// Building it costs O(shapes), each step O(log shapes) and, when a job has started, O(depth of its tenant).
class Queue {
public:
    explicit Queue(const State& state) : state_{state}, next_shape_{state.shapes().begin()} {}

    /// The job that goes next; none when every shape is empty or blocked.
    [[nodiscard]] JobId next();
    /// The shape of the job that next() gave.
    [[nodiscard]] const Shape& shape() const { return *first_line().heads.front().shape; }
    /// Whether it tries because an older one of its shape was too long.
    [[nodiscard]] bool is_shortest() const { return first_line().heads.front().shortest_first; }

    // What became of the job that next() gave.
    void placed();   // it has started, or holds a claim
    void blocked();  // and so is everything of its shape
    /// It would still run when what somebody else waits for is there. The shortest of its shape, which may end before,
    /// tries next; false when there is none and the shape is blocked.
    bool too_long();

private:
    struct Head {
        JobId job;
        const Shape* shape;
        bool shortest_first;
    };
    struct Line {
        TenantId tenant;
        Holdings holdings;
        std::vector<Head> heads;  // a heap: the oldest job first
    };
    struct Earlier {
        bool operator()(const Line* a, const Line* b) const;
    };

    void open_next_class();
    [[nodiscard]] JobId head_of(const Shape& shape, bool shortest_first) const;
    [[nodiscard]] const Line& first_line() const { return **order_.begin(); }
    Head take_head();
    void put_head(Line& line, const Shape& shape, bool shortest_first);

    const State& state_;
    std::map<ShapeKey, Shape>::const_iterator next_shape_;
    std::map<TenantId, Line> lines_;  // of the class that is trying
    std::set<Line*, Earlier> order_;  // those with heads
};

}  // namespace stargate
