#include "api/account.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "base/posix.hpp"
#include "base/scratch_folder.hpp"

// What an account is told of files: nothing that it could not see itself.
namespace stargate::api {
namespace {

/// A process of root that stands in an open folder which lies in a closed one.
class ProcessOfRoot : public ::testing::Test {
protected:
    void SetUp() override {
        if (geteuid() != 0) GTEST_SKIP() << "needs root to take on another account's rights";
        const auto closed = folder_.path() + "/closed";
        const auto open_one = closed + "/open";
        ASSERT_EQ(mkdir(closed.c_str(), 0700), 0);
        ASSERT_EQ(mkdir(open_one.c_str(), 0755), 0);
        const FileDescriptor program{open((open_one + "/there").c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0755)};
        ASSERT_TRUE(program);
        int ready[2];
        ASSERT_EQ(pipe2(ready, O_CLOEXEC), 0);
        const FileDescriptor reader{ready[0]};
        FileDescriptor writer{ready[1]};
        process_ = fork();
        if (process_ == 0) {
            if (chdir(open_one.c_str()) != 0) _exit(1);
            writer = {};
            for (;;) pause();
        }
        writer = {};
        char none = 0;
        EXPECT_EQ(read(reader.get(), &none, 1), 0);
    }
    void TearDown() override {
        if (process_ <= 0) return;
        kill(process_, SIGKILL);
        waitpid(process_, nullptr, 0);
    }
    [[nodiscard]] std::string in_process(const std::string& name) const {
        return "/proc/" + std::to_string(process_) + "/cwd" + name;
    }
    [[nodiscard]] static Launch launch() {
        Launch launch;
        launch.account.uid = launch.account.gid = 65'534;
        launch.account.groups = {65'534};
        launch.account.name = "nobody";
        launch.folder = "/";
        return launch;
    }
    /// Why it is refused, with PATH for the path it is about; empty when it is not.
    [[nodiscard]] static std::string why(const Result<void>& answer, const std::string& path) {
        if (answer) return {};
        auto text = answer.error().detail;
        for (auto at = text.find(path); at != std::string::npos; at = text.find(path))
            text.replace(at, path.size(), "PATH");
        return text;
    }

    const ScratchFolder folder_;
    pid_t process_ = 0;
};

TEST_F(ProcessOfRoot, AMountThroughItIsRefusedWhetherItIsThereOrNot) {
    const auto refusal = [&](const std::string& name) {
        auto mounting = launch();
        mounting.mounts.push_back({in_process(name), "/mnt", true});
        return why(can_mount(mounting, "/var/lib/stargate"), in_process(name));
    };
    EXPECT_NE(refusal("/there"), "");
    EXPECT_EQ(refusal("/there"), refusal("/absent"));
    auto plain = launch();
    plain.mounts.push_back({"/etc/passwd", "/mnt", true});
    EXPECT_TRUE(can_mount(plain, "/var/lib/stargate"));
}

TEST_F(ProcessOfRoot, AFolderIsNotEnteredThroughIt) {
    const auto refusal = [&](const std::string& name) {
        auto starting = launch();
        starting.folder = in_process(name);
        return why(can_start(starting, "/var/lib/stargate"), in_process(name));
    };
    EXPECT_NE(refusal(""), "");
    EXPECT_EQ(refusal("/there"), refusal("/absent"));
}

TEST_F(ProcessOfRoot, AProgramIsNotFoundThroughIt) {
    const auto refusal = [&](const std::string& name) {
        auto starting = launch();
        starting.argv = {in_process(name)};
        return why(can_start(starting, "/var/lib/stargate"), in_process(name));
    };
    EXPECT_NE(refusal("/there"), "");
    EXPECT_EQ(refusal("/there"), refusal("/absent"));
    auto searching = launch();
    searching.argv = {"there"};
    searching.env = {{"PATH", in_process("")}};
    EXPECT_FALSE(can_start(searching, "/var/lib/stargate"));
    searching.argv = {"sh"};
    searching.env = {{"PATH", in_process("") + ":/bin"}};
    EXPECT_TRUE(can_start(searching, "/var/lib/stargate")) << "the rest of the path is still sought in";
}

}  // namespace
}  // namespace stargate::api
