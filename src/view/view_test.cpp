#include "view/view.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <future>

namespace stargate {
namespace {

constexpr Instant at(std::int64_t seconds) { return Instant{std::chrono::seconds{seconds}}; }

/// A batch whose facts make the tenants of these ids.
View::Batch tenants(std::uint64_t first, std::uint64_t count, std::uint64_t last_fact) {
    View::Batch batch{at(static_cast<std::int64_t>(last_fact)), {}, last_fact, {}};
    for (std::uint64_t id = first; id < first + count; ++id) {
        Tenant tenant;
        tenant.id = TenantId{id};
        tenant.name = "lab" + std::to_string(id);
        batch.facts.emplace_back(TenantSet{tenant});
    }
    return batch;
}

std::size_t tenants_in(const View& view) {
    return view.read([](const State& state) { return state.table<TenantRow>().size(); });
}

TEST(View, FoldsASmallBatchBeforeTheWriterGoesOn) {
    View view{State{}, 0};
    bool answered = false;
    auto batch = tenants(1, 3, 3);
    batch.answers.emplace_back([&] { answered = tenants_in(view) == 3; });
    view.fold(std::move(batch));
    EXPECT_TRUE(answered) << "what a client was told is in the view by then";
    EXPECT_EQ(view.last_fact(), 3U);
}

TEST(View, AReaderIsNeverWaitedForByTheWriter) {
    View view{State{}, 0};
    std::promise<void> reading, written;
    std::promise<std::size_t> answered;
    std::thread reader{[&] {
        view.read([&](const State& state) {
            reading.set_value();
            written.get_future().wait();  // the writer has come and gone while we look
            EXPECT_EQ(state.table<TenantRow>().size(), 0U);
        });
    }};
    reading.get_future().wait();
    auto batch = tenants(1, 1, 1);
    batch.answers.emplace_back([&] { answered.set_value(tenants_in(view)); });
    view.fold(std::move(batch));
    written.set_value();
    EXPECT_EQ(answered.get_future().get(), 1U);
    reader.join();
}

TEST(View, KeepsTheOrderOfBatchesLargeAndSmall) {
    std::vector<std::uint64_t> heard;
    std::promise<void> last;
    {
        View view{State{}, 0};
        view.on_fold([&](std::uint64_t fact) { heard.push_back(fact); });
        std::uint64_t fact = 0;
        for (int round = 0; round < 50; ++round) {
            for (const std::uint64_t count : {1U, 200U, 2U, 1U}) {
                auto batch = tenants(fact + 1, count, fact + count);
                fact += count;
                if (round == 49)
                    batch.answers.emplace_back([&, fact] {
                        if (fact == 10'200) last.set_value();
                    });
                view.fold(std::move(batch));
            }
        }
        last.get_future().wait();
        EXPECT_EQ(tenants_in(view), 10'200U);
    }
    EXPECT_TRUE(std::is_sorted(heard.begin(), heard.end()));
    EXPECT_EQ(heard.size(), 200U);
}

}  // namespace
}  // namespace stargate
