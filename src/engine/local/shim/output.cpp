#include "engine/local/shim/output.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <unistd.h>

#include <string_view>
#include <utility>

#include "engine/local/output_frame.hpp"
#include "engine/local/shim/terminal.hpp"

namespace stargate::local {

namespace {
constexpr std::uint64_t room_to_go_on = std::uint64_t{4} * OutputFrameHead::longest;  // bytes
}

bool Output::write_to(std::string path, std::int64_t limit) {
    path_ = std::move(path);
    limit_ = limit;
    // An older store that was put back gives the same numbers again: this is not the output of ours.
    if (unlink(path_.c_str()) == 0) return true;
    return errno == ENOENT && access(path_.substr(0, path_.rfind('/')).c_str(), W_OK) == 0;
}

bool Output::has_file() {
    if (!file_) file_ = Fd{open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600)};
    return static_cast<bool>(file_);
}

Fd Output::add_stream(std::int32_t rank, std::uint8_t stream) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) return Fd{};
    fcntl(ends[0], F_SETFL, O_NONBLOCK);  // our end only: programs do not expect it of their standard output
    streams_.push_back({Fd{ends[0]}, rank, stream});
    return Fd{ends[1]};
}

void Output::add_terminal(std::int32_t rank, Fd master) {
    fcntl(master.get(), F_SETFL, O_NONBLOCK);
    stargate::local::set_window(master.get(), rows_, columns_);
    streams_.push_back({std::move(master), rank, 1, true});
}

void Output::type(const std::string& bytes) {
    typed_ += bytes;
    for (const auto& stream : streams_) {
        if (stream.is_hung_up) return forget_typed();
        if (stream.is_terminal) type_on(stream);
    }
}

std::uint64_t Output::taken() { return std::exchange(taken_, 0); }

void Output::forget_typed() {
    taken_ += typed_.size();
    typed_.clear();
}

void Output::type_on(const Stream& terminal) {
    const auto put = write(terminal.pipe.get(), typed_.data(), typed_.size());
    if (put <= 0) return;
    taken_ += static_cast<std::uint64_t>(put);
    typed_.erase(0, static_cast<std::size_t>(put));
}

void Output::set_window(std::uint16_t rows, std::uint16_t columns) {
    rows_ = rows;
    columns_ = columns;
    for (const auto& stream : streams_) {
        if (stream.is_terminal) stargate::local::set_window(stream.pipe.get(), rows, columns);
    }
}

void Output::list(std::vector<pollfd>& polled) const {
    for (const auto& stream : streams_) {
        const bool may_type = stream.is_terminal && !typed_.empty();
        polled.push_back(
            {stream.is_hung_up ? -1 : stream.pipe.get(), static_cast<short>(may_type ? POLLIN | POLLOUT : POLLIN), 0});
    }
}

void Output::take_ready(const std::vector<pollfd>& polled, std::size_t first) {
    for (std::size_t i = 0; i < streams_.size() && first + i < polled.size(); ++i) {
        const auto happened = polled[first + i].revents;
        if ((happened & POLLOUT) != 0) type_on(streams_[i]);
        if (happened != 0) take(streams_[i]);
    }
    std::erase_if(streams_, [](const Stream& stream) { return !stream.pipe; });
}

void Output::drain() {
    // A rank that has outlived its kill (a pipe handed away) could feed us for ever: a pipe holds a mebibyte at most.
    constexpr int most_reads = 64;
    for (auto& stream : streams_) {
        for (int i = 0; i < most_reads && take(stream); ++i) {}
    }
    streams_.clear();
    forget_typed();  // the next terminal is another's
    if (lost_ > 0) (void)note_lost(0);
}

std::string Output::untold_loss() const { return lost_ > 0 ? loss() : std::string{}; }

std::string Output::loss() const { return std::to_string(lost_) + " bytes of output were lost: the disk was full"; }

bool Output::take(Stream& stream) {
    // Not cleared: a page that nothing is read into is never touched, so a job that prints nothing costs none.
    if (!buffer_) buffer_ = std::make_unique_for_overwrite<char[]>(OutputFrameHead::longest);
    if (!stream.pipe) return false;
    const auto got = read(stream.pipe.get(), buffer_.get(), OutputFrameHead::longest);
    if (got > 0) {
        keep(stream, buffer_.get(), static_cast<std::size_t>(got));
        return true;
    }
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return false;
    if (stream.is_terminal) {
        stream.is_hung_up = true;
        forget_typed();
    } else {
        stream.pipe.reset();
    }
    return false;
}

void Output::keep(const Stream& stream, const char* bytes, std::size_t length) {
    if (limit_reached_) return;
    if (lost_ > 0 && !note_lost(stream.rank)) {
        lost_ += length;
        return;
    }
    const auto room = limit_ - size_ - static_cast<std::int64_t>(OutputFrameHead::size);
    const auto fits = room < static_cast<std::int64_t>(length) ? static_cast<std::size_t>(room > 0 ? room : 0) : length;
    if (fits > 0 && !write_frame(stream, bytes, fits)) lost_ += fits;
    if (fits < length) {
        constexpr std::string_view note = "\noutput limit reached; the rest is dropped\n";
        limit_reached_ = write_frame({Fd{}, stream.rank, 2}, note.data(), note.size());
    }
}

/// Says how much is missing here, once the disk has room for what follows: not whenever a last scrap of it is found.
bool Output::note_lost(std::int32_t rank) {
    if (!has_file()) return false;
    struct statvfs disk {};
    const bool is_known = fstatvfs(file_.get(), &disk) == 0;
    const auto blocks = geteuid() == 0 ? disk.f_bfree : disk.f_bavail;  // root writes into what is reserved, too
    if (is_known && blocks * disk.f_frsize < room_to_go_on) return false;
    const auto note = "\n" + loss() + "\n";
    if (!write_frame({Fd{}, rank, 2}, note.data(), note.size())) return false;
    lost_ = 0;
    return true;
}

bool Output::write_frame(const Stream& stream, const char* bytes, std::size_t length) {
    if (!has_file()) return false;
    const OutputFrameHead head{.length = static_cast<std::uint32_t>(length),
                               .stream = stream.number,
                               .rank = stream.rank,
                               .at_us = static_cast<std::uint64_t>(unix_time_us())};
    auto head_bytes = head.to_bytes();
    const iovec parts[] = {{head_bytes.data(), head_bytes.size()}, {const_cast<char*>(bytes), length}};
    const auto whole = static_cast<ssize_t>(head_bytes.size() + length);
    const auto put = writev(file_.get(), parts, 2);
    if (put == whole) {
        size_ += put;
        return true;
    }
    // A full disk may take a part of a frame: cut it off, or every later frame would be unreadable.
    if (put > 0 && ftruncate(file_.get(), size_) != 0) limit_reached_ = true;
    return false;
}

}  // namespace stargate::local
