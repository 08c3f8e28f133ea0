#pragma once

#include <string>

#include "engine/local/messages.hpp"
#include "engine/local/packet.hpp"

// What the shim and the init of its ranks tell each other, in packets.
namespace stargate::local {

/// Execute the ranks from `from` on; two descriptors a rank come along, for its output and its errors. Of an attempt
/// with a terminal none: init makes that, where the ranks' own /dev is.
struct StartRanks {
    Run run;
    std::int32_t from = 0;
    template <class Self, class Coder>
    static void fields(Self& self, Coder& coder) {
        coder(self.run, self.from);
    }
};

/// Signal the ranks from `from` up to, not with, `until`. After a warning a rank has ended only when its whole process
/// group is gone: the shell that ran the training dies of the signal at once, the training itself still has to write
/// its checkpoint.
struct SignalRanks {
    std::int32_t signal = 0;
    std::int32_t from = 0;
    std::int32_t until = 0;
    template <class Self, class Coder>
    static void fields(Self& self, Coder& coder) {
        coder(self.signal, self.from, self.until);
    }
};

using InitOrder = std::variant<StartRanks, SignalRanks>;

/// The place for the ranks is made (`why` empty), or could not be.
struct Built {
    EndKind kind = EndKind::exited;
    std::string why;
    template <class Self, class Coder>
    static void fields(Self& self, Coder& coder) {
        coder(self.kind, self.why);
    }
};

/// All ranks of the last StartRanks run their command, or `why` some did not.
struct Executed {
    std::uint32_t generation = 1;
    std::int32_t code = 0;  // what a shell would answer: 127 not found, 126 found but not executable; 0: our fault
    std::string why;
    template <class Self, class Coder>
    static void fields(Self& self, Coder& coder) {
        coder(self.generation, self.code, self.why);
    }
};

struct RankEnded {
    std::int32_t local_rank = 0;
    std::int32_t status = 0;  // as waitpid has it
    template <class Self, class Coder>
    static void fields(Self& self, Coder& coder) {
        coder(self.local_rank, self.status);
    }
};

/// No process is left beneath init.
struct AllGone {
    template <class Self, class Coder>
    static void fields(Self&, Coder&) {}
};

/// The rank's terminal is made: its master side comes along.
struct TerminalMade {
    template <class Self, class Coder>
    static void fields(Self&, Coder&) {}
};

using InitAnswer = std::variant<Built, Executed, RankEnded, AllGone, TerminalMade>;

}  // namespace stargate::local
