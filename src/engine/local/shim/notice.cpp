#include "engine/local/shim/notice.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <charconv>
#include <cstdio>

#include "engine/local/posix.hpp"

namespace stargate::local {

void write_notice(int job_folder, const Notice& notice) {
    const auto deadline_ms = (unix_time_us() + notice.grace_us) / 1000;
    const auto text = "{\"cause\":\"" + notice.cause + "\",\"deadline_ms\":" + std::to_string(notice.grace_us / 1000) +
                      ",\"deadline_unix_ms\":" + std::to_string(deadline_ms) +
                      ",\"gpus\":" + std::to_string(notice.next_world) +
                      ",\"generation\":" + std::to_string(notice.generation) +
                      (notice.port == 0 ? "" : ",\"master_port\":" + std::to_string(notice.port)) + "}\n";
    constexpr const char* fresh = ".notice.new";
    unlinkat(job_folder, fresh, 0);
    const Fd file{openat(job_folder, fresh, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644)};
    if (file && write_all(file.get(), text)) renameat(job_folder, fresh, job_folder, "notice");
}

std::int64_t read_progress(int job_folder) {
    const auto text = read_small_file(job_folder, "progress", 256);
    std::int64_t step = -1;
    if (!text) return step;
    const auto start = text->find_first_not_of(" \t\n");
    if (start == std::string::npos) return step;
    const auto read = std::from_chars(text->data() + start, text->data() + text->size(), step);
    const bool is_whole =
        text->find_first_not_of(" \t\r\n", static_cast<std::size_t>(read.ptr - text->data())) == std::string::npos;
    return read.ec == std::errc{} && is_whole && step >= 0 ? step : -1;
}

}  // namespace stargate::local
