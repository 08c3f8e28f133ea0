#include <grp.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

// All the other tests once more, without any privilege: namespaces come from a user namespace then.
namespace stargate::local::testing {
namespace {

constexpr unsigned nobody = 65534;
constexpr int could_not_execute = 99;

TEST(AsAnOrdinaryUser, EverythingHoldsAsWell) {
    if (geteuid() != 0) GTEST_SKIP() << "this is that run";
    const auto child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
        const bool is_nobody = setgroups(0, nullptr) == 0 && setresgid(nobody, nobody, nobody) == 0 &&
                               setresuid(nobody, nobody, nobody) == 0;
        if (is_nobody) execl("/proc/self/exe", "engine_local_test", "--gtest_brief=1", nullptr);
        _exit(could_not_execute);
    }
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    if (WIFEXITED(status) && WEXITSTATUS(status) == could_not_execute) {
        GTEST_SKIP() << "the build folder is closed to other users";
    }
    EXPECT_EQ(status, 0);
}

}  // namespace
}  // namespace stargate::local::testing
