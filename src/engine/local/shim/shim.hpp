#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "engine/local/attempt_records.hpp"
#include "engine/local/messages.hpp"
#include "engine/local/posix.hpp"
#include "engine/local/shim/generation.hpp"
#include "engine/local/shim/links.hpp"
#include "engine/local/shim/output.hpp"

namespace stargate::local {

/// One attempt on this machine: holds its folder, runs its generations one after the other, obeys the control plane
/// that has the right to speak, and outlives it.
class Shim {
public:
    /// control  the link to the control plane that started us; its first message is the Spec
    explicit Shim(Fd control) : control_{std::move(control)} {}
    /// Returns when the attempt has ended and its end is on record. The exit status of the shim, for nobody.
    int run();

private:
    [[nodiscard]] bool receive_spec();
    /// Whoever had us started still leads.
    [[nodiscard]] bool is_authorised() const;
    /// Takes the attempt's folder for ever. What is wrong, if it cannot.
    [[nodiscard]] std::optional<Refused> take_folder();
    [[nodiscard]] std::optional<Refused> open_files();
    /// Undoes take_folder: nothing has run. From now on nothing may.
    void give_folder_back();
    [[nodiscard]] bool note_record() const;
    [[nodiscard]] ShimRecord about_us() const;

    [[nodiscard]] bool obey(const Order& order);
    [[nodiscard]] bool has_right(const Speaker& speaker);
    void next_generation(const Run& run);
    void end(const End& end);
    void tell_standing();
    void tell_taken();

    void wait_and_take();
    void arm_timer(std::int64_t at_us);
    [[nodiscard]] std::int64_t next_time() const;
    void act_on_time();
    void look_at_progress();
    /// Tells what has changed since it was last told.
    void settle();
    void finish(Ended ended);
    void keep_record();
    void be_dismissed();

    Fd control_;
    Spec spec_;
    Speaker obeys_;
    std::uint64_t gpus_ = 0;  // of the newest generation
    std::optional<AttemptRecords> records_;
    Fd attempts_, folder_, lock_, job_folder_;
    Links links_;
    Output output_;
    std::optional<Generation> generation_;
    Generation::Standing told_ = Generation::Standing::starting;
    std::optional<Ended> last_end_;  // of the last generation that is over or was resized
    Fd timer_;
    std::int64_t armed_us_ = never_us;
    Fd progress_watch_;
    std::int64_t look_at_progress_us_ = never_us;  // until then the watch rests
    std::int64_t step_ = -1;
    bool is_dismissed_ = false;
    bool is_recorded_ = false;
    std::int64_t record_at_us_ = never_us;  // when to (re)try the exit record
    std::int64_t record_pause_us_ = 0;
};

}  // namespace stargate::local
