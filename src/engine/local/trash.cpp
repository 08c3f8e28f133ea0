#include "engine/local/trash.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include <cstring>

#include "engine/local/attempt_folder.hpp"

namespace stargate::local {

namespace {

constexpr const char* trash_prefix = ".trash-";

std::vector<std::string> names_in(int folder) {
    std::vector<std::string> names;
    const int again = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR* listing = again >= 0 ? fdopendir(again) : nullptr;
    if (listing == nullptr) return names;
    while (const dirent* entry = readdir(listing)) {
        if (std::strcmp(entry->d_name, ".") != 0 && std::strcmp(entry->d_name, "..") != 0) {
            names.emplace_back(entry->d_name);
        }
    }
    closedir(listing);
    return names;
}

}  // namespace

bool remove_tree(int folder, const std::string& name) {
    if (unlinkat(folder, name.c_str(), 0) == 0 || errno == ENOENT) return true;
    const Fd top{openat(folder, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)};
    if (!top) return false;
    // No recursion, whose depth the job would choose: folders within are lifted to the top until all are there.
    int lifted = 0;
    for (auto names = names_in(top.get()); !names.empty(); names = names_in(top.get())) {
        bool moved_on = false;
        for (const auto& inner : names) {
            if (unlinkat(top.get(), inner.c_str(), 0) == 0 || unlinkat(top.get(), inner.c_str(), AT_REMOVEDIR) == 0) {
                moved_on = true;
                continue;
            }
            const Fd deeper{openat(top.get(), inner.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)};
            if (!deeper) continue;
            for (const auto& entry : names_in(deeper.get())) {
                const auto place = ".lifted-" + std::to_string(lifted++);
                moved_on |= unlinkat(deeper.get(), entry.c_str(), 0) == 0 ||
                            renameat(deeper.get(), entry.c_str(), top.get(), place.c_str()) == 0;
            }
        }
        if (!moved_on) return false;
    }
    return unlinkat(folder, name.c_str(), AT_REMOVEDIR) == 0;
}

Trash::Trash(Fd attempts) : attempts_{std::move(attempts)} {
    for (auto& name : names_in(attempts_.get())) {
        if (name.starts_with(trash_prefix)) waiting_.push_back(std::move(name));
    }
    thread_ = std::thread{[this] { work(); }};
}

Trash::~Trash() {
    {
        const std::lock_guard guard{mutex_};
        is_over_ = true;
    }
    wake_.notify_one();
    thread_.join();
}

void Trash::take(std::uint64_t attempt) {
    const auto name = attempt_folder_name(attempt);
    auto trash_name = trash_prefix + name;
    if (renameat(attempts_.get(), name.c_str(), attempts_.get(), trash_name.c_str()) != 0) return;
    {
        const std::lock_guard guard{mutex_};
        waiting_.push_back(std::move(trash_name));
    }
    wake_.notify_one();
}

void Trash::work() {
    std::unique_lock guard{mutex_};
    while (true) {
        wake_.wait(guard, [this] { return is_over_ || !waiting_.empty(); });
        if (waiting_.empty()) return;
        const auto batch = std::exchange(waiting_, {});
        guard.unlock();
        for (const auto& name : batch) remove_tree(attempts_.get(), name);
        guard.lock();
    }
}

}  // namespace stargate::local
