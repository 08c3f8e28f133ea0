#include "base/simulated_disk.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/check.hpp"

namespace stargate {
namespace {

constexpr std::uint64_t sector = 512;  // bytes that a drive writes whole or not at all

tl::unexpected<Error> no_power() { return fail(Fault::unavailable, "the simulated power is off"); }
tl::unexpected<Error> no_file(const std::string& path) { return fail(Fault::not_found, path + " is not there"); }

/// Puts bytes at an offset, growing the file as needed.
void put(std::string& content, std::uint64_t offset, std::string_view bytes) {
    if (content.size() < offset + bytes.size()) content.resize(offset + bytes.size(), '\0');
    std::copy(bytes.begin(), bytes.end(), content.begin() + static_cast<std::ptrdiff_t>(offset));
}

}  // namespace

struct SimulatedDisk::Content {
    /// A write, or without any bytes a truncation to `offset`.
    struct Change {
        std::uint64_t step = 0;
        std::uint64_t offset = 0;
        std::string bytes;
    };
    bool is_folder = false;
    std::string now;
    std::string durable;
    std::vector<Change> unsynced;  // in order

    static void apply(std::string& to, const Change& change) {
        if (change.bytes.empty()) {
            to.resize(change.offset, '\0');
        } else {
            put(to, change.offset, change.bytes);
        }
    }
    void add(Change change) {
        apply(now, change);
        unsynced.push_back(std::move(change));
    }
};

class SimulatedFile final : public DiskFile {
public:
    SimulatedFile(SimulatedDisk& disk, std::shared_ptr<SimulatedDisk::Content> content, std::string path)
        : disk_{disk}, content_{std::move(content)}, path_{std::move(path)}, boot_{disk.boots_} {}

    Result<std::size_t> read(std::uint64_t offset, std::span<char> into) override {
        if (is_dead()) return no_power();
        if (offset >= content_->now.size()) return std::size_t{0};
        return content_->now.copy(into.data(), into.size(), offset);
    }

    Result<void> write(std::uint64_t offset, std::string_view bytes) override {
        if (is_dead()) return no_power();
        if (bytes.empty()) return {};
        const auto begun = disk_.begin_step("write", path_, SimulatedDisk::Needs::room);
        if (!begun) bytes = bytes.substr(0, bytes.size() / 2);  // the disk filled up in the middle of it
        if (!bytes.empty()) content_->add({disk_.steps_, offset, std::string{bytes}});
        return begun ? disk_.end_step() : begun;
    }

    Result<void> truncate(std::uint64_t size) override {
        if (is_dead()) return no_power();
        const auto needs = size > content_->now.size() ? SimulatedDisk::Needs::room : SimulatedDisk::Needs::nothing;
        if (auto begun = disk_.begin_step("truncate", path_, needs); !begun) return begun;
        content_->add({disk_.steps_, size, {}});
        return disk_.end_step();
    }

    Result<void> sync() override {
        if (is_dead()) return no_power();
        auto begun = disk_.begin_sync(path_);
        if (begun) {
            for (const auto& change : content_->unsynced) SimulatedDisk::Content::apply(content_->durable, change);
        }
        if (begun || begun.error().fault == Fault::unknown_outcome) content_->unsynced.clear();
        return begun;
    }

    Result<std::uint64_t> size() override {
        if (is_dead()) return no_power();
        return content_->now.size();
    }

private:
    [[nodiscard]] bool is_dead() const { return disk_.is_cut_ || boot_ != disk_.boots_; }

