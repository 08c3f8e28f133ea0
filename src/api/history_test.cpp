#include "api/history.hpp"
#include "api/server_testing.hpp"

/// Accounting, and changes of what was asked for, over HTTP.
namespace stargate::api {
namespace {

std::vector<std::string> names_of(const Json& rows) {
    std::vector<std::string> names;
    for (const auto& row : rows.items) names.push_back(row["name"].text);
    return names;
}
using Names = std::vector<std::string>;

class HistoryTest : public ServerTest {
protected:
    /// Runs to its end as this user, in a tenant.
    void ended(const std::string& name, std::uint32_t owner = 0, const std::string& tenant = "default") {
        NewJob job;
        job.input.spec.name = name;
        job.input.spec.owner = owner;
        job.input.spec.time_limit = std::chrono::hours{1};
        job.input.tenant = tenant;
        control_.runs_at_once = true;
        control_.submit(job, [](const Result<Answer>& answer) { ASSERT_TRUE(answer && answer->accepted()); });
        control_.runs_at_once = false;
    }
    Json ask(const std::string& target) { return wire().ask("GET", "/api/v1/history" + target).json(); }
};

TEST_F(HistoryTest, HasWhatEndedTheLastOneFirstWhereverItIs) {
    start();
    ended("a");
    ended("b");
    control_.retire_all();
    ended("c");
    wire().ask("POST", "/api/v1/jobs", R"({"argv":["true"],"folder":"/","name":"waits","held":true})");
    const auto rows = ask("");
    EXPECT_EQ(names_of(rows), (Names{"c", "b", "a"}));
    EXPECT_GT(rows.items[0]["charged_gpu_s"].number, -1);
    EXPECT_EQ(names_of(ask("?limit=2")), (Names{"c", "b"}));
    const auto ended_at = rows.items[1]["ended_at"].whole;
    EXPECT_EQ(names_of(ask("?since=" + std::to_string(ended_at))), (Names{"c", "b"}));
    EXPECT_EQ(names_of(ask("?until=" + std::to_string(ended_at))), (Names{"a"}));
    EXPECT_EQ(names_of(ask("?until=0")), Names{});
}

TEST_F(HistoryTest, IsOfOneOwnerOrOneTenantWhereThatIsAsked) {
    start();
    for (const auto* name : {"lab", "lab/nlp"}) control_.set({name});
    ended("a", 7);
    ended("b", 7, "lab/nlp");
    control_.retire_all();
    ended("c", 8, "lab");
    EXPECT_EQ(names_of(ask("?owner=7")), (Names{"b", "a"}));
    EXPECT_EQ(names_of(ask("?tenant=lab")), (Names{"c", "b"}));
    EXPECT_EQ(names_of(ask("?tenant=lab/nlp")), (Names{"b"}));
    const auto got = wire().ask("GET", "/api/v1/history?tenant=nobody");
    EXPECT_EQ(got.status, 404);
    EXPECT_EQ(got.json()["error"]["message"].text, "there is no tenant `nobody`");
    EXPECT_EQ(wire().ask("GET", "/api/v1/history?owner=x").status, 400);
}

TEST_F(HistoryTest, OfMoreThanAPieceComesWhole) {
    start();
    constexpr int many = 1'500;
    for (int i = 0; i < many; ++i) {
        ended("j" + std::to_string(i));
        if (i == 900) control_.retire_all();
    }
    const auto rows = ask("?limit=100000");
    ASSERT_EQ(rows.items.size(), static_cast<std::size_t>(many));
    for (int i = 0; i < many; ++i) {
        ASSERT_EQ(rows.items[static_cast<std::size_t>(i)]["name"].text, "j" + std::to_string(many - 1 - i));
    }
    const auto sums = ask("/usage");
    ASSERT_EQ(sums.items.size(), 1U);
    EXPECT_EQ(sums.items[0]["jobs"].whole, many);
}

TEST_F(HistoryTest, MeetsAJobOnceThatRetiresMeanwhile) {
    start();
    for (int i = 0; i < 400; ++i) ended("j" + std::to_string(i));
    const auto stream = list_history(control_, {0, true}, {}, 100'000);
    std::string out;
    ASSERT_EQ(stream->pull(out), Stream::Pulled::more);
    control_.retire_all();
    ended("later");
    for (auto pulled = Stream::Pulled::more; pulled == Stream::Pulled::more;) pulled = stream->pull(out);
    const auto rows = parse_json(out);
    ASSERT_TRUE(rows);
    EXPECT_EQ(rows->items.size(), 400U);
}

TEST_F(HistoryTest, SumsWhatJobsUsedByTenantAndOwner) {
    start();
    control_.set({"lab"});
    ended("a", 7);
    ended("b", 7);
    ended("c", 8);
    ended("d", 7, "lab");
    control_.retire_all();
    const auto rows = ask("/usage").items;
    ASSERT_EQ(rows.size(), 3U);
    EXPECT_EQ(rows[0]["tenant"].text, "default");
    EXPECT_EQ(rows[0]["owner"].whole, 7);
    EXPECT_EQ(rows[0]["jobs"].whole, 2);
    EXPECT_EQ(rows[1]["owner"].whole, 8);
    EXPECT_EQ(rows[2]["tenant"].text, "lab");
    EXPECT_EQ(ask("/usage?owner=8").items.size(), 1U);
}

TEST_F(HistoryTest, OfAnotherTenantIsNotShown) {
    start();
    SetTenant lab{"lab"};
    lab.members = {{7, "ada"}};
    control_.set(lab);
    ended("secret", 7, "lab");
    ended("open", 7);
    const auto seen_by = [&](std::uint32_t uid) {
        std::string out;
        const auto stream = list_history(control_, {uid, false}, {}, 100);
        while (stream->pull(out) == Stream::Pulled::more) {}
        return names_of(*parse_json(out));
    };
    EXPECT_EQ(seen_by(7), (Names{"open", "secret"}));
    EXPECT_EQ(seen_by(8), (Names{"open"}));
}

class EditTest : public ServerTest {
protected:
    Wire::Got edit(const std::string& reference, const std::string& body) {
        return wire().ask("PATCH", "/api/v1/jobs/" + reference, body);
    }
    Json show(const std::string& reference) { return wire().ask("GET", "/api/v1/jobs/" + reference).json(); }
    void submit(const std::string& name, const std::string& more = "") {
        const auto got =
            wire().ask("POST", "/api/v1/jobs", R"({"argv":["true"],"folder":"/","name":")" + name + "\"" + more + "}");
        ASSERT_EQ(got.status, 201) << got.body;
    }
};

TEST_F(EditTest, ChangesWhatIsNamedAndNothingElse) {
    start();
    submit("first", R"(,"held":true)");
    submit("a", R"(,"held":true,"time":"1h")");
    EXPECT_EQ(edit("a", R"({"priority":"production","gpus":"1..2","after":["first"]})").status, 200);
    auto row = show("a");
    EXPECT_EQ(row["priority"].text, "production");
    EXPECT_EQ(row["gpus_max"].whole, 2);
    EXPECT_EQ(row["time_limit_s"].whole, 3600);
    ASSERT_EQ(row["spec"]["comes_after"].items.size(), 1U);
    EXPECT_EQ(edit("a", R"({"time":"2h","gpus":2,"after":[]})").status, 200);
    row = show("a");
    EXPECT_EQ(row["time_limit_s"].whole, 7200);
    EXPECT_EQ(row["gpus_min"].whole, 2);
    EXPECT_EQ(row["priority"].text, "production");
    EXPECT_TRUE(row["spec"]["comes_after"].items.empty());
}

TEST_F(EditTest, SaysWhatIsWrong) {
    start();
    SetTenant lab{"default"};
    lab.keeps_quota = lab.keeps_weight = lab.keeps_members = true;
    lab.may_use = bit_of(PriorityClass::research);
    control_.set(lab);
    submit("a", R"(,"held":true)");
    struct Case {
        std::string body;
        int status;
        std::string message;
    };
    for (const auto& [body, status, message] : std::vector<Case>{
             {"{}", 422, "body: changes nothing"},
             {R"({"tim":"1h"})", 422, "tim: no such member (did you mean `time`?)"},
             {R"({"time":"0s"})", 422, "time: out of range"},
             {R"({"time":1})", 422, "time: "},
             {R"({"gpus":"0.5"})", 422, "gpus: a part of a GPU is chosen at submit"},
             {R"({"gpus":100})", 422, "it needs 100 GPUs, more than there are: "},
             {R"({"priority":"production"})", 403, "tenant default may not use production"},
             {R"({"after":["nobody"]})", 422, "its tenant has no job `nobody` that it could come after"},
             {R"({"after":["a"]})", 422, "it would come after itself"},
             {R"({"priority":[]})", 422, "priority: one value belongs here"},
         }) {
        const auto got = edit("a", body);
        EXPECT_EQ(got.status, status) << body << got.body;
        EXPECT_TRUE(got.json()["error"]["message"].text.starts_with(message)) << body << got.body;
        EXPECT_FALSE(got.json()["error"]["remedy"].text.empty()) << body;
    }
    EXPECT_EQ(edit("nobody", R"({"time":"1h"})").status, 404);
}

TEST_F(EditTest, AnArrayIsChangedAsAWhole) {
    start();
    submit("s", R"(,"count":3,"held":true)");
    for (const auto* one : {"s[1]", "2", "1"}) {
        const auto got = edit(one, R"({"time":"2h"})");
        EXPECT_EQ(got.status, 409) << one;
        EXPECT_EQ(got.json()["error"]["remedy"].text, "change all of them: stargate edit 1[]");
    }
    EXPECT_EQ(edit("s", R"({"time":"2h"})").json()["jobs"].items.size(), 3U);
    EXPECT_EQ(edit("1[]", R"({"time":"3h"})").status, 200);
    EXPECT_EQ(show("s[2]")["time_limit_s"].whole, 3 * 3600);
}

TEST_F(EditTest, WhatHasStartedIsNotToldToComeAfterOthers) {
    start();
    submit("first", R"(,"held":true)");
    submit("a");
    EXPECT_EQ(show("a")["state"].text, "starting");
    const auto got = edit("a", R"({"after":["first"]})");
    EXPECT_EQ(got.status, 409);
    EXPECT_EQ(got.json()["error"]["message"].text,
              "a has been started, and only what waits can be told to come after others");
    EXPECT_EQ(edit("a", R"({"gpus":2})").json()["error"]["message"].text, "it always runs on 1 GPU");
    EXPECT_EQ(edit("a", R"({"time":"5h"})").json()["active"].whole, 1);
}

TEST_F(EditTest, WhatIsOverIsNotChanged) {
    start();
    control_.runs_at_once = true;
    submit("a");
    const auto got = edit("a", R"({"time":"5h"})");
    EXPECT_EQ(got.status, 409);
    EXPECT_EQ(got.json()["error"]["message"].text, "a has ended already");
}

}  // namespace
}  // namespace stargate::api
