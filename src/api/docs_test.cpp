#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <set>
#include <string>

#include "api/fake_control.hpp"
#include "api/follow.hpp"
#include "api/json.hpp"
#include "api/routes.hpp"
#include "base/codec.hpp"
#include "base/scratch_folder.hpp"

namespace stargate::api {
namespace {

std::string read(const std::string& name) {
    std::ifstream file{std::string{STARGATE_DOCS} + "/" + name};
    return {std::istreambuf_iterator<char>{file}, {}};
}

/// The row of this fact as docs/events.md has to begin it.
template <class FactType>
std::string row_of(std::string_view name) {
    std::string row = "| `" + std::string{name} + "` |";
    boost::mp11::mp_for_each<codec::members_of<FactType>>(
        [&](auto member) { row += " `" + std::string{event_word(member.name)} + "`"; });
    return row + " | ";
}

TEST(Docs, EventsListEveryFactWithItsMembers) {
    const auto text = read("events.md");
    boost::mp11::mp_for_each<boost::mp11::mp_iota_c<std::variant_size_v<Fact>>>([&](auto index) {
        const auto row = row_of<std::variant_alternative_t<decltype(index)::value, Fact>>(fact_names[index]);
        EXPECT_NE(text.find(row), std::string::npos) << "docs/events.md lacks a row that begins: " << row;
    });
}

TEST(Docs, NoEventHasTwoMembersOfOneName) {
    boost::mp11::mp_for_each<boost::mp11::mp_iota_c<std::variant_size_v<Fact>>>([&](auto index) {
        std::string line;
        append_fact(line, {1, {}, 1, 0, std::variant_alternative_t<decltype(index)::value, Fact>{}});
        const auto event = parse_json(line);
        ASSERT_TRUE(event) << line;
        std::set<std::string> names;
        for (const auto& member : event->members) EXPECT_TRUE(names.insert(member.name).second) << member.name << line;
    });
}

TEST(Docs, EventsNameEveryCause) {
    const auto text = read("events.md");
    for (const auto name : input_names) EXPECT_NE(text.find("`" + std::string{name} + "`"), std::string::npos) << name;
}

TEST(Docs, InstantsThatDoNotApplyAreNull) {
    const auto line_of = [](const Fact& fact) {
        std::string line;
        append_fact(line, {1, {}, 1, 0, fact});
        return line;
    };
    for (const Fact& fact : std::vector<Fact>{Started{}, Resized{}, Requeued{}, Ended{}, GrowthPlanned{}, Reserved{}}) {
        const auto event = parse_json(line_of(fact)).value_or(Json{});
        for (const auto* name : {"limit", "gang_deadline", "settled", "not_before", "started", "planned_at", "fresh"}) {
            const auto* member = event.find(name);
            if (member == nullptr) continue;
            EXPECT_EQ(member->kind, Json::Kind::null) << name << " of " << line_of(fact);
        }
    }
    Started started;
    started.limit = Instant{std::chrono::seconds{1}};
    EXPECT_NE(line_of(started).find(R"("limit":1000000,)"), std::string::npos) << line_of(started);
}

TEST(Docs, MetricsListEachMetric) {
    const auto text = read("metrics.md");
    ScratchFolder folder;
    FakeControl control;
    auto tokens = Tokens::open(folder.path());
    ASSERT_TRUE(tokens);
    Api api{control, *tokens, {}};
    Request request;
    request.method = "GET";
    request.target = *Target::parse("/metrics");
    std::string metrics;
    api.handle(request, [&](const Api::Outcome& outcome) { metrics = std::get<Reply>(made(outcome)).body; });
    int found = 0;
    for (auto at = metrics.find("# HELP "); at != std::string::npos; at = metrics.find("# HELP ", at + 1), ++found) {
        const auto name = metrics.substr(at + 7, metrics.find(' ', at + 7) - at - 7);
        EXPECT_NE(text.find("`" + name), std::string::npos) << name;
    }
    EXPECT_GT(found, 10);
}

TEST(Docs, JobFilesListEveryLevel) {
    const auto text = read("job-file.md");
    const auto row = text.find("| `topology` |");
    ASSERT_NE(row, std::string::npos);
    boost::mp11::mp_for_each<boost::describe::describe_enumerators<Level>>([&](auto level) {
        const auto word = "`" + std::string{level.name} + "`";
        EXPECT_LT(text.find(word, row), text.find('\n', row)) << word;
    });
}

}  // namespace
}  // namespace stargate::api
