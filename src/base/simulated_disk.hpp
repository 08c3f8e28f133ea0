#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/disk.hpp"
#include "base/fault_plan.hpp"

namespace stargate {

/// A disk in memory that keeps apart what is durable from what is only written, and obeys a fault plan. Pessimistic
/// where POSIX leaves it open: syncing a file does not make its name durable, and nothing unsynced survives by luck
/// alone. After a cut every call fails until reboot(); files opened before it stay dead.
class SimulatedDisk final : public Disk {
public:
    /// Begins with one empty, durable folder.
    explicit SimulatedDisk(const std::string& folder);
    ~SimulatedDisk() override;

    /// Steps and syncs in it count from the disk's first one, also those already taken.
    void set_plan(const FaultPlan& plan) { plan_ = plan; }
    /// The power comes back: what has survived is there, and no fault is planned any more. Without a cut before it, the
    /// power goes now, between two steps.
    void reboot();

    [[nodiscard]] std::uint64_t steps() const { return steps_; }
    [[nodiscard]] std::uint64_t syncs() const { return syncs_; }
    [[nodiscard]] bool is_cut() const { return is_cut_; }
    /// What each step did, for messages and for tests of what is synced when: "write /state/stargate.db-wal".
    [[nodiscard]] const std::vector<std::string>& trace() const { return trace_; }

    [[nodiscard]] Result<std::unique_ptr<DiskFile>> open(const std::string& path, Opening how) override;
    [[nodiscard]] Result<void> rename(const std::string& from, const std::string& to) override;
    [[nodiscard]] Result<void> remove(const std::string& path) override;
    [[nodiscard]] Result<void> make_folder(const std::string& path) override;
    [[nodiscard]] Result<void> sync_folder(const std::string& path) override;
    [[nodiscard]] Result<std::vector<std::string>> list(const std::string& path) override;
    [[nodiscard]] bool exists(const std::string& path) override;

private:
    friend class SimulatedFile;
    struct Content;
    /// A name added, removed, or both at once (a rename).
    struct NameChange {
        std::uint64_t step = 0;
        std::string removed;
        std::string added;
        std::shared_ptr<Content> content;  // behind `added`
    };
    using Names = std::map<std::string, std::shared_ptr<Content>>;
    enum class Needs { nothing, room };

    /// Counts a step and meets it with what the plan has for it. The caller then makes its change and calls end_step().
    [[nodiscard]] Result<void> begin_step(std::string_view what, const std::string& path, Needs needs);
    /// Cuts the power if this is the step for it: the change just made is then the one in progress.
    [[nodiscard]] Result<void> end_step();
    [[nodiscard]] Result<void> begin_sync(const std::string& path);
    [[nodiscard]] Result<void> change_name(std::string_view what, Needs needs, NameChange change);
    [[nodiscard]] std::shared_ptr<Content> add_content(bool is_folder);
    /// Whether an unsynced change made at `step`, or a sector of it, has arrived in spite of the cut.
    [[nodiscard]] bool has_arrived(std::uint64_t step);
    void settle(Content& content);
    void settle_names();
    [[nodiscard]] std::uint64_t draw(std::uint64_t below);
    static void apply(Names& names, const NameChange& change);

    FaultPlan plan_;
    std::uint64_t chance_ = 0;
    std::uint64_t steps_ = 0;
    std::uint64_t syncs_ = 0;
    std::uint64_t boots_ = 1;
    bool is_cut_ = false;
    std::vector<std::string> trace_;
    std::vector<std::shared_ptr<Content>> contents_;  // in the order of their making, so that draws repeat
    Names names_;                                     // as running programs see them
    Names durable_names_;
    std::vector<NameChange> name_changes_;  // not yet durable, in order
};

}  // namespace stargate
