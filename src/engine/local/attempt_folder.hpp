#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/units.hpp"
#include "engine/local/messages.hpp"
#include "engine/local/posix.hpp"

// The folder of one attempt, STATE/attempts/<id>, where exactly-once is made. It is locked itself, by the shim (and the
// init of its ranks) from before anything runs until everything is dead. In it:
//
// - shim: who holds the lock, a hint for finding the process, worth nothing when the lock is free; and what it uses
// - shim.sock: where a returning control plane finds the shim
// - exit: how it ended, kept until the end is committed
// - tombstone: nothing may ever start here
// - dismissed: the shim's record under another name: its end was committed without an exit record, all may go
// - job/: the one part that the job sees and may write: notice and progress
//
// Making a file costs more than starting the process that it is about, where many were removed shortly before (ext4
// passes over their inodes one by one): a further file here needs a reason.
//
// STATE/authority is who starts attempts now. A shim that was held up on its way until the folder of its attempt was
// made, ended and removed by others would find nothing in its way; it compares itself with that.
namespace stargate::local {

constexpr const char* older_lock_name = "lock";  // what the shims of older versions lock, instead of the folder
constexpr const char* shim_record_name = "shim";
constexpr const char* exit_record_name = "exit";
constexpr const char* tombstone_name = "tombstone";
constexpr const char* dismissed_name = "dismissed";
constexpr const char* socket_name = "shim.sock";
constexpr const char* job_folder_name = "job";
constexpr const char* authority_name = "authority";

/// A process of one boot, for ever: its number alone is used again. The default stands for none.
struct ProcessName {
    std::int32_t pid = 0;
    std::uint64_t start_ticks = 0;
    template <class Self, class Coder>
    static void fields(Self& self, Coder& coder) {
        coder(self.pid, self.start_ticks);
    }
};

struct ShimRecord {
    std::string boot_id;
    std::int32_t pid = 0;
    std::uint64_t start_ticks = 0;
    Speaker obeys;
    std::uint64_t job = 0;
    std::uint64_t gpus = 0;       // of the generation that runs: bit i is GPU i of this node
    ProcessName init;             // of that generation
    std::int64_t milli_cpus = 0;  // what it holds of its host
    std::int64_t memory = 0;      // bytes
    std::int64_t grace_us = default_grace_us;
    template <class Self, class Coder>
    static void fields(Self& self, Coder& coder) {
        coder(self.boot_id, self.pid, self.start_ticks, self.obeys, self.job);
        coder.appended(self.gpus);
        coder.appended(self.init);
        coder.appended(self.milli_cpus);
        coder.appended(self.memory);
        coder.appended(self.grace_us);
    }
};

struct ExitRecord {
    Speaker obeyed;
    Ended ended;
    template <class Self, class Coder>
    static void fields(Self& self, Coder& coder) {
        coder(self.obeyed, self.ended);
    }
};

struct Tombstone {
    Speaker by;
    template <class Self, class Coder>
    static void fields(Self& self, Coder& coder) {
        coder(self.by);
    }
};

struct AuthorityRecord {
    Speaker by;
    template <class Self, class Coder>
    static void fields(Self& self, Coder& coder) {
        coder(self.by);
    }
};

template <class Record>
[[nodiscard]] std::string to_file(const Record& record) {
    Writer writer;
    writer(record);
    return seal(writer.take());
}

/// The record in these bytes, or nothing when they are torn.
template <class Record>
[[nodiscard]] std::optional<Record> from_file(std::string_view file) {
    const auto payload = unseal(file);
    if (!payload) return std::nullopt;
    Reader reader{*payload};
    Record record;
    reader(record);
    if (!reader.is_complete()) return std::nullopt;
    return record;
}

constexpr Bytes longest_record = mebibytes(1);

/// The record of that name, or nothing when it is not there or torn.
template <class Record>
[[nodiscard]] std::optional<Record> read_record(int folder, const char* name) {
    const auto file = read_small_file(folder, name, static_cast<std::size_t>(longest_record.count()));
    return file ? from_file<Record>(*file) : std::nullopt;
}

/// What an attempt's folder is called.
[[nodiscard]] std::string attempt_folder_name(std::uint64_t attempt);
/// The attempt that a folder's name stands for, if it stands for one.
[[nodiscard]] std::optional<std::uint64_t> attempt_of(const std::string& name);

/// Opens STATE/attempts (made when absent) or one folder in it; false when it is not there.
[[nodiscard]] Fd open_attempts(const std::string& state);
[[nodiscard]] Fd open_attempt(int attempts, std::uint64_t attempt);

/// Takes the lock for as long as the descriptor, and each that is inherited from it, stays open. Empty with errno:
/// EWOULDBLOCK when another holds it.
[[nodiscard]] Fd take_lock(int folder);

[[nodiscard]] bool has_file(int folder, const char* name);

/// Whether the init of its ranks is not dead yet. When it dies it closes its files first, and with them the lock; only
/// then does the kernel kill what is left of its PID namespace, and it is a zombie once all of that is dead.
[[nodiscard]] bool has_living_init(const ShimRecord& record, const std::string& boot_id);

/// Something that everybody on this machine shares has run out: room on a disk, memory, descriptors. It may pass.
[[nodiscard]] bool is_shortage(int error);

/// A connection to the shim of this folder; empty when none listens.
[[nodiscard]] Fd connect_to_shim(int folder);

}  // namespace stargate::local
