#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "core/core.hpp"
#include "core/decide.hpp"
#include "work/launch.hpp"

/// What the API may ask of the control plane. The API keeps no state of its own about jobs: everything it shows comes
/// through here, and everything it does goes through here.
namespace stargate::api {

/// A job on its way in. `key` is the client's idempotency key, empty when it gave none: the same tenant, key and body
/// get the same answer; another body gets Why::key_conflict.
struct NewJob {
    Submit input;
    Launch launch;
    std::string key;
    std::string body;  // what the key stands for, byte by byte
};

/// One fact of the log with its cause.
struct LoggedFact {
    std::uint64_t seq = 0;
    Instant at{};
    std::uint64_t cause_seq = 0;  // of the input that caused it; 0 when that was not logged
    std::size_t cause = 0;        // its type, an index into input_names
    Fact fact;
};

/// What a rank wrote, as it came, and where to read on after it.
struct OutputPiece {
    std::int32_t rank = 0;
    bool is_errors = false;  // standard error, else standard output
    std::int64_t unix_us = 0;
    std::int64_t next_offset = 0;
    std::string bytes;
};

/// Figures of the process and its store, for /metrics and doctor.
struct Figures {
    std::string incarnation;       // of the store, as hexadecimal digits
    std::uint64_t term = 0;        // of this leadership
    std::uint64_t first_fact = 1;  // seq of the oldest fact that read_facts() still has
    std::uint64_t last_fact = 0;   // seq of the newest committed fact
    std::uint64_t commits = 0;     // batches since the start
    std::int64_t commit_us_sum = 0;
    std::int64_t commit_us_max = 0;
    std::int64_t store_bytes = -1;      // -1: not known
    std::int64_t foreign_attempts = 0;  // work found that the store does not know
    std::string read_only;              // why no new work is taken, and what to do; empty when it is
};

enum class RunningWork : std::uint8_t { goes_on, ends };

/// Every call may come from any thread and must not block for longer than it says.
class Control {
public:
    template <class T>
    using Done = std::function<void(Result<T>)>;

    Control() = default;
    Control(const Control&) = delete;
    Control& operator=(const Control&) = delete;
    virtual ~Control() = default;

    /// A submit has come and is about to be read: whoever decides on it may get ready meanwhile. Cheap.
    virtual void get_ready() {}

    /// Hands a job to the writer and returns. `done` is called once, when the outcome is durable and the view shows
    /// it, or with the reason why it is not: Fault::full when the store cannot be written, Fault::unavailable when
    /// the control plane goes down. It runs on a thread of the control plane and must not block.
    virtual void submit(NewJob job, Done<Answer> done) = 0;

    /// What a submit with this key and body was answered, without deciding anything; nothing when the key is new. May
    /// read the store.
    [[nodiscard]] virtual Result<std::optional<Answer>> find_key(const std::string& tenant, const std::string& key,
                                                                 const std::string& body) const = 0;

    /// As submit, for what people ask of jobs, nodes and tenants: Cancel, Hold, Resize, Edit, Drain, SetTenant. All are
    /// taken or none, and decided in order; what other users ask for comes between, and many take several batches. As
    /// many answers come back. `by`: the uid of who asks.
    virtual void ask(std::uint32_t by, std::vector<Input> inputs, Done<std::vector<Answer>> done) = 0;

    /// Runs `look` on the view, under its lock: copy out and be quick. `last_fact` is the newest fact folded.
    using Look = std::function<void(const State& state, Instant now, std::uint64_t last_fact)>;
    virtual void read(const Look& look) const = 0;

    /// How a job is run; Fault::not_found when it was forgotten. May read the store.
    [[nodiscard]] virtual Result<Launch> launch_of(JobId job) const = 0;

    /// Committed facts that the view has folded, from seq `from` (or the first one kept), at most `most` of them, in
    /// order, without a gap. May read the store; the newest ones should come from memory.
    [[nodiscard]] virtual Result<void> read_facts(std::uint64_t from, std::size_t most,
                                                  const std::function<void(const LoggedFact&)>& visit) const = 0;

    /// `notify` is called with the newest seq whenever the view has folded more. It must not block. One listener;
    /// an empty function ends it, and once this has returned the old one is not called any more.
    virtual void on_facts(std::function<void(std::uint64_t last_fact)> notify) = 0;

    /// Jobs that left State, the last ended first, until `visit` returns false or `most` were seen; with `after`, those
    /// that ended before it (of one instant, those with a lower id). May read the store.
    [[nodiscard]] virtual Result<void> read_retired(std::size_t most,
                                                    const std::function<bool(const RetiredJob&)>& visit,
                                                    const RetiredJob* after = nullptr) const = 0;
    [[nodiscard]] virtual Result<std::optional<RetiredJob>> find_retired(JobId job) const = 0;

    /// Output of one attempt from `offset` (0, or next_offset of an earlier piece), about `most` bytes; nothing when
    /// there is none yet. Fault::not_found when it was thrown away.
    [[nodiscard]] virtual Result<std::vector<OutputPiece>> read_output(JobId job, AttemptId attempt,
                                                                       std::int64_t offset, std::size_t most) const = 0;

    /// Typed at the terminal of an attempt that has one; lost where that does not run any more. False: what was typed
    /// before has not been taken there, and this has to wait.
    [[nodiscard]] virtual bool type(AttemptId attempt, std::string bytes) = 0;
    virtual void set_window(AttemptId attempt, std::uint16_t rows, std::uint16_t columns) = 0;

    [[nodiscard]] virtual Figures figures() const = 0;

    /// Asks the process to go down and returns; `ends`: it first cancels what runs and waits until it is gone.
    virtual void shut_down(RunningWork work) = 0;
};

}  // namespace stargate::api
