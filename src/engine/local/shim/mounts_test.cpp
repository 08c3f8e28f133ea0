#include "engine/local/shim/mounts.hpp"

#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "base/scratch_folder.hpp"
#include "engine/local/shim/mount_point.hpp"

namespace stargate::local {
namespace {

TEST(MountTable, IsReadWholeHoweverLongItIs) {
    if (geteuid() != 0) GTEST_SKIP() << "mounting needs root";
    const ScratchFolder scratch;
    auto deep = std::filesystem::path{scratch.path()};
    for (int level = 0; level < 15; ++level) deep /= std::string(200, 'd');
    std::filesystem::create_directories(deep);
    constexpr int mounts = 400;  // of 3,000 bytes each: more than 1 MiB
    const auto child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
        bool fits = unshare(CLONE_NEWNS) == 0 && mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0;
        for (int i = 0; i < mounts && fits; ++i) fits = mount("tmpfs", deep.c_str(), "tmpfs", 0, "size=4k") == 0;
        const auto table = mount_table();
        const auto is_ours = [&](const MountPoint& point) { return point.path == deep; };
        _exit(fits && table && std::count_if(table->begin(), table->end(), is_ours) == mounts ? 0 : 1);
    }
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
}

TEST(MountPoint, IsNeverMadeInsideAHiddenFolderThoughTheSubmitterOwnsIt) {
    const ScratchFolder scratch;
    const auto top = std::filesystem::canonical(scratch.path());
    const auto state = top / "state";
    std::filesystem::create_directory(state);
    std::filesystem::create_symlink(state, top / "link");
    RunAs self;
    self.uid = geteuid();
    self.gid = getegid();
    for (const auto& target : {state / "made", top / "link" / "made" / "below", state}) {
        const auto fault = make_mount_point(self, {state}, target, true);
        ASSERT_TRUE(fault);
        EXPECT_EQ(fault->kind, EndKind::could_not_start);
        EXPECT_EQ(fault->why, "mount target " + target.string() + " lies inside the state folder");
    }
    EXPECT_TRUE(std::filesystem::is_empty(state));
    EXPECT_FALSE(make_mount_point(self, {state}, top / "beside", true));
    EXPECT_TRUE(std::filesystem::is_directory(top / "beside"));
}

}  // namespace
}  // namespace stargate::local
