#include "cli/follow.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>

namespace stargate::cli {

using api::Frame;

bool write_all(int to, std::string_view bytes) {
    while (!bytes.empty()) {
        const auto written = ::write(to, bytes.data(), bytes.size());
        if (written < 0 && errno == EINTR) continue;
        if (written <= 0) return false;
        bytes.remove_prefix(static_cast<std::size_t>(written));
    }
    return true;
}

bool Followed::take(std::string_view piece) {
    pending_ += piece;
    std::string_view rest{pending_};
    bool broken = false;
    while (const auto frame = Frame::take(rest, broken)) handle(*frame);
    pending_.erase(0, pending_.size() - rest.size());
    return !broken;
}

void Followed::handle(const Frame& frame) {
    switch (frame.kind) {
        case Frame::Kind::nothing:
            break;
        case Frame::Kind::output:
        case Frame::Kind::errors:
            places_[frame.task].offset = frame.next_offset;
            if (output) output(frame);
            break;
        case Frame::Kind::accepted:
            if (const auto body = api::parse_json(frame.bytes); body && accepted) {
                accepted(static_cast<std::uint64_t>((*body)["id"].whole), static_cast<int>((*body)["count"].whole));
            }
            break;
        case Frame::Kind::attempt:
            if (const auto body = api::parse_json(frame.bytes)) {
                places_[frame.task] = {static_cast<std::uint64_t>((*body)["attempt"].whole), 0, false};
            }
            break;
        case Frame::Kind::finished:
            if (const auto body = api::parse_json(frame.bytes); body && !places_[frame.task].done) {
                places_[frame.task].done = true;
                ++ended_;
                if (finished) finished(frame.task, *body);
            }
            break;
    }
}

std::string Followed::resume() const {
    std::string text;
    for (auto at = places_.begin(); at != places_.end();) {
        const auto [task, place] = *at++;
        text += text.empty() ? "" : ",";
        if (!place.done) {
            text += fmt::format("{}:{}:{}", task, place.attempt, place.offset);
            continue;
        }
        auto last = task;
        for (; at != places_.end() && at->second.done && at->first == last + 1; ++at) ++last;
        text += last == task ? fmt::format("{}:done", task) : fmt::format("{}-{}:done", task, last);
    }
    return text;
}

}  // namespace stargate::cli
