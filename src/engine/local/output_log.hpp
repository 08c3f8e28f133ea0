#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "base/units.hpp"
#include "engine/local/posix.hpp"

namespace stargate {

/// Where the output of an attempt is kept. It survives the attempt's folder.
[[nodiscard]] std::string output_log_path(const std::string& state, JobId job, AttemptId attempt);

/// Whose output a file of that name in the same folder is; nothing when it is no output.
[[nodiscard]] std::optional<JobId> job_of_output_log(const std::string& name);

/// A piece of what a rank wrote, as it came.
struct OutputPiece {
    std::int32_t rank = 0;
    bool is_errors = false;  // standard error, else standard output
    std::int64_t unix_us = 0;
    std::string bytes;
    friend bool operator==(const OutputPiece&, const OutputPiece&) = default;
};

/// Reads an attempt's output while it is being written, from any offset that an earlier read ended at.
class OutputLog {
public:
    /// not_found before the attempt has started.
    [[nodiscard]] static Result<OutputLog> open(const std::string& path);

    struct Part {
        std::vector<OutputPiece> pieces;
        std::int64_t next_offset = 0;  // read on from here
    };
    /// Whole pieces from `offset` on, about `most` bytes of them (one at least, if there is one). An unfinished piece
    /// at the end, which only a crash leaves for good, is not returned. `malformed` when no piece begins at `offset`.
    [[nodiscard]] Result<Part> read(std::int64_t offset, std::size_t most = 1U << 20) const;

private:
    explicit OutputLog(local::Fd file) : file_{std::move(file)} {}
    local::Fd file_;
};

}  // namespace stargate
