#include "engine/local/port_holder.hpp"

#include <arpa/inet.h>
#include <linux/capability.h>
#include <netinet/in.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/local/posix.hpp"
#include "engine/local/testing.hpp"

// Whose the socket is that takes connections on a port.
namespace stargate::local::testing {
namespace {

using Who = PortHolder::Who;

/// A socket of this process on a port of the loopback, listening once it is told to.
class Taken {
public:
    Taken() {
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        socklen_t length = sizeof address;
        auto* generic = reinterpret_cast<sockaddr*>(&address);
        EXPECT_EQ(::bind(socket_.get(), generic, length), 0);
        EXPECT_EQ(::getsockname(socket_.get(), generic, &length), 0);
        port_ = ntohs(address.sin_port);
    }
    void listen() { EXPECT_EQ(::listen(socket_.get(), 1), 0); }
    void close() { socket_.reset(); }
    [[nodiscard]] int port() const { return port_; }

private:
    Fd socket_{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    int port_ = 0;
};

class PortHolderTest : public LocalEngineTest {
protected:
    /// A server in a grandchild of the rank's shell, as servers with workers are.
    [[nodiscard]] Launch server(const std::string& host = "127.0.0.1") const {
        return shell_job(R"((/usr/bin/python3 -c '
import os, socket, time
one = socket.socket(socket.AF_INET6 if ":" in ")" +
                         host + R"(" else socket.AF_INET)
one.bind((")" + host + R"(", int(os.environ["PORT"])))
one.listen()
print("listens", flush=True)
time.sleep(1000)' & wait))");
    }
    AttemptId start_at(Launch launch, int port) {
        auto command = command_for(AttemptId{last_.value + 1}, 1);
        command.port = port;
        return LocalEngineTest::start(std::move(launch), command);
    }
    [[nodiscard]] PortHolder holder(AttemptId attempt, int port) { return holders().holder_of(attempt, port); }
    [[nodiscard]] PortHolders& holders() {
        if (!holders_) holders_.emplace(state_);
        return *holders_;
    }

private:
    std::optional<PortHolders> holders_;
};

TEST_F(PortHolderTest, AServerOfTheAttemptIsItsOwnWithAndWithoutASandbox) {
    for (const auto sandbox : {Sandbox::none, Sandbox::standard}) {
        for (const auto* host : {"127.0.0.1", "0.0.0.0", "::"}) {
            Taken place;
            place.close();
            auto job = server(host);
            job.sandbox = sandbox;
            const auto attempt = start_at(job, place.port());
            ASSERT_TRUE(prints(attempt, "listens")) << output(attempt);
            EXPECT_EQ(holder(attempt, place.port()).who, Who::the_replica) << host;
            EXPECT_EQ(holder(attempt, place.port()).who, Who::the_replica) << "looked at once more";
            end(attempt, std::chrono::milliseconds{0});
            ASSERT_TRUE(reports_.next<RanksEnded>(attempt));
            EXPECT_EQ(holder(attempt, place.port()).who, Who::nobody);
        }
    }
}

TEST_F(PortHolderTest, WhatSomebodyElseListensOnIsNot) {
    Taken taken;  // bound, but not listening yet
    const auto attempt = start_at(shell_job("echo begun; sleep 1000"), taken.port());
    ASSERT_TRUE(prints(attempt, "begun"));
    EXPECT_EQ(holder(attempt, taken.port()).who, Who::nobody);
    taken.listen();
    const auto holds = holder(attempt, taken.port());
    EXPECT_EQ(holds.who, Who::somebody_else);
    const auto expected = "(pid " + std::to_string(getpid()) + ") of user " + std::to_string(getuid()) +
                          " listens on port " + std::to_string(taken.port()) + " already";
    EXPECT_NE(holds.detail.find(expected), std::string::npos) << holds.detail;
}

TEST_F(PortHolderTest, AnotherAttemptsServerIsSomebodyElse) {
    Taken place;
    Taken another_place;
    place.close();
    another_place.close();
    const auto attempt = start_at(server(), place.port());
    const auto other = start_at(server(), another_place.port());
    ASSERT_TRUE(prints(attempt, "listens") && prints(other, "listens"));
    EXPECT_EQ(holder(attempt, place.port()).who, Who::the_replica);
    EXPECT_EQ(holder(attempt, another_place.port()).who, Who::somebody_else);
    EXPECT_EQ(holder(other, another_place.port()).who, Who::the_replica);
    EXPECT_EQ(holder(other, place.port()).who, Who::somebody_else);
}

TEST_F(PortHolderTest, AReplicaWhosePortIsTakenIsNotStarted) {
    Taken taken;
    taken.listen();
    const auto attempt = start_at(shell_job("echo begun"), taken.port());
    const auto ended = reports_.next<RanksEnded>(attempt);
    ASSERT_TRUE(ended);
    EXPECT_EQ(ended->exit.kind, ExitKind::refused);
    EXPECT_NE(ended->exit.detail.find("listens on port " + std::to_string(taken.port())), std::string::npos)
        << ended->exit.detail;
    EXPECT_EQ(output(attempt), "");
}

/// As in some containers: root may list the descriptors of other users' processes there, and not look at them.
TEST(PortHolderOfRootThatMayNotTrace, TheReplicasUserIsEnough) {
    if (geteuid() != 0) GTEST_SKIP() << "needs root, to give up a right of it";
    const auto child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
        prctl(PR_CAPBSET_DROP, CAP_SYS_PTRACE);
        execl("/proc/self/exe", "engine_local_test", "--gtest_brief=1",
              "--gtest_filter=PortHolderTest.AServerOfTheAttempt*:PortHolderTest.WhatSomebodyElse*", nullptr);
        _exit(1);
    }
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
}

}  // namespace
}  // namespace stargate::local::testing
