#include "base/file.hpp"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file_lock.hpp"
#include "base/scratch_folder.hpp"

namespace stargate {
namespace {

TEST(DurableFile, IsReplacedWholeAndLeavesNothingBeside) {
    const ScratchFolder folder;
    ASSERT_TRUE(write_durably(folder / "exit", "old, and longer"));
    ASSERT_TRUE(write_durably(folder / "exit", "new"));
    EXPECT_EQ(read_file(folder / "exit", Bytes{100}).value(), "new");
    EXPECT_EQ(real_disk().list(folder.path()).value(), (std::vector<std::string>{"exit"}));
    struct stat status {};
    ASSERT_EQ(::stat((folder / "exit").c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777U, 0600U);
}

TEST(DurableFile, LongerThanTheLimitIsNotRead) {
    const ScratchFolder folder;
    ASSERT_TRUE(write_durably(folder / "big", std::string(101, 'x')));
    EXPECT_EQ(read_file(folder / "big", Bytes{100}).error().fault, Fault::malformed);
    EXPECT_EQ(read_file(folder / "none", Bytes{100}).error().fault, Fault::not_found);
}

TEST(DurableFile, MayBeRemovedTwice) {
    const ScratchFolder folder;
    ASSERT_TRUE(write_durably(folder / "token", "x"));
    EXPECT_TRUE(remove_durably(folder / "token"));
    EXPECT_TRUE(remove_durably(folder / "token"));
    EXPECT_FALSE(real_disk().exists(folder / "token"));
}

TEST(DurableFile, IsNeverWrittenThroughALink) {
    const ScratchFolder folder;
    ASSERT_TRUE(write_durably(folder / "precious", "old"));
    ASSERT_EQ(::symlink((folder / "precious").c_str(), (folder / ".token.new").c_str()), 0);
    EXPECT_FALSE(write_durably(folder / "token", "new"));
    ASSERT_EQ(::symlink((folder / "precious").c_str(), (folder / "lock").c_str()), 0);
    EXPECT_FALSE(FileLock::take(folder / "lock"));
    EXPECT_EQ(read_file(folder / "precious", Bytes{100}).value(), "old");
}

TEST(Folder, IsThereForWhoeverMakesIt) {
    const ScratchFolder folder;
    EXPECT_TRUE(make_folder_durably(folder / "attempts"));
    EXPECT_TRUE(make_folder_durably(folder / "attempts"));
    EXPECT_EQ(make_folder_durably(folder / "none/attempts").error().fault, Fault::not_found);
}

TEST(FileLock, IsHeldByOneAndNamesItsPid) {
    const ScratchFolder folder;
    auto first = FileLock::take(folder / "lock");
    ASSERT_TRUE(first);
    const auto second = FileLock::take(folder / "lock");
    ASSERT_FALSE(second);
    EXPECT_EQ(second.error().fault, Fault::conflict);
    EXPECT_NE(second.error().detail.find("pid " + std::to_string(::getpid())), std::string::npos);
}

TEST(FileLock, IsFreeSoonAfterItsHolderDiedInTheMiddleOfStartingAChild) {
    const ScratchFolder folder;
    pid_t child = 0;
    {
        const auto held = FileLock::take(folder / "lock");
        ASSERT_TRUE(held);
        child = ::fork();
        if (child == 0) {
            ::usleep(100'000);  // has not become another program yet, and holds what its parent held
            ::_exit(0);
        }
    }
    EXPECT_TRUE(FileLock::take(folder / "lock"));
    ::waitpid(child, nullptr, 0);
}

TEST(FileLock, IsFreeWhenItsHolderIsGone) {
    const ScratchFolder folder;
    { ASSERT_TRUE(FileLock::take(folder / "lock")); }
    EXPECT_TRUE(FileLock::take(folder / "lock"));
}

}  // namespace
}  // namespace stargate
