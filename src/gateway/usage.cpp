#include "gateway/usage.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <thread>

#include "base/file.hpp"
#include "base/posix.hpp"

namespace stargate::gateway {

namespace {

constexpr std::array<char, 8> magic{'S', 'G', 'U', 'S', 'A', 'G', 'E', '1'};
constexpr std::uint32_t layout_version = 1;
constexpr std::size_t most_records = 1U << 16;
constexpr std::size_t records_at_first = 204;  // 64 KiB with the head
constexpr Duration sync_pause = std::chrono::seconds{1};

struct FileHead {
    std::array<char, 8> magic;
    std::uint32_t version;
    std::uint32_t record_size;
    std::uint64_t records;
    std::array<char, 64> boot;
    std::array<char, 168> unused;
};
static_assert(sizeof(FileHead) == 256);

struct FileRecord {
    std::array<char, 128> tenant;
    std::array<char, 128> service;
    std::uint64_t requests;
    std::uint64_t prompt_tokens;
    std::uint64_t completion_tokens;
    std::uint64_t interrupted;
    std::uint64_t interrupted_tokens;
    std::uint64_t in_flight;
    std::array<std::uint64_t, 2> unused;
};
static_assert(sizeof(FileRecord) == 320);

constexpr std::size_t size_for(std::size_t records) { return sizeof(FileHead) + records * sizeof(FileRecord); }

template <std::size_t N>
void put_text(std::array<char, N>& into, const std::string& text) {
    std::memcpy(into.data(), text.data(), std::min(N, text.size()));
}

template <std::size_t N>
std::string text_of(const std::array<char, N>& from) {
    return {from.data(), strnlen(from.data(), N)};
}

/// A reader in another process sees the old number or the new one.
void add(std::uint64_t& counter, std::int64_t count) {
    std::atomic_ref{counter}.fetch_add(static_cast<std::uint64_t>(count), std::memory_order_relaxed);
}

}  // namespace

struct UsageBook::Impl {
    std::string path;
    FileDescriptor file;
    char* bytes = nullptr;
    std::size_t room = 0;  // records that the file holds
    std::map<std::pair<std::string, std::string>, Account> accounts;
    std::atomic<bool> is_dirty{false};
    std::mutex mutex;
    std::condition_variable_any wake;
    std::jthread syncer;

    Impl() = default;
    Impl(const Impl&) = delete;
    Impl& operator=(const Impl&) = delete;
    ~Impl() {
        if (syncer.joinable()) {
            syncer.request_stop();
            syncer.join();
        }
        if (bytes != nullptr) ::munmap(bytes, size_for(most_records));
    }

