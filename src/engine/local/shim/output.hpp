#pragma once

#include <poll.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "engine/local/posix.hpp"

namespace stargate::local {

/// What the ranks print, on its way into the attempt's output file (the format is told in output_frame.hpp). Nothing
/// here blocks or fails the job: beyond the limit, or on a full disk, output is read and dropped.
class Output {
public:
    /// path   made when there is something to write: most short jobs print nothing. What is there is removed.
    /// limit  of the file, in bytes
    /// False with errno when no file could be made there.
    [[nodiscard]] bool write_to(std::string path, std::int64_t limit);

    /// A pipe whose other end is the rank's stream (1 output, 2 errors). Empty with errno when none could be made.
    [[nodiscard]] Fd add_stream(std::int32_t rank, std::uint8_t stream);

    /// The master side of a terminal, in the place of both streams.
    void add_terminal(std::int32_t rank, Fd master);
    /// Typed at the terminal. What it does not take at once, for nobody reads there, is kept: whoever sends it waits
    /// for `taken`.
    void type(const std::string& bytes);
    /// Typed bytes that the terminal has taken since this was asked last.
    [[nodiscard]] std::uint64_t taken();
    /// The terminal's size, also of one that comes later.
    void set_window(std::uint16_t rows, std::uint16_t columns);

    void list(std::vector<pollfd>& polled) const;
    /// Takes what there is, at most one buffer a stream. Closes streams that ended.
    void take_ready(const std::vector<pollfd>& polled, std::size_t first);
    /// Everything that dead ranks left in their pipes. Does not wait for an end of file: a pipe may have been handed to
    /// a process that lives on.
    void drain();
    /// What the file does not say is missing from it, as a sentence; empty when it says all.
    [[nodiscard]] std::string untold_loss() const;

private:
    struct Stream {
        Fd pipe;
        std::int32_t rank = 0;
        std::uint8_t number = 1;
        bool is_terminal = false;
        bool is_hung_up = false;  // a terminal that nobody has open; closed, it would end who has it for his own
    };
    void type_on(const Stream& terminal);
    void forget_typed();
    /// False when the stream has nothing more for now.
    bool take(Stream& stream);
    void keep(const Stream& stream, const char* bytes, std::size_t length);
    [[nodiscard]] bool has_file();
    [[nodiscard]] std::string loss() const;
    [[nodiscard]] bool note_lost(std::int32_t rank);
    [[nodiscard]] bool write_frame(const Stream& stream, const char* bytes, std::size_t length);

    std::string path_;
    Fd file_;
    std::int64_t size_ = 0;  // of the file, which has no other writer
    std::int64_t limit_ = 0;
    bool limit_reached_ = false;
    std::uint64_t lost_ = 0;  // bytes that a full disk cost
    std::vector<Stream> streams_;
    std::string typed_;  // and not taken yet
    std::uint64_t taken_ = 0;
    std::uint16_t rows_ = 24, columns_ = 80;
    std::unique_ptr<char[]> buffer_;
};

}  // namespace stargate::local