    SimulatedDisk& disk_;
    std::shared_ptr<SimulatedDisk::Content> content_;
    std::string path_;
    std::uint64_t boot_;
};

SimulatedDisk::SimulatedDisk(const std::string& folder) {
    names_[folder] = add_content(true);
    durable_names_ = names_;
}

SimulatedDisk::~SimulatedDisk() = default;

std::shared_ptr<SimulatedDisk::Content> SimulatedDisk::add_content(bool is_folder) {
    auto content = std::make_shared<Content>();
    content->is_folder = is_folder;
    contents_.push_back(content);
    return content;
}

Result<void> SimulatedDisk::begin_step(std::string_view what, const std::string& path, Needs needs) {
    ++steps_;
    trace_.push_back(fmt::format("{} {}", what, path));
    const bool is_full = plan_.full_from_step != 0 && steps_ >= plan_.full_from_step &&
                         (plan_.full_until_step == 0 || steps_ < plan_.full_until_step);
    if (is_full && needs == Needs::room) return fail(Fault::full, "no room for " + path);
    return {};
}

Result<void> SimulatedDisk::end_step() {
    if (plan_.cut_at_step != steps_) return {};
    is_cut_ = true;
    return no_power();
}

Result<void> SimulatedDisk::begin_sync(const std::string& path) {
    ++syncs_;
    if (auto begun = begin_step("sync", path, Needs::nothing); !begun) return begun;
    if (auto ended = end_step(); !ended) return ended;
    if (plan_.fail_sync == syncs_) return fail(Fault::unknown_outcome, "cannot make " + path + " durable");
    return {};
}

void SimulatedDisk::apply(Names& names, const NameChange& change) {
    if (!change.removed.empty()) names.erase(change.removed);
    if (!change.added.empty()) names[change.added] = change.content;
}

Result<void> SimulatedDisk::change_name(std::string_view what, Needs needs, NameChange change) {
    const auto& path = change.added.empty() ? change.removed : change.added;
    if (auto begun = begin_step(what, path, needs); !begun) return begun;
    change.step = steps_;
    apply(names_, change);
    name_changes_.push_back(std::move(change));
    return end_step();
}

Result<std::unique_ptr<DiskFile>> SimulatedDisk::open(const std::string& path, Opening how) {
    if (is_cut_) return no_power();
    auto found = names_.find(path);
    if (found == names_.end()) {
        if (how != Opening::edit_or_create || !names_.contains(folder_of(path))) return no_file(path);
        if (auto made = change_name("create", Needs::room, {0, {}, path, add_content(false)}); !made) {
            return tl::unexpected(made.error());
        }
        found = names_.find(path);
    }
    if (found->second->is_folder) return fail(Fault::denied, path + " is a folder");
    return std::make_unique<SimulatedFile>(*this, found->second, path);
}

Result<void> SimulatedDisk::rename(const std::string& from, const std::string& to) {
    if (is_cut_) return no_power();
    CHECK(folder_of(from) == folder_of(to));
    const auto found = names_.find(from);
    if (found == names_.end()) return no_file(from);
    return change_name("rename", Needs::room, {0, from, to, found->second});
}

Result<void> SimulatedDisk::remove(const std::string& path) {
    if (is_cut_) return no_power();
    const auto found = names_.find(path);
    if (found == names_.end()) return no_file(path);
    if (found->second->is_folder) return fail(Fault::denied, path + " is a folder");
    return change_name("remove", Needs::nothing, {0, path, {}, nullptr});
}

Result<void> SimulatedDisk::make_folder(const std::string& path) {
    if (is_cut_) return no_power();
    if (names_.contains(path)) return fail(Fault::conflict, path + " is there already");
    if (!names_.contains(folder_of(path))) return no_file(folder_of(path));
    return change_name("make folder", Needs::room, {0, {}, path, add_content(true)});
}

Result<void> SimulatedDisk::sync_folder(const std::string& path) {
    if (is_cut_) return no_power();
    auto synced = begin_sync(path);
    if (!synced && synced.error().fault != Fault::unknown_outcome) return synced;
    // A failed sync leaves these changes behind for good: no later one knows that they were never written.
    std::erase_if(name_changes_, [&](const NameChange& change) {
        const bool is_here = folder_of(change.added.empty() ? change.removed : change.added) == path;
        if (is_here && synced) apply(durable_names_, change);
        return is_here;
    });
    return synced;
}

Result<std::vector<std::string>> SimulatedDisk::list(const std::string& path) {
    if (is_cut_) return no_power();
    if (!names_.contains(path)) return no_file(path);
    std::vector<std::string> names;
    for (const auto& [name, content] : names_) {
        if (folder_of(name) == path) names.push_back(name.substr(path.size() + 1));
    }
    return names;
}

bool SimulatedDisk::exists(const std::string& path) { return !is_cut_ && names_.contains(path); }

std::uint64_t SimulatedDisk::draw(std::uint64_t below) {
    chance_ += 0x9e3779b97f4a7c15;  // splitmix64
    auto bits = chance_;
    bits = (bits ^ (bits >> 30U)) * 0xbf58476d1ce4e5b9;
    bits = (bits ^ (bits >> 27U)) * 0x94d049bb133111eb;
    return (bits ^ (bits >> 31U)) % below;
}

bool SimulatedDisk::has_arrived(std::uint64_t step) {
    switch (plan_.cut) {
        case Cut::drop_unsynced:
            return false;
        case Cut::keep_some:
            return draw(2) == 0;
        case Cut::tear:
            return step != plan_.cut_at_step || draw(2) == 0;
    }
    return false;
}

void SimulatedDisk::settle(Content& content) {
    for (const auto& change : content.unsynced) {
        if (change.bytes.empty() && has_arrived(change.step)) Content::apply(content.durable, change);
        const bool is_torn = plan_.cut == Cut::tear && change.step == plan_.cut_at_step;
        // From nothing of it to all of it: a write may have arrived although its caller was never told.
        const auto torn_at = is_torn ? draw(change.bytes.size() / sector + 2) * sector : 0;
        for (std::uint64_t done = 0; done < change.bytes.size();) {
            const auto at = change.offset + done;
            const auto size = std::min<std::uint64_t>(change.bytes.size() - done, sector - at % sector);
            const bool is_there = is_torn ? done < torn_at : has_arrived(change.step);
            if (is_there) put(content.durable, at, std::string_view{change.bytes}.substr(done, size));
            done += size;
        }
    }
    // A file may have grown although what should fill it has not arrived.
    const bool has_grown = content.now.size() > content.durable.size() && !content.unsynced.empty();
    if (has_grown && plan_.cut == Cut::keep_some && draw(2) == 0) content.durable.resize(content.now.size(), '\0');
    content.unsynced.clear();
    content.now = content.durable;
}

void SimulatedDisk::settle_names() {
    for (const auto& change : name_changes_) {
        if (has_arrived(change.step)) apply(durable_names_, change);
    }
    name_changes_.clear();
    // What lies in a folder that is gone cannot be reached; map order meets a folder before what it holds.
    const auto root = folder_of(durable_names_.begin()->first);
    Names reachable;
    for (const auto& [name, content] : durable_names_) {
        if (folder_of(name) == root || reachable.contains(folder_of(name))) reachable[name] = content;
    }
    durable_names_ = reachable;
    names_ = std::move(reachable);
}

void SimulatedDisk::reboot() {
    chance_ = plan_.seed;
    for (const auto& content : contents_) settle(*content);
    settle_names();
    std::erase_if(contents_, [this](const auto& content) {
        return std::none_of(names_.begin(), names_.end(), [&](const auto& name) { return name.second == content; });
    });
    plan_ = {};
    is_cut_ = false;
    ++boots_;
}

}  // namespace stargate
