#include <sys/stat.h>

#include "api/account.hpp"
#include "api/server_testing.hpp"
#include "base/json_text.hpp"

// What a submit is refused for, and in which words.
namespace stargate::api {
namespace {

TEST_F(ServerTest, EachMemberOfARequestHasItsKind) {
    start();
    auto w = wire();
    const auto message = [&](const std::string& members) {
        const auto got = w.ask("POST", "/api/v1/jobs", R"({"argv":["true"],"folder":"/",)" + members + "}");
        EXPECT_EQ(got.status, 422) << members << got.body;
        const auto text = got.json()["error"]["message"].text;
        return text.substr(0, text.find(':'));
    };
    EXPECT_EQ(message(R"("held":"true")"), "held");
    EXPECT_EQ(message(R"("env":"A=1")"), "env");
    EXPECT_EQ(message(R"("env":{"A":["1"]})"), "env.A");
    EXPECT_EQ(message(R"("after":1)"), "after");
    EXPECT_EQ(message(R"("after":[["a"]])"), "after");
    EXPECT_EQ(message(R"("name":7)"), "name");
    EXPECT_EQ(message(R"("name":["a"])"), "name");
    EXPECT_EQ(message(R"("file":1)"), "file");
    EXPECT_EQ(message(R"("environment":[])"), "environment");
    EXPECT_EQ(message(R"("environment":{"A":1})"), "environment");
    const auto beside =
        w.ask("POST", "/api/v1/jobs", R"({"yaml":"kind: batch\nname: a\nrun: x\n","folder":"/","gpus":2})");
    EXPECT_EQ(beside.status, 422);
    EXPECT_EQ(beside.json()["error"]["message"].text, "gpus: stands beside `yaml`");
    EXPECT_EQ(w.ask("POST", "/api/v1/jobs", R"({"yaml":["x"],"folder":"/"})").status, 422);
    EXPECT_EQ(w.ask("GET", "/api/v1/jobs").body, "[]\n");
}

TEST_F(ServerTest, ASingleWordIsADependencyToo) {
    start();
    auto w = wire();
    w.ask("POST", "/api/v1/jobs", R"({"argv":["true"],"folder":"/","name":"prepare"})");
    EXPECT_EQ(w.ask("POST", "/api/v1/jobs", R"({"argv":["true"],"folder":"/","name":"t","after":"prepare"})").status,
              201);
    EXPECT_EQ(w.ask("GET", "/api/v1/jobs/t").json()["reason"].text, "dependency");
    const auto lost = w.ask("POST", "/api/v1/jobs", R"({"argv":["true"],"folder":"/","after":["prepare","nobody"]})");
    EXPECT_EQ(lost.json()["error"]["message"].text, "its tenant has no job `nobody` that it could come after");
}

TEST_F(ServerTest, WhatAJobComesAfterIsTakenOnceAndNotWithoutEnd) {
    start();
    auto w = wire();
    w.ask("POST", "/api/v1/jobs", R"({"argv":["true"],"folder":"/","name":"prepare"})");
    std::string doubled;
    std::string many;
    for (int i = 0; i < 101; ++i) {
        doubled += R"("prepare",)";
        many += "\"j" + std::to_string(i) + "\",";
    }
    const auto ask = [&](const std::string& names) {
        return w.ask("POST", "/api/v1/jobs", R"({"argv":["true"],"folder":"/","after":[)" + names + R"("prepare"]})");
    };
    EXPECT_EQ(ask(doubled).status, 201);
    const auto refused = ask(many);
    EXPECT_EQ(refused.status, 422);
    EXPECT_EQ(refused.json()["error"]["message"].text, "after: 102 jobs, and 100 is the most");
}

TEST_F(ServerTest, WhatIsWrongWithAFileIsToldWithItsLine) {
    start();
    auto w = wire();
    const auto message = [&](const std::string& lines) {
        std::string body = R"({"folder":"/","file":"j.yaml","yaml":)";
        json_string(body, "kind: batch\nname: a\n" + lines);
        return w.ask("POST", "/api/v1/jobs", body + "}").json()["error"]["message"].text;
    };
    EXPECT_EQ(message("run: x\ntenant: lab\n"), "j.yaml:4: tenant: there is no tenant `lab`");
    EXPECT_EQ(message("gpus: 99\nrun: x\n"), "j.yaml:3: gpus: it needs 99 GPUs, more than there are: 4");
    EXPECT_EQ(message("run: x\n\nafter: [b]\n").substr(0, 17), "j.yaml:5: after: ");
    EXPECT_EQ(message("run: x\ndir: /no/such\n").substr(0, 38), "j.yaml:4: dir: /no/such cannot be ente");
    EXPECT_EQ(message("run: [no-such-program]\n").substr(0, 31), "j.yaml:3: run: no-such-program ");
    EXPECT_EQ(message("\ncommand: [no-such-program]\n").substr(0, 35), "j.yaml:4: command: no-such-program ");
    EXPECT_EQ(message("run: x\nmounts: [/etc:/data, /no-such:/more]\n").substr(0, 44),
              "j.yaml:4: mounts: /no-such cannot be reached");
    EXPECT_EQ(message("run: x\nmemory: 9TB\n").substr(0, 18), "j.yaml:4: memory: ");
    EXPECT_EQ(message("run: x\npriority: system\n").substr(0, 20), "j.yaml:4: priority: ");
}

TEST_F(ServerTest, WhatALinkLeadsToIsMountedOnlyIfItMayBe) {
    start();
    const ScratchFolder links;
    chmod(links.path().c_str(), 0755);
    chmod(folder_.path().c_str(), 0755);
    const auto link_to = [&](const std::string& target) {
        const auto link = links.path() + "/link";
        unlink(link.c_str());
        EXPECT_EQ(symlink(target.c_str(), link.c_str()), 0);
        std::string body = R"({"folder":"/","file":"j.yaml","yaml":)";
        json_string(body, "kind: batch\nname: a\nrun: x\nmounts: ['" + link + ":/data']\n");
        return wire().ask("POST", "/api/v1/jobs", body + "}").json()["error"]["message"].text;
    };
    EXPECT_NE(link_to("/proc").find("j.yaml:4: mounts: `/proc` would show"), std::string::npos);
    EXPECT_NE(link_to("/").find("j.yaml:4: mounts: `/` holds what no job may see"), std::string::npos);
    const auto state = folder_.path() + "/state";
    ASSERT_EQ(mkdir(state.c_str(), 0755), 0);
    EXPECT_NE(link_to(state).find("lies in the state folder"), std::string::npos);
    EXPECT_EQ(link_to("/etc"), "");
}

TEST_F(ServerTest, WhatIsMountedMustBeWithinTheSubmittersReach) {
    start();
    const ScratchFolder scratch;
    chmod(scratch.path().c_str(), 0755);
    const auto made = scratch.path() + "/made";
    ASSERT_EQ(mkdir(made.c_str(), 0700), 0);
    const auto status = [&](const std::string& source, const std::string& more) {
        std::string body = R"({"folder":"/","file":"j.yaml","yaml":)";
        json_string(body, "kind: batch\nname: a\nrun: x\nmounts: ['" + source + ":/data']\n" + more);
        return wire().ask("POST", "/api/v1/jobs", body + "}").status;
    };
    EXPECT_EQ(status("/etc", ""), 201);
    EXPECT_EQ(status(scratch.path() + "/no-such", ""), 422);
    EXPECT_EQ(status(scratch.path() + "/no-such", "after: a\n"), 201) << "job a may make it";
    // Whether there is something in a folder that the job's account cannot enter is not told.
    if (geteuid() != 0) return;
    EXPECT_EQ(status(made + "/here", ""), status(made + "/there", ""));
    ASSERT_EQ(mkdir((made + "/here").c_str(), 0755), 0);
    EXPECT_EQ(status(made + "/here", ""), 422);
}

TEST_F(ServerTest, AMountOverTheJobsOwnFolderMustHaveIt) {
    start();
    const ScratchFolder scratch;
    const auto source = scratch.path() + "/source";
    const auto home = scratch.path() + "/home";
    for (const auto& folder : {scratch.path(), source, home, home + "/mine"}) {
        if (folder != scratch.path()) { ASSERT_EQ(mkdir(folder.c_str(), 0755), 0); }
        chmod(folder.c_str(), 0755);
    }
    const auto said = [&](const std::string& mounts, const std::string& more = "") {
        std::string body = R"({"file":"j.yaml","folder":)";
        json_string(body, home + "/mine");
        body += R"(,"yaml":)";
        json_string(body, "kind: batch\nname: a\nrun: x\nmounts: [" + mounts + "]\n" + more);
        return wire().ask("POST", "/api/v1/jobs", body + "}").json()["error"]["message"].text;
    };
    const auto hides = "'" + source + ":" + home + "'";
    EXPECT_NE(said(hides).find("j.yaml:4: mounts: the job starts in " + home + "/mine, which would be " + source +
                               "/mine, and that cannot be entered"),
              std::string::npos)
        << said(hides);
    EXPECT_EQ(said("'" + source + ":" + home + "/mine'"), "") << "it starts in the source";
    EXPECT_EQ(said("'" + source + ":" + home + "/mine/data'"), "");
    EXPECT_EQ(said(hides + ", '" + source + ":" + home + "/mine'"), "") << "the last one is on top";
    EXPECT_EQ(said(hides, "after: a\n"), "") << "job a may make it";
    ASSERT_EQ(mkdir((source + "/mine").c_str(), 0755), 0);
    EXPECT_EQ(said(hides), "");
}

TEST_F(ServerTest, AnAcceptedRequestIsFoundByItsKeyThoughItCouldNotStartAgain) {
    start();
    const auto folder = folder_.path() + "/work";
    chmod(folder_.path().c_str(), 0755);
    ASSERT_EQ(mkdir(folder.c_str(), 0755), 0);
    const auto body = R"({"argv":["true"],"folder":")" + folder + "\"}";
    auto w = wire();
    const auto first = w.ask("POST", "/api/v1/jobs", body, "Idempotency-Key: k\r\n");
    ASSERT_EQ(first.status, 201) << first.body;
    ASSERT_EQ(rmdir(folder.c_str()), 0);
    std::this_thread::sleep_for(std::chrono::milliseconds{1'100});  // what was there is believed for a second
    const auto again = w.ask("POST", "/api/v1/jobs", body, "Idempotency-Key: k\r\n");
    EXPECT_EQ(again.status, 201) << again.body;
    EXPECT_EQ(again.body, first.body);
    EXPECT_EQ(w.ask("POST", "/api/v1/jobs", body, "Idempotency-Key: other\r\n").status, 422);
}

TEST_F(ServerTest, WhoIsNoMemberMayNotSubmit) {
    if (geteuid() != 0) GTEST_SKIP() << "only root runs work of other users";
    ServerSetting setting;
    setting.listen = "127.0.0.1:0";
    start(setting);
    SetTenant set{"lab"};
    set.members = {{1, "daemon"}};
    control_.set(set);
    auto w = wire();
    const auto token = w.ask("POST", "/api/v1/tokens", R"({"uid":65534})").json()["token"].text;
    const auto nobody = "Authorization: Bearer " + token + "\r\n";
    const auto got = tcp().ask("POST", "/api/v1/jobs", R"({"argv":["true"],"folder":"/","tenant":"lab"})", nobody);
    EXPECT_EQ(got.status, 403) << got.body;
    EXPECT_EQ(got.code(), "not_a_member");
    EXPECT_EQ(tcp().ask("POST", "/api/v1/jobs", R"({"argv":["true"],"folder":"/"})", nobody).status, 201);
    EXPECT_EQ(tcp().ask("POST", "/api/v1/jobs", R"({"argv":["true"],"folder":"/","tenant":"lab"})", bearer()).status,
              201);
}

TEST(Accounts, RootsJobsNeverRunAsRoot) {
    const auto account = job_account("root");
    ASSERT_FALSE(account);
    EXPECT_EQ(account.error().fault, Fault::denied);
}

}  // namespace
}  // namespace stargate::api
