#pragma once

#include <sys/types.h>

#include <optional>
#include <string>

#include "engine/local/posix.hpp"
#include "engine/local/shim_link.hpp"

namespace stargate::local {

/// A shim just started.
struct SpawnedShim {
    int pid = 0;
    Fd process;
    ShimLink link;
};

/// The process that shims are forked from, executed when the first is wanted. To execute the shim's program costs four
/// times as much as to fork it (380 us against 90, on a virtual machine): the C library's start asks the processor what
/// it can do, and there every such question goes to the hypervisor.
class Zygote {
public:
    /// program  the shim's
    explicit Zygote(std::string program) : program_{std::move(program)} {}
    Zygote(const Zygote&) = delete;
    Zygote& operator=(const Zygote&) = delete;
    ~Zygote() { end(); }

    /// Starts a shim, a child of this process in a session of its own, so that it outlives us; its Spec is still to be
    /// sent. Empty with errno; EAGAIN when the zygote has died, and the next call makes another; ECHILD when one that
    /// was just made never answered.
    [[nodiscard]] std::optional<SpawnedShim> spawn_shim(std::uint64_t attempt);

private:
    [[nodiscard]] bool begin();
    void end();

    std::string program_;
    Fd link_;
    pid_t pid_ = 0;
    bool has_answered_ = false;
};

/// Fork one that runs this attempt; its end of the control link comes along.
struct ForkShim {
    std::uint64_t attempt = 0;
    template <class Self, class Coder>
    static void fields(Self& self, Coder& coder) {
        coder(self.attempt);
    }
};
using ZygoteOrder = std::variant<ForkShim>;

/// `error` is an errno, and 0 with the process beside the message when it was forked.
struct Forked {
    std::int32_t pid = 0;
    std::int32_t error = 0;
    template <class Self, class Coder>
    static void fields(Self& self, Coder& coder) {
        coder(self.pid, self.error);
    }
};
using ZygoteAnswer = std::variant<Forked>;

}  // namespace stargate::local
