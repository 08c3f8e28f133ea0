#include "core/given.hpp"

// What depends on whose a job is, and on who belongs to a tenant.
namespace stargate::test {
namespace {

Asked by_user(std::uint32_t uid, Asked asked) {
    asked.submit.spec.owner = uid;
    return asked;
}

const Tenant& tenant(const Given& given, const std::string& name) {
    return given.state().at<TenantRow>(*given.state().tenant_named(name)).tenant;
}

TEST(Owner, AfterMeansTheSubmittersOwnJobOfThatName) {
    auto given = Given{}.node("n1", 8);
    const auto before = [&](const char* name) {
        return given.state().first_unmet(given.state().spec_of(given.row(name)));
    };
    given.waiting(by_user(1, job("prepare"))).runs("prepare");
    const auto own = given.id("prepare");
    given.waiting(by_user(2, job("prepare")));  // newer, and somebody else's
    const auto others = given.id("prepare");
    given.waiting(by_user(1, job("train").after("prepare")));
    EXPECT_EQ(before("train"), own);
    given.waiting(by_user(3, job("eval").after("prepare")));  // has none: the tenant's newest
    EXPECT_EQ(before("eval"), others);
}

TEST(Owner, ARefusalTellsWhichNameIsNotThere) {
    auto given = Given{}.node("n1", 8);
    given.waiting(job("prepare"));
    auto asked = job("train").after("prepare").after("nobody");
    const auto answer = given.decide_now(asked.submit);
    EXPECT_EQ(answer.why.why, Why::unknown_dependency);
    EXPECT_EQ(answer.why.need, 1);
}

TEST(Owner, NobodyFillsTheQueueAlone) {
    Settings settings;
    settings.max_waiting_of_one = 3;
    auto given = Given{settings}.node("n1", 1);
    given.waiting(by_user(1, job("a").count(3).held()));
    EXPECT_EQ(given.submit(by_user(1, job("b"))), Why::too_many_of_one);
    given.waiting(by_user(2, job("c").held()));
    given.cancel("a[0]");
    given.waiting(by_user(1, job("b").held()));
    EXPECT_EQ(given.state().waiting_of(1), 3);
    const auto copy = State::from_rows(given.state().rows());
    EXPECT_EQ(copy->derived_text(), given.state().derived_text());
}

TEST(SetTenant, LeavesWhatItIsToldToKeep) {
    Given given;
    given.tenant("lab/nlp", 4, 2, bit_of(PriorityClass::research));
    SetTenant members{"lab/nlp"};
    members.members = {{1000, "ada"}};
    members.keeps_quota = members.keeps_weight = members.keeps_classes = true;
    given.decide_now(members);
    EXPECT_EQ(tenant(given, "lab/nlp").quota, 4'000);
    EXPECT_EQ(tenant(given, "lab/nlp").weight, 2);
    EXPECT_EQ(tenant(given, "lab/nlp").may_use, bit_of(PriorityClass::research));
    EXPECT_EQ(tenant(given, "lab/nlp").members, (std::vector<Member>{{1000, "ada"}}));
    SetTenant quota{"lab/nlp", 1'000};
    quota.keeps_weight = quota.keeps_classes = quota.keeps_members = true;
    given.decide_now(quota);
    EXPECT_EQ(tenant(given, "lab/nlp").quota, 1'000);
    EXPECT_EQ(tenant(given, "lab/nlp").members.size(), 1U);
    EXPECT_EQ(tenant(given, "lab").quota, -1);  // what lies above is left alone
}

TEST(Table, IsReadOnBelowAnId) {
    Table<JobId, int> table;
    for (const auto id : {1U, 255U, 256U, 257U, 900U}) table.put(JobId{id}, static_cast<int>(id));
    const auto below = [&](std::uint64_t end) {
        std::vector<int> seen;
        table.for_each_newest(
            [&](int row) {
                seen.push_back(row);
                return true;
            },
            JobId{end});
        return seen;
    };
    EXPECT_EQ(below(~std::uint64_t{0}), (std::vector<int>{900, 257, 256, 255, 1}));
    EXPECT_EQ(below(900), (std::vector<int>{257, 256, 255, 1}));
    EXPECT_EQ(below(256), (std::vector<int>{255, 1}));
    EXPECT_EQ(below(1), std::vector<int>{});
}

}  // namespace
}  // namespace stargate::test
