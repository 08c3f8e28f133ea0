#include "engine/local/output_log.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>

#include "engine/local/output_frame.hpp"

namespace stargate {

std::string output_log_path(const std::string& state, JobId job, AttemptId attempt) {
    return state + "/logs/" + std::to_string(job.value) + "-" + std::to_string(attempt.value) + ".log";
}

std::optional<JobId> job_of_output_log(const std::string& name) {
    JobId job;
    const auto* end = name.data() + name.size();
    const auto [read_to, bad] = std::from_chars(name.data(), end, job.value);
    if (bad != std::errc{} || read_to == end || *read_to != '-' || !name.ends_with(".log")) return std::nullopt;
    return job;
}

Result<OutputLog> OutputLog::open(const std::string& path) {
    local::Fd file{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
    if (!file) return fail(errno == ENOENT ? Fault::not_found : Fault::unavailable, local::failure(path));
    return OutputLog{std::move(file)};
}

Result<OutputLog::Part> OutputLog::read(std::int64_t offset, std::size_t most) const {
    using local::OutputFrameHead;
    if (offset < 0) return fail(Fault::malformed, "an offset of an output file is never negative");
    struct stat status {};
    if (fstat(file_.get(), &status) != 0)
        return fail(Fault::unavailable, local::failure("cannot read the output file"));
    const auto there = static_cast<std::size_t>(std::max<std::int64_t>(status.st_size - offset, 0));
    if (there == 0) return Part{.pieces = {}, .next_offset = offset};  // whoever follows finds this most of the time
    std::string bytes(std::min(there, std::max(most, OutputFrameHead::size + OutputFrameHead::longest)), '\0');
    const auto got = pread(file_.get(), bytes.data(), bytes.size(), offset);
    if (got < 0) return fail(Fault::unavailable, local::failure("cannot read the output file"));
    bytes.resize(static_cast<std::size_t>(got));

    Part part{.pieces = {}, .next_offset = offset};
    std::size_t at = 0;
    while (bytes.size() - at >= OutputFrameHead::size) {
        const auto head = OutputFrameHead::from_bytes(bytes.data() + at);
        if (head.length > OutputFrameHead::longest || (head.stream != 1 && head.stream != 2)) {
            if (at > 0) break;
            return fail(Fault::malformed, "no piece of output begins at offset " + std::to_string(offset));
        }
        const auto start = at + OutputFrameHead::size;
        if (bytes.size() - start < head.length) break;
        part.pieces.push_back({.rank = head.rank,
                               .is_errors = head.stream == 2,
                               .unix_us = static_cast<std::int64_t>(head.at_us),
                               .bytes = bytes.substr(start, head.length)});
        at = start + head.length;
    }
    part.next_offset += static_cast<std::int64_t>(at);
    return part;
}

}  // namespace stargate
