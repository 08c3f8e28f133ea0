#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "engine/local/wire.hpp"

// What the engine orders and what the shim answers. They mirror core/command.hpp and core/report.hpp without their
// library, because the shim is linked static and must stay tiny.
namespace stargate::local {

/// Who speaks, see stargate::Authority.
struct Speaker {
    std::array<std::uint8_t, 16> incarnation{};
    std::uint64_t term = 0;
    template <class Self, class Coder>
    static void fields(Self& self, Coder& coder) {
        coder(self.incarnation, self.term);
    }
    friend bool operator==(const Speaker&, const Speaker&) = default;
};

enum class Confinement : std::uint8_t { none, standard, strict };

struct MountedFolder {
    std::string source;
    std::string target;
    bool read_only = false;
    template <class Self, class Coder>
    static void fields(Self& self, Coder& coder) {
        coder(self.source, self.target, self.read_only);
    }
};

/// The Unix account that the ranks run as.
struct RunAs {
    std::uint32_t uid = 0;
    std::uint32_t gid = 0;
    std::vector<std::uint32_t> groups;
    std::string name;
    std::string home;
    std::string shell;
    template <class Self, class Coder>
    static void fields(Self& self, Coder& coder) {
        coder(self.uid, self.gid, self.groups, self.name, self.home, self.shell);
    }
};

/// Start the ranks of one generation.
struct Run {
    Speaker by;
    std::uint32_t generation = 1;
    std::uint64_t gpus = 0;  // bit i is GPU i of this node
    std::int32_t first_rank = 0;
    std::int32_t ranks = 1;
    std::int32_t world_size = 1;
    std::int32_t task = 0;
    std::int32_t port = 0;
    template <class Self, class Coder>
    static void fields(Self& self, Coder& coder) {
        coder(self.by, self.generation, self.gpus, self.first_rank, self.ranks, self.world_size, self.task, self.port);
    }
};

constexpr std::int64_t default_grace_us = 5'000'000;  // of launches and shims that do not know their job's

/// The first message to a shim: what it is for, and its first generation.
struct Spec {
    std::uint64_t attempt = 0;
    std::uint64_t job = 0;
    std::string name;
    std::string boot_id;
    std::string state;  // the state folder: absolute, canonical
    std::string log;    // the attempt's output file, absolute
    std::int64_t output_limit = 0;
    std::vector<std::string> argv;
    std::string command;  // for /bin/sh -c when argv is empty
    std::string folder;
    std::vector<std::pair<std::string, std::string>> environment;
    bool keep_environment = false;
    std::vector<MountedFolder> mounts;
    RunAs account;
    Confinement confinement = Confinement::standard;
    bool resize_in_place = false;
    bool real_gpus = false;  // GPUs are devices of this machine, not shares of its CPU
    std::string checkpoint_folder;
    std::uint64_t open_files = 0;  // the soft limit that ranks get; 0: what there is
    Run first;
    std::int64_t milli_cpus_per_gpu = 0;  // held of this host beside each GPU, at least once: for whoever finds it
    std::int64_t bytes_per_gpu = 0;
    std::int64_t grace_us = default_grace_us;  // of the job: for whoever ends it when no control plane is there
    bool terminal = false;                     // its one rank reads from and writes to a terminal
    template <class Self, class Coder>
    static void fields(Self& self, Coder& coder) {
        coder(self.attempt, self.job, self.name, self.boot_id, self.state, self.log, self.output_limit, self.argv,
              self.command, self.folder, self.environment, self.keep_environment, self.mounts, self.account,
              self.confinement, self.resize_in_place, self.real_gpus, self.checkpoint_folder, self.open_files,
              self.first);
        coder.appended(self.milli_cpus_per_gpu);
        coder.appended(self.bytes_per_gpu);
        coder.appended(self.grace_us);
        coder.appended(self.terminal);
    }
};

constexpr const char* cancel_cause = "cancel";  // the job is over with it, whatever its ranks say

/// Warn the ranks beyond the first `keep`; kill what is left of them after `grace_us`. Nothing may be appended to what
/// is ordered of a shim that runs already: it may be of an older version, and takes no longer message.
struct End {
    Speaker by;
    std::uint32_t generation = 1;  // 0: whichever there is
    std::string cause;             // the word that people read in the notice
    std::int32_t keep = 0;
    std::int32_t next_world = 0;  // 0: no generation follows
    std::int64_t grace_us = 0;
    template <class Self, class Coder>
    static void fields(Self& self, Coder& coder) {
        coder(self.by, self.generation, self.cause, self.keep, self.next_world, self.grace_us);
    }
};

/// Say again how things stand. The first message of a control plane that has returned.
struct Ask {
    Speaker by;
    template <class Self, class Coder>
    static void fields(Self& self, Coder& coder) {
        coder(self.by);
    }
};

/// The end is committed in the store: no exit record is needed any more.
struct Dismiss {
    Speaker by;
    template <class Self, class Coder>
    static void fields(Self& self, Coder& coder) {
        coder(self.by);
    }
};

/// Typed at its terminal. Only for shims whose Spec had one: others take it for broken speech.
struct Typed {
    Speaker by;
    std::string bytes;
    template <class Self, class Coder>
    static void fields(Self& self, Coder& coder) {
        coder(self.by, self.bytes);
    }
};

/// The size of its terminal, in characters. As Typed.
struct Window {
    Speaker by;
    std::uint16_t rows = 24;
    std::uint16_t columns = 80;
    template <class Self, class Coder>
    static void fields(Self& self, Coder& coder) {
        coder(self.by, self.rows, self.columns);
    }
};

using Order = std::variant<Spec, Run, End, Ask, Dismiss, Typed, Window>;

/// This shim ran nothing, never will, and leaves: the attempt's folder was there already, a tombstone stands in it,
/// another control plane leads, or something that everybody shares has run out.
struct Refused {
    std::string why;
    bool is_shortage = false;  // the folder is not taken: another start may succeed later
    template <class Self, class Coder>
    static void fields(Self& self, Coder& coder) {
        coder(self.why);
        coder.appended(self.is_shortage);
    }
};

struct Running {
    std::uint32_t generation = 1;
    template <class Self, class Coder>
    static void fields(Self& self, Coder& coder) {
        coder(self.generation);
    }
};

/// In the order of stargate::ExitKind.
enum class EndKind : std::uint8_t { exited, signalled, could_not_start, refused, killed };

struct Ended {
    std::uint32_t generation = 1;
    EndKind kind = EndKind::exited;
    std::int32_t code = 0;
    std::string detail;
    bool warned = false;
    std::int64_t step = -1;
    bool final = false;      // no generation follows: the shim leaves
    std::int32_t left = 0;   // ranks that run on in place; 0: none is left
    bool cancelled = false;  // what warned them cancels the job
    template <class Self, class Coder>
    static void fields(Self& self, Coder& coder) {
        coder(self.generation, self.kind, self.code, self.detail, self.warned, self.step, self.final);
        coder.appended(self.left);
        coder.appended(self.cancelled);
    }
};

struct Stepped {
    std::int64_t step = -1;
    template <class Self, class Coder>
    static void fields(Self& self, Coder& coder) {
        coder(self.step);
    }
};

/// An order came from a lower term or another incarnation and was not obeyed.
struct Outranked {
    Speaker by;  // whom the shim obeys
    template <class Self, class Coder>
    static void fields(Self& self, Coder& coder) {
        coder(self.by);
    }
};

/// So many typed bytes are at the terminal now, or were dropped with one that is gone.
struct Taken {
    std::uint64_t bytes = 0;
    template <class Self, class Coder>
    static void fields(Self& self, Coder& coder) {
        coder(self.bytes);
    }
};

using Answer = std::variant<Refused, Running, Ended, Stepped, Outranked, Taken>;

}  // namespace stargate::local
