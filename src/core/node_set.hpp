#pragma once

#include <bit>
#include <cstdint>
#include <vector>

#include "base/units.hpp"

namespace stargate {

/// A set of nodes as bits with one level of summary: first and next in O(nodes / 4096), insert and erase O(1).
class NodeSet {
public:
    void insert(NodeId id) {
        const auto word = static_cast<std::size_t>(id.value / 64);
        if (word >= words_.size()) {
            words_.resize(word + 1);
            summary_.resize(word / 64 + 1);
        }
        if ((words_[word] & bit(id.value)) == 0) ++size_;
        words_[word] |= bit(id.value);
        summary_[word / 64] |= bit(word);
    }
    void erase(NodeId id) {
        const auto word = static_cast<std::size_t>(id.value / 64);
        if (word >= words_.size() || (words_[word] & bit(id.value)) == 0) return;
        --size_;
        words_[word] &= ~bit(id.value);
        if (words_[word] == 0) summary_[word / 64] &= ~bit(word);
    }
    [[nodiscard]] bool contains(NodeId id) const {
        const auto word = static_cast<std::size_t>(id.value / 64);
        return word < words_.size() && (words_[word] & bit(id.value)) != 0;
    }
    [[nodiscard]] bool empty() const { return size_ == 0; }
    [[nodiscard]] std::size_t size() const { return size_; }
    /// The lowest id above `after`; NodeId{} when there is none.
    [[nodiscard]] NodeId next(NodeId after) const {
        const auto from = after.value + 1;
        auto word = static_cast<std::size_t>(from / 64);
        if (word >= words_.size()) return {};
        if (const auto rest = words_[word] & (~std::uint64_t{0} << (from % 64))) return id_of(word, rest);
        for (++word; word < words_.size();) {
            const auto rest = summary_[word / 64] & (~std::uint64_t{0} << (word % 64));
            if (rest != 0) {
                word = word / 64 * 64 + static_cast<std::size_t>(std::countr_zero(rest));
                return id_of(word, words_[word]);
            }
            word = (word / 64 + 1) * 64;
        }
        return {};
    }
    [[nodiscard]] NodeId first() const { return next(NodeId{0}); }

private:
    static constexpr std::uint64_t bit(std::uint64_t index) { return std::uint64_t{1} << (index % 64); }
    static NodeId id_of(std::size_t word, std::uint64_t bits) {
        return NodeId{word * 64 + static_cast<std::uint64_t>(std::countr_zero(bits))};
    }
    std::vector<std::uint64_t> words_;
    std::vector<std::uint64_t> summary_;
    std::size_t size_ = 0;
};

}  // namespace stargate
