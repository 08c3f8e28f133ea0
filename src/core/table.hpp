#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "base/check.hpp"

namespace stargate {

/// Rows by a dense id, in pages, so that ids that only ever rise do not cost memory once their rows are gone (eight
/// bytes a page of 256 remain). Iterates by id. Lookup O(1).
template <class IdType, class Row>
class Table {
public:
    [[nodiscard]] const Row* find(IdType id) const {
        const auto page = static_cast<std::size_t>(id.value / page_size);
        if (page >= pages_.size() || !pages_[page]) return nullptr;
        const auto& slot = pages_[page]->slots[id.value % page_size];
        return slot ? &*slot : nullptr;
    }
    [[nodiscard]] Row* find(IdType id) { return const_cast<Row*>(std::as_const(*this).find(id)); }
    [[nodiscard]] const Row& at(IdType id) const {
        const auto* row = find(id);
        CHECK(row != nullptr);
        return *row;
    }
    void put(IdType id, Row row) {
        const auto page = static_cast<std::size_t>(id.value / page_size);
        if (page >= pages_.size()) pages_.resize(page + 1);
        if (!pages_[page]) pages_[page] = std::make_unique_for_overwrite<Page>();  // slots are empty, not zeroed
        auto& slot = pages_[page]->slots[id.value % page_size];
        if (!slot) {
            ++pages_[page]->used;
            ++size_;
        }
        slot = std::move(row);
    }
    void erase(IdType id) {
        const auto page = static_cast<std::size_t>(id.value / page_size);
        if (page >= pages_.size() || !pages_[page]) return;
        auto& slot = pages_[page]->slots[id.value % page_size];
        if (!slot) return;
        slot.reset();
        --size_;
        if (--pages_[page]->used == 0) pages_[page].reset();
    }
    [[nodiscard]] std::size_t size() const { return size_; }

    template <class Visit>
    void for_each(Visit visit) const {
        for (const auto& page : pages_) {
            if (!page) continue;
            for (const auto& slot : page->slots) {
                if (slot) visit(*slot);
            }
        }
    }
    /// From the highest id below `end` down, until `visit` returns false.
    template <class Visit>
    void for_each_newest(Visit visit, IdType end = IdType{~std::uint64_t{0}}) const {
        auto page = static_cast<std::size_t>(std::min<std::uint64_t>(end.value / page_size + 1, pages_.size()));
        while (page-- > 0) {
            if (!pages_[page]) continue;
            auto slot = static_cast<std::size_t>(std::min<std::uint64_t>(end.value - page * page_size, page_size));
            while (slot-- > 0) {
                const auto& row = pages_[page]->slots[slot];
                if (row && !visit(*row)) return;
            }
        }
    }

private:
    static constexpr std::size_t page_size = 256;
    struct Page {
        std::array<std::optional<Row>, page_size> slots;
        std::size_t used = 0;
    };
    std::vector<std::unique_ptr<Page>> pages_;
    std::size_t size_ = 0;
};

}  // namespace stargate
