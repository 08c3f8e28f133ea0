#pragma once

#include <cstddef>
#include <deque>
#include <map>
#include <utility>

namespace stargate {

/// A line for each key. One is taken from each line in turn, so that a long line waits for itself. Not for two threads.
template <class Key, class Value>
class FairQueue {
public:
    void push(const Key& key, Value value) {
        auto& line = lines_[key];
        if (line.empty()) turns_.push_back(key);
        line.push_back(std::move(value));
    }
    /// The first of the line whose turn it is. Not called when empty.
    [[nodiscard]] Value pop() {
        const auto key = turns_.front();
        turns_.pop_front();
        const auto line = lines_.find(key);
        auto value = std::move(line->second.front());
        line->second.pop_front();
        if (line->second.empty()) {
            lines_.erase(line);
        } else {
            turns_.push_back(key);
        }
        return value;
    }
    [[nodiscard]] bool empty() const { return turns_.empty(); }
    [[nodiscard]] std::size_t size_of(const Key& key) const {
        const auto line = lines_.find(key);
        return line == lines_.end() ? 0 : line->second.size();
    }

private:
    std::map<Key, std::deque<Value>> lines_;  // none is empty
    std::deque<Key> turns_;                   // of each line, next first
};

}  // namespace stargate
