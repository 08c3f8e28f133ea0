#include <gtest/gtest.h>

#include <future>

#include "api/fact_sight.hpp"
#include "api/fake_control.hpp"
#include "api/json.hpp"
#include "api/routes.hpp"
#include "base/scratch_folder.hpp"

// Who sees and may use what: users 1001 and 1002 belong to tenant `a`, 1003 to `b`; `default` is everybody's.
namespace stargate::api {
namespace {

constexpr std::uint32_t ada = 1001, ben = 1002, eve = 1003, root = 0;

class TenantsTest : public testing::Test {
protected:
    TenantsTest() : tokens_{std::move(*Tokens::open(folder_.path()))}, api_{control_, tokens_, {}} {
        control_.set(tenant("a", {{ada, "ada"}, {ben, "ben"}}));
        control_.set(tenant("b", {{eve, "eve"}}));
        control_.set(tenant("a/below", {}));
    }
    static SetTenant tenant(const std::string& name, std::vector<Member> members) {
        SetTenant set{name};
        set.members = std::move(members);
        return set;
    }
    JobId submit(std::uint32_t owner, const std::string& name, const std::string& of = "default", int gpus = 1,
                 int count = 1, int retries = 3) {
        Submit submit;
        submit.spec.name = name;
        submit.spec.owner = owner;
        submit.spec.min_gpus = submit.spec.max_gpus = GpuCount{gpus};
        submit.spec.time_limit = std::chrono::hours{1};
        submit.spec.retries = retries;
        submit.tenant = of;
        submit.count = count;
        JobId job;
        Launch launch;
        launch.argv = {"secret-program"};
        control_.submit({submit, launch, {}, {}}, [&](const Result<Answer>& answer) { job = answer->job; });
        return job;
    }
    struct Got {
        int status = 0;
        std::string body;
        Json json;
    };
    Got ask(std::uint32_t uid, const std::string& method, const std::string& target, const std::string& body = {}) {
        Request request;
        request.method = method;
        request.target = *Target::parse(target);
        request.body = body;
        request.caller = {uid, uid == root, true};
        std::promise<Got> got;
        api_.handle(request, [&](const Api::Outcome& outcome) {
            auto response = made(outcome);
            if (auto* reply = std::get_if<Reply>(&response)) {
                return got.set_value({reply->status, reply->body, parse_json(reply->body).value_or(Json{})});
            }
            std::string out;
            auto& stream = *std::get<std::unique_ptr<Stream>>(response);
            while (stream.pull(out) == Stream::Pulled::more) {}
            got.set_value({200, out, {}});
        });
        return got.get_future().get();
    }
    std::string names(std::uint32_t uid, const std::string& more = {}) {
        std::string all;
        for (const auto& row : ask(uid, "GET", "/api/v1/jobs" + more).json.items) {
            all += (all.empty() ? "" : " ") + row["name"].text;
        }
        return all;
    }

