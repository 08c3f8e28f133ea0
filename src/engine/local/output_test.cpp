#include <fcntl.h>
#include <sys/mount.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "engine/local/attempt_folder.hpp"
#include "engine/local/output_frame.hpp"
#include "engine/local/testing.hpp"

// What ranks print, and disks that are full.
namespace stargate::local::testing {
namespace {

namespace fs = std::filesystem;

class OutputTest : public LocalEngineTest {
protected:
    [[nodiscard]] std::string log_path(AttemptId attempt) const {
        return output_log_path(state_, JobId{attempt.value + 1000}, attempt);
    }
    [[nodiscard]] std::vector<OutputPiece> pieces_of(AttemptId attempt) const {
        const auto log = OutputLog::open(log_path(attempt));
        EXPECT_TRUE(log);
        const auto part = log->read(0);
        EXPECT_TRUE(part);
        return part->pieces;
    }
};

TEST_F(OutputTest, KnowsRankAndStreamOfEachPiece) {
    const auto ended = run(shell_job("echo out; sleep 0.05; echo err >&2"), 2);
    std::vector<std::string> seen;
    for (const auto& piece : pieces_of(ended.attempt)) {
        seen.push_back(std::to_string(piece.rank) + (piece.is_errors ? "!" : " ") + piece.bytes);
        EXPECT_GT(piece.unix_us, 1'600'000'000'000'000);
    }
    std::sort(seen.begin(), seen.end());
    EXPECT_EQ(seen, (std::vector<std::string>{"0 out\n", "0!err\n", "1 out\n", "1!err\n"}));
}

TEST_F(OutputTest, LosesNothingOfALargeOutput) {
    const auto ended = run(shell_job("head -c 5000000 /dev/zero | tr '\\0' x"));
    EXPECT_EQ(output(ended.attempt), std::string(5'000'000, 'x'));
}

TEST_F(OutputTest, IsCutAtTheLimitAndTheJobGoesOn) {
    auto job = shell_job("head -c 300000 /dev/zero | tr '\\0' x; touch went-on");
    job.output_limit = Bytes{100'000};
    const auto ended = run(job);
    EXPECT_EQ(ended.exit.code, 0);
    EXPECT_TRUE(fs::exists(submit_ / "went-on"));
    const auto text = output(ended.attempt);
    EXPECT_TRUE(text.ends_with("\noutput limit reached; the rest is dropped\n"));
    EXPECT_LT(fs::file_size(log_path(ended.attempt)), 100'200U);
    EXPECT_GT(text.size(), 99'000U);
}

TEST_F(OutputTest, ReadsOnFromAnyOffsetAndWaitsForATornTail) {
    const auto ended = run(shell_job("echo one; sleep 0.05; echo two; sleep 0.05; echo three"));
    const auto path = log_path(ended.attempt);
    const auto whole = fs::file_size(path);
    fs::resize_file(path, whole - 3);  // what a crash leaves of the last piece
    const auto log = OutputLog::open(path);
    ASSERT_TRUE(log);
    const auto part = log->read(0);
    ASSERT_TRUE(part);
    ASSERT_EQ(part->pieces.size(), 2U);
    EXPECT_EQ(log->read(part->next_offset)->pieces.size(), 0U);
    EXPECT_EQ(log->read(part->next_offset)->next_offset, part->next_offset);
    EXPECT_FALSE(log->read(1));  // no piece begins there
    EXPECT_FALSE(log->read(-1));
    EXPECT_EQ(OutputLog::open(root_ / "none").error().fault, Fault::not_found);
}

/// The state folder on a tiny file system.
class FullDisk : public OutputTest {
protected:
    void SetUp() override {
        if (!is_root()) GTEST_SKIP() << "mounting needs root";
        OutputTest::SetUp();
        engine_.reset();
        mount_disk();
        if (!IsSkipped()) start_engine();
    }
    virtual void mount_disk() { ASSERT_EQ(mount("tmpfs", state_.c_str(), "tmpfs", 0, "size=1m,mode=755"), 0); }
    void TearDown() override {
        if (!is_root()) return;
        OutputTest::TearDown();
        umount2(state_.c_str(), MNT_DETACH);
        std::error_code ignored;
        fs::remove_all(root_, ignored);
    }
    void fill() const {
        std::ofstream file{state_ / "filler", std::ios::binary};
        const std::string block(4096, 'x');
        while (file.write(block.data(), static_cast<std::streamsize>(block.size())).flush()) {}
    }
    virtual void make_room() const { fs::remove(state_ / "filler"); }
    void lose_output_and_go_on();
};

void FullDisk::lose_output_and_go_on() {
    // What is still in the pipe when there is room again would be kept.
    const std::string until_taken =
        "python3 -c 'import fcntl, termios, time\n"
        "while fcntl.ioctl(1, termios.FIONREAD, bytes(4)) != bytes(4): time.sleep(0.01)'; ";
    const auto attempt =
        start(shell_job("echo begun; until [ -e full ]; do sleep 0.01; done; echo lost1;"
                        "head -c 3000000 /dev/zero; " +
                        until_taken +
                        "touch printed; until [ -e room ]; do sleep 0.01; "
                        "done; echo after"));
    ASSERT_TRUE(prints(attempt, "begun"));
    fill();
    std::ofstream{submit_ / "full"}.close();
    ASSERT_TRUE(soon([&] { return fs::exists(submit_ / "printed"); }));
    make_room();
    std::ofstream{submit_ / "room"}.close();
    const auto ended = reports_.next<RanksEnded>(attempt);
    ASSERT_TRUE(ended);
    EXPECT_EQ(ended->exit.code, 0);
    const auto text = output(attempt);
    EXPECT_NE(text.find(" bytes of output were lost: the disk was full\nafter\n"), std::string::npos) << text.size();
}

TEST_F(FullDisk, OutputIsDroppedCountedAndTheJobGoesOn) { lose_output_and_go_on(); }

TEST_F(FullDisk, WhatItsFileCannotSayIsSaidOfTheEnd) {
    const auto attempt =
        start(shell_job("echo begun; until [ -e full ]; do sleep 0.01; done; head -c 100000 /dev/zero"));
    ASSERT_TRUE(prints(attempt, "begun"));
    fill();
    std::ofstream{submit_ / "full"}.close();
    const auto ended = reports_.next<RanksEnded>(attempt);
    ASSERT_TRUE(ended);
    EXPECT_EQ(ended->exit.code, 0);
    EXPECT_TRUE(ended->exit.detail.ends_with(" bytes of output were lost: the disk was full")) << ended->exit.detail;
}

/// A disk of which half is kept for root, full to its last block; the room that is made lies within that half.
class FullDiskWithRootsPart : public FullDisk {
protected:
    void mount_disk() override {
        const auto image = (root_ / "image").string();
        const auto make = "truncate -s 8M " + image + " && mkfs.ext4 -q -m 50 " + image + " && mount -o loop " + image +
                          " " + state_.string() + " && chmod 755 " + state_.string();
        if (std::system((make + " 2>/dev/null").c_str()) != 0) GTEST_SKIP() << "cannot mount a file as ext4";
    }
    void make_room() const override {
        fs::resize_file(state_ / "filler", fs::file_size(state_ / "filler") - (1U << 20));
        struct statvfs disk {};
        ASSERT_EQ(statvfs(state_.c_str(), &disk), 0);
        ASSERT_EQ(disk.f_bavail, 0U);
    }
};

TEST_F(FullDiskWithRootsPart, OutputGoesOnInTheRoomThatIsRootsAlone) { lose_output_and_go_on(); }

TEST_F(FullDisk, TheInitOfAResizedAttemptIsNotedAllTheSame) {
    const auto attempt = start(shell_job("echo ready; exec sleep 1000"), 2);
    ASSERT_TRUE(reports_.next<RanksRunning>(attempt));
    fill();
    end(attempt, std::chrono::milliseconds{0}, 1, 1, 0, EndCause::resize);
    ASSERT_TRUE(reports_.next<RanksEnded>(attempt));
    const auto smaller = command_for(attempt, 1, 2);
    engine_->carry_out(smaller);
    ASSERT_TRUE(reports_.next<RanksRunning>(attempt));
    const Fd folder{open(folder_of(attempt).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    const auto record = read_record<ShimRecord>(folder.get(), shim_record_name);
    ASSERT_TRUE(record);
    EXPECT_EQ(record->gpus, smaller.gpus);
    EXPECT_TRUE(has_living_init(*record, boot_id()));
    make_room();
}

TEST_F(FullDisk, AStartWaitsForRoomAndIsNoFailure) {
    fill();
    const auto attempt = start(shell_job("echo here"));
    EXPECT_FALSE(reports_.next<RanksEnded>(attempt, std::chrono::milliseconds{50}));
    make_room();
    const auto ended = reports_.next<RanksEnded>(attempt);
    ASSERT_TRUE(ended);
    EXPECT_EQ(ended->exit.kind, ExitKind::exited) << ended->exit.detail;
    EXPECT_EQ(output(attempt), "here\n");
}

TEST_F(FullDisk, AStartThatWaitsForRoomCanBeEnded) {
    fill();
    const auto attempt = start(shell_job("touch ran"));
    EXPECT_FALSE(reports_.next<RanksEnded>(attempt, std::chrono::milliseconds{20}));
    engine_->carry_out(command_for(attempt, 1));  // owed still, and said again
    end(attempt, std::chrono::milliseconds{0});
    const auto ended = reports_.next<RanksEnded>(attempt);
    ASSERT_TRUE(ended);
    EXPECT_TRUE(ended->warned);
    EXPECT_EQ(ended->exit.kind, ExitKind::refused);
    make_room();
    EXPECT_FALSE(reports_.next<RanksRunning>(attempt, std::chrono::milliseconds{200}));
    engine_->carry_out(Forget{attempt, here});
    EXPECT_TRUE(soon([&] { return fs::is_empty(state_ / "attempts"); }));
    EXPECT_FALSE(fs::exists(submit_ / "ran"));
}

TEST_F(FullDisk, AnEndAheadOfItsStartIsNotForgottenForWantOfATombstone) {
    fill();
    const AttemptId attempt{77};
    end(attempt, std::chrono::milliseconds{0}, 2);
    EXPECT_FALSE(reports_.next<RanksEnded>(attempt, std::chrono::milliseconds{20}));
    make_room();
    const auto ended = reports_.next<RanksEnded>(attempt);
    ASSERT_TRUE(ended);
    EXPECT_EQ(ended->generation, 2U);
    EXPECT_TRUE(ended->warned);
    EXPECT_TRUE(fs::exists(folder_of(attempt) / "tombstone"));
}

TEST_F(FullDisk, AControlPlaneThatCouldNotSayThatItLeadsStartsNothing) {
    engine_.reset();
    fs::remove(state_ / "authority");
    fill();
    start_engine(2);
    const auto attempt = start(shell_job("echo here"));
    EXPECT_FALSE(reports_.next<RanksEnded>(attempt, std::chrono::milliseconds{20}));
    EXPECT_FALSE(fs::exists(folder_of(attempt)));
    make_room();
    ASSERT_TRUE(reports_.next<RanksEnded>(attempt));
    EXPECT_EQ(output(attempt), "here\n");
}

TEST_F(FullDisk, AnEndIsToldAtOnceAndRecordedWhenThereIsRoom) {
    const auto attempt = start(shell_job("echo begun; until [ -e full ]; do sleep 0.01; done; exit 8"));
    ASSERT_TRUE(prints(attempt, "begun"));
    fill();
    std::ofstream{submit_ / "full"}.close();
    const auto ended = reports_.next<RanksEnded>(attempt);
    ASSERT_TRUE(ended);
    EXPECT_EQ(ended->exit.code, 8);
    start_engine(2);  // the shim is still there, and says it again
    ASSERT_TRUE(engine_->adopt({{attempt, true}}));
    ASSERT_TRUE(reports_.next<RanksEnded>(attempt));
    EXPECT_FALSE(fs::exists(folder_of(attempt) / "exit"));
    make_room();
    EXPECT_TRUE(soon([&] { return fs::exists(folder_of(attempt) / "exit"); }));
}

TEST(OutputLogName, SaysWhoseOutputItIs) {
    const auto path = output_log_path("/state", JobId{12}, AttemptId{34});
    EXPECT_EQ(job_of_output_log(path.substr(path.rfind('/') + 1)), JobId{12});
    for (const auto* other : {"", "12", "12-34", "-34.log", "x-1.log", ".12-34.log"}) {
        EXPECT_FALSE(job_of_output_log(other)) << other;
    }
}

}  // namespace
}  // namespace stargate::local::testing
