#include "loop/round.hpp"

#include "core/given.hpp"

namespace stargate::test {
namespace {

/// Folds the log of `given` from its `from`th fact on into commands.
std::vector<Command> commands_after(CommandsDue& due, const Given& given, std::size_t from) {
    std::vector<Fact> facts;
    for (auto i = from; i < given.log().size(); ++i) facts.push_back(given.log()[i].fact);
    return due.after(given.state(), facts);
}

std::vector<Forget> forgets_in(const std::vector<Command>& commands) {
    std::vector<Forget> found;
    for (const auto& command : commands) {
        if (const auto* forget = std::get_if<Forget>(&command)) found.push_back(*forget);
    }
    return found;
}

TEST(CommandsDue, ForgetWhereAGenerationLeft) {
    auto given = Given{}.node("n1", 8).node("n2", 8);
    given.running(job("e").gpus(4, 16));
    CommandsDue due{given.state()};
    const auto one = given.attempt("e");
    ASSERT_EQ(one.parts.size(), 2U);
    auto before = given.facts();
    given.resize("e", 8);
    EXPECT_TRUE(forgets_in(commands_after(due, given, before)).empty()) << "its ranks are still there";
    before = given.facts();
    given.leaves("e");
    const auto commands = commands_after(due, given, before);
    const auto left = one.parts[1].node;
    EXPECT_EQ(forgets_in(commands), (std::vector<Forget>{{one.id, left}}));
    given.runs("e").later(seconds{3});
    given.resize("e", 16);
    before = given.facts();
    given.leaves("e").runs("e");
    EXPECT_TRUE(given.attempt("e").parts.size() == 2U) << "it grew back";
    EXPECT_TRUE(forgets_in(commands_after(due, given, before)).empty());
    before = given.facts();
    given.ends("e");
    EXPECT_EQ(forgets_in(commands_after(due, given, before)).size(), 2U);
}

}  // namespace
}  // namespace stargate::test