    ScratchFolder folder_;
    FakeControl control_;
    Tokens tokens_;
    Api api_;
};

TEST_F(TenantsTest, OthersTenantsAreNotListedShownOrExplained) {
    submit(ada, "train", "a");
    submit(ada, "deep", "a/below");
    submit(eve, "theirs", "b");
    submit(eve, "open");
    EXPECT_EQ(names(root), "open theirs deep train");
    EXPECT_EQ(names(ben), "open deep train");  // a member, and of what lies below
    EXPECT_EQ(names(eve), "open theirs");
    for (const auto* verb : {"", "/why", "/logs"}) {
        EXPECT_EQ(ask(eve, "GET", std::string{"/api/v1/jobs/train"} + verb).status, 404) << verb;
        EXPECT_EQ(ask(eve, "GET", std::string{"/api/v1/jobs/1"} + verb).status, 404) << verb;
    }
    EXPECT_EQ(ask(eve, "POST", "/api/v1/jobs/1/cancel").status, 404);
    EXPECT_EQ(ask(eve, "POST", "/api/v1/jobs/1/follow").status, 404);
    EXPECT_EQ(ask(ben, "POST", "/api/v1/jobs/1/follow").status, 403);
    EXPECT_EQ(ask(ben, "POST", "/api/v1/jobs/train/cancel").status, 403);  // seen, and not his
    EXPECT_EQ(ask(eve, "GET", "/api/v1/fleet").json.items[0]["jobs"].items.size(), 2U);
    std::string tenants;
    for (const auto& row : ask(eve, "GET", "/api/v1/tenants").json.items) tenants += row["name"].text + " ";
    EXPECT_EQ(tenants, "default b ");
}

TEST_F(TenantsTest, EventsAreThoseOfJobsThatOneMaySee) {
    submit(ada, "train", "a");
    submit(eve, "theirs", "b");
    control_.report(RanksRunning{AttemptId{1}, NodeId{1}, 1});
    control_.report(RanksEnded{AttemptId{1}, NodeId{1}, 1, {}, false, -1});
    control_.retire_all();
    for (const auto* form : {"/api/v1/events", "/api/v1/events?format=jsonl", "/api/v1/events?follow=1"}) {
        const auto evening = ask(eve, "GET", form).body;
        EXPECT_EQ(evening.find("train"), std::string::npos) << form;
        EXPECT_EQ(evening.find(R"("attempt":1,)"), std::string::npos) << form << evening;
        EXPECT_EQ(evening.find(R"("name":"a")"), std::string::npos) << form;
        EXPECT_NE(evening.find("theirs"), std::string::npos) << form;
        EXPECT_NE(evening.find("took_office"), std::string::npos) << form;
        const auto morning = ask(ben, "GET", form).body;
        EXPECT_NE(morning.find(R"("type":"part_ended","cause":"ranks_ended","cause_seq":1,"attempt":1,)"),
                  std::string::npos)
            << form << morning;
    }
}

TEST_F(TenantsTest, WhyNamesForeignHoldersAsAnotherTenant) {
    submit(ada, "big", "a", 3);
    submit(eve, "wants", "b", 4);
    const auto why = ask(eve, "GET", "/api/v1/jobs/wants/why");
    ASSERT_EQ(why.json["holders"].items.size(), 1U) << why.body;
    EXPECT_EQ(why.json["holders"].items[0]["name"].text, "another tenant");
    EXPECT_EQ(why.json["holders"].items[0]["gpus"].whole, 3);
    EXPECT_EQ(why.body.find("big"), std::string::npos);
    EXPECT_EQ(ask(root, "GET", "/api/v1/jobs/wants/why").json["holders"].items[0]["name"].text, "big");
}

TEST_F(TenantsTest, WhyNamesWorkThatTheStateDoesNotKnow) {
    ForeignFound found{NodeId{1}, 0b0111, {AttemptId{3}, AttemptId{9}}, 2};
    found.cpus = cpus(60);
    control_.report(found);
    submit(ada, "wants", "a", 2);
    const auto why = ask(ada, "GET", "/api/v1/jobs/wants/why");
    ASSERT_EQ(why.json["holders"].items.size(), 1U) << why.body;
    const auto& holder = why.json["holders"].items[0];
    EXPECT_EQ(holder["id"].kind, Json::Kind::null);
    EXPECT_EQ(holder["name"].text, "2 attempts on node n1, which this state does not know");
    EXPECT_EQ(holder["gpus"].whole, 3);
    EXPECT_EQ(holder["cpus"].whole, 0) << "GPUs are what it waits for";
}

TEST_F(TenantsTest, HowAJobIsRunIsItsOwnersToSee) {
    submit(ada, "train", "a");
    EXPECT_NE(ask(ada, "GET", "/api/v1/jobs/train").body.find("secret-program"), std::string::npos);
    EXPECT_NE(ask(root, "GET", "/api/v1/jobs/train").body.find("secret-program"), std::string::npos);
    const auto seen = ask(ben, "GET", "/api/v1/jobs/train");
    EXPECT_EQ(seen.status, 200);
    EXPECT_EQ(seen.body.find("secret-program"), std::string::npos);
}

TEST_F(TenantsTest, ANameMeansOnesOwnJobFirst) {
    const auto own = submit(ada, "train");
    const auto bens = submit(ben, "train");
    const auto eves = submit(eve, "train");
    EXPECT_EQ(ask(ada, "GET", "/api/v1/jobs/train").json["id"].whole, static_cast<std::int64_t>(own.value));
    EXPECT_EQ(ask(ada, "POST", "/api/v1/jobs/train/cancel").status, 200);
    EXPECT_EQ(ask(ben, "GET", "/api/v1/jobs/train").json["state"].text, "starting");
    const auto which = ask(root, "POST", "/api/v1/jobs/train/cancel");  // root has none of that name
    EXPECT_EQ(which.status, 409);
    EXPECT_NE(which.body.find(std::to_string(bens.value)), std::string::npos) << which.body;
    EXPECT_NE(which.body.find(std::to_string(eves.value)), std::string::npos) << which.body;
    EXPECT_EQ(ask(root, "POST", "/api/v1/jobs/" + std::to_string(bens.value) + "/cancel").status, 200);
}

TEST_F(TenantsTest, SettingOneThingLeavesTheOthers) {
    EXPECT_EQ(ask(root, "PUT", "/api/v1/tenants/a", R"({"quota":2,"weight":3,"priorities":["research"]})").status, 200);
    EXPECT_EQ(ask(root, "PUT", "/api/v1/tenants/a", R"({"weight":5})").status, 200);
    const auto row = ask(root, "GET", "/api/v1/tenants").json.items[1];
    EXPECT_EQ(row["quota"].whole, 2);
    EXPECT_EQ(row["weight"].whole, 5);
    EXPECT_EQ(row["priorities"].items.size(), 1U);
    EXPECT_EQ(row["members"].word(), "ada,ben");
    EXPECT_EQ(ask(root, "PUT", "/api/v1/tenants/a", R"({"members":["root"]})").status, 200);
    EXPECT_EQ(ask(root, "GET", "/api/v1/tenants").json.items[1]["members"].word(), "root");
    EXPECT_EQ(ask(root, "PUT", "/api/v1/tenants/a", R"({"members":[]})").status, 200);
    EXPECT_EQ(ask(root, "GET", "/api/v1/tenants").json.items[1]["members"].items.size(), 0U);
    for (const auto* bad : {R"({"quotas":1})", R"({"quota":"8"})", R"({"weight":"2"})", R"({"priorities":"research"})",
                            R"({"priorities":["system"]})", R"({"members":"ada"})", R"({"members":[1]})",
                            R"({"members":["no-such-user"]})", "[]", "{"}) {
        EXPECT_EQ(ask(root, "PUT", "/api/v1/tenants/a", bad).status, 422) << bad;
    }
    EXPECT_EQ(ask(root, "GET", "/api/v1/tenants").json.items[1]["quota"].whole, 2);
}

TEST_F(TenantsTest, TheRowTellsWhatIsInForceFromTheRootOn) {
    const auto below = [&](const char* member) {
        for (const auto& row : ask(root, "GET", "/api/v1/tenants").json.items) {
            if (row["name"].text == "a/below") return row[member].word();
        }
        return std::string{"no row"};
    };
    EXPECT_EQ(below("limit"), "");
    EXPECT_EQ(below("users"), "ada,ben");
    ask(root, "PUT", "/api/v1/tenants/a", R"({"quota":2,"members":[]})");
    EXPECT_EQ(below("quota"), "");
    EXPECT_EQ(below("limit"), "2");
    EXPECT_EQ(below("users"), "");
    ask(root, "PUT", "/api/v1/tenants/a/below", R"({"quota":1,"members":["root"]})");
    EXPECT_EQ(below("limit"), "1");
    EXPECT_EQ(below("users"), "root");
}

TEST_F(TenantsTest, TheHistoryKeepsNamesCountsAndFilters) {
    control_.runs_at_once = true;
    submit(ada, "sweep", "a", 1, 3);
    submit(ada, "single", "a");
    control_.retire_all();
    control_.runs_at_once = false;
    submit(ada, "now", "a");
    EXPECT_EQ(names(ada), "now single sweep[2] sweep[1] sweep[0]");
    EXPECT_EQ(names(ada, "?name=sweep&limit=2"), "sweep[2] sweep[1]");
    EXPECT_EQ(names(ada, "?name=sweep[0]&limit=1"), "sweep[0]");
    EXPECT_EQ(names(ada, "?state=succeeded&limit=1"), "single");
    EXPECT_EQ(names(ada, "?state=failed"), "");
    EXPECT_EQ(names(eve), "");
    const auto shown = ask(ada, "GET", "/api/v1/jobs/sweep[0]");
    EXPECT_EQ(shown.json["count"].whole, 3);
    EXPECT_EQ(shown.json["id"].whole, 1);
    EXPECT_EQ(ask(ada, "GET", "/api/v1/jobs/single/why").json["state"].text, "succeeded");
    EXPECT_EQ(ask(ada, "GET", "/api/v1/jobs/single/logs").status, 200);
    EXPECT_EQ(ask(eve, "GET", "/api/v1/jobs/single/why").status, 404);
    EXPECT_EQ(ask(ada, "POST", "/api/v1/jobs/single/cancel").status, 409);
    const auto followed = ask(ada, "POST", "/api/v1/jobs/1/follow", R"({"resume":"0-1:done"})").body;
    EXPECT_NE(followed.find("succeeded"), std::string::npos);
    EXPECT_EQ(followed.find("succeeded"), followed.rfind("succeeded"));  // of the third alone
}

TEST_F(TenantsTest, AJobThatGaveUpTellsAllItsFailures) {
    submit(ada, "unlucky", "a", 1, 1, 0);
    control_.report(AttemptLost{AttemptId{1}, NodeId{1}, "its node died"});
    const auto row = ask(ada, "GET", "/api/v1/jobs/unlucky").json;
    EXPECT_EQ(row["detail"].text, "gave up after 1 infrastructure failures; the last: its node died");
    EXPECT_EQ(row["failures"].whole, 1);
}

TEST_F(TenantsTest, WhoLentIsShownToThoseWhoMaySeeThatJobAlone) {
    const auto lender = submit(ada, "theirs", "a");
    const auto borrower = submit(eve, "mine", "b");
    FactSight sight{control_, {eve, false, true}};
    sight.look_again();
    Started begun;
    begun.job = borrower;
    begun.attempt = AttemptId{7};
    Fact started = begun;
    EXPECT_TRUE(sight.may_see(started));
    Fact lent = Lent{lender, borrower, AttemptId{7}, 1};
    EXPECT_TRUE(sight.may_see(lent));
    EXPECT_FALSE(std::get<Lent>(lent).lender);
    Resized shrunk;
    shrunk.attempt = AttemptId{7};
    shrunk.lender = borrower;  // this time the other way round
    shrunk.borrower = lender;
    Fact resized = shrunk;
    EXPECT_TRUE(sight.may_see(resized));
    EXPECT_EQ(std::get<Resized>(resized).lender, borrower);
    EXPECT_FALSE(std::get<Resized>(resized).borrower);
    Fact returned = Returned{lender, borrower, AttemptId{7}, 1};
    EXPECT_TRUE(sight.may_see(returned));
    EXPECT_FALSE(std::get<Returned>(returned).lender);
    Claimed claim;
    claim.claim.job = borrower;
    claim.claim.lenders = {{lender, 1}};
    Fact claimed = claim;
    EXPECT_TRUE(sight.may_see(claimed));
    EXPECT_FALSE(std::get<Claimed>(claimed).claim.lenders.front().lender);
    FactSight own{control_, {ada, false, true}};
    own.look_again();
    Fact theirs = Lent{borrower, lender, AttemptId{8}, 1};
    EXPECT_FALSE(own.may_see(theirs));  // of an attempt that is not known
}

TEST_F(TenantsTest, ALongListingLetsOthersInBetween) {
    for (int i = 0; i < 25; ++i) submit(ada, "many", "a", 4, 100);
    const auto rows = *parse_json(ask(ada, "GET", "/api/v1/jobs?limit=2400").body);
    ASSERT_EQ(rows.items.size(), 2'400U);
    for (std::size_t i = 0; i < rows.items.size(); ++i) {
        ASSERT_EQ(rows.items[i]["id"].whole, 2'500 - static_cast<std::int64_t>(i));
    }
}

}  // namespace
}  // namespace stargate::api