    [[nodiscard]] FileHead& head() const { return *reinterpret_cast<FileHead*>(bytes); }
    [[nodiscard]] FileRecord& record(Account account) const {
        return *reinterpret_cast<FileRecord*>(bytes + size_for(account));
    }
    /// With the disk's room for them: a write into a mapping cannot be refused, only kill.
    [[nodiscard]] bool grow(std::size_t records) {
        if (records > most_records) return false;
        if (::posix_fallocate(file.get(), 0, static_cast<off_t>(size_for(records))) != 0) return false;
        room = records;
        return true;
    }
    void sync_until(const std::stop_token& stop) {
        for (bool goes_on = true; goes_on;) {
            {
                std::unique_lock lock{mutex};
                wake.wait_for(lock, stop, sync_pause, [] { return false; });
                goes_on = !stop.stop_requested();
            }
            // What a failed sync leaves out is in the kernel's pages still, and goes with the next change of its page.
            if (is_dirty.exchange(false)) (void)::fdatasync(file.get());
        }
    }
    void touch() {
        if (!is_dirty.load(std::memory_order_relaxed)) is_dirty = true;
    }
};

UsageBook::UsageBook(std::unique_ptr<Impl> impl) : impl_{std::move(impl)} {}
UsageBook::~UsageBook() = default;

Result<std::unique_ptr<UsageBook>> UsageBook::open(const std::string& folder, const std::string& boot) {
    if (auto made = make_folder_durably(folder); !made) return tl::unexpected(made.error());
    auto impl = std::make_unique<Impl>();
    impl->path = folder + "/" + boot;
    impl->file = FileDescriptor{::open(impl->path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600)};
    if (!impl->file) return fail_with_errno("make", impl->path);
    if (!impl->grow(records_at_first)) return fail(Fault::full, "there is no room for " + impl->path);
    // Mapped once for all that it may ever hold: what is not in the file yet is not touched.
    auto* mapped = ::mmap(nullptr, size_for(most_records), PROT_READ | PROT_WRITE, MAP_SHARED, impl->file.get(), 0);
    if (mapped == MAP_FAILED) return fail_with_errno("map", impl->path);
    impl->bytes = static_cast<char*>(mapped);
    auto& head = impl->head();
    head.magic = magic;
    head.version = layout_version;
    head.record_size = sizeof(FileRecord);
    put_text(head.boot, boot);
    head.records = 1;
    if (::fsync(impl->file.get()) != 0) return fail_sync(impl->path);
    if (auto synced = real_disk().sync_folder(folder); !synced) return tl::unexpected(synced.error());
    impl->syncer = std::jthread{[raw = impl.get()](const std::stop_token& stop) { raw->sync_until(stop); }};
    return std::unique_ptr<UsageBook>{new UsageBook{std::move(impl)}};
}

UsageBook::Account UsageBook::account(const std::string& tenant, const std::string& service) {
    auto& impl = *impl_;
    const auto found = impl.accounts.find({tenant, service});
    if (found != impl.accounts.end()) return found->second;
    const auto account = static_cast<Account>(impl.head().records);
    if (account >= impl.room && !impl.grow(impl.room * 2)) return 0;  // asked again next time
    put_text(impl.record(account).tenant, tenant);
    put_text(impl.record(account).service, service);
    std::atomic_ref{impl.head().records}.store(account + 1, std::memory_order_release);
    impl.accounts[{tenant, service}] = account;
    return account;
}

void UsageBook::began(Account account) {
    add(impl_->record(account).in_flight, 1);
    impl_->touch();
}

void UsageBook::came_to_nothing(Account account) {
    add(impl_->record(account).in_flight, -1);
    impl_->touch();
}

void UsageBook::ended(Account account, const Answer& answer) {
    auto& record = impl_->record(account);
    add(record.in_flight, -1);
    add(record.requests, 1);
    add(record.prompt_tokens, answer.prompt_tokens);
    add(record.completion_tokens, answer.completion_tokens);
    if (answer.is_interrupted) {
        add(record.interrupted, 1);
        add(record.interrupted_tokens, answer.completion_tokens);
    }
    impl_->touch();
}

Result<UsageRead> read_usage(const std::string& path) {
    auto text = read_file(path, Bytes{static_cast<std::int64_t>(size_for(most_records))});
    if (!text) return tl::unexpected(text.error());
    const auto malformed = [&](std::string_view why) {
        return fail(Fault::malformed, fmt::format("{} is no usage file: {}", path, why));
    };
    FileHead head{};
    if (text->size() < sizeof head) return malformed("it is too short");
    std::memcpy(&head, text->data(), sizeof head);
    if (head.magic != magic) return malformed("it begins otherwise");
    if (head.version != layout_version || head.record_size != sizeof(FileRecord))
        return malformed("its version is unknown");
    if (head.records > most_records || size_for(head.records) > text->size()) return malformed("records are missing");
    UsageRead read{text_of(head.boot), {}};
    for (std::size_t i = 0; i < head.records; ++i) {
        FileRecord record{};
        std::memcpy(&record, text->data() + size_for(i), sizeof record);
        const UsageCounters counters{record.requests,    record.prompt_tokens,      record.completion_tokens,
                                     record.interrupted, record.interrupted_tokens, record.in_flight};
        if (i == 0 && counters == UsageCounters{}) continue;
        read.records.push_back({text_of(record.tenant), text_of(record.service), counters});
    }
    return read;
}

}  // namespace stargate::gateway
