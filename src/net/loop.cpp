#include "net/loop.hpp"

#include <boost/asio/post.hpp>
#include <chrono>

#include "net/loop_impl.hpp"

namespace stargate::net {

Loop::Loop() : impl_{std::make_unique<Impl>()} {}
Loop::~Loop() = default;

void Loop::run() { impl_->io.run(); }
void Loop::stop() { impl_->io.stop(); }
void Loop::restart() { impl_->io.restart(); }
void Loop::post(std::function<void()> what) { boost::asio::post(impl_->io, std::move(what)); }

std::int64_t Loop::now_us() {
    return std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now().time_since_epoch())
        .count();
}

Loop::Timer Loop::after(Duration delay, std::function<void()> what) {
    const auto timer = ++impl_->last_timer;
    const auto at = now_us() + std::max<std::int64_t>(delay.count(), 0);
    impl_->timers.emplace(std::pair{at, timer}, std::move(what));
    impl_->due.emplace(timer, at);
    impl_->arm();
    return timer;
}

void Loop::cancel(Timer timer) {
    const auto found = impl_->due.find(timer);
    if (found == impl_->due.end()) return;
    impl_->timers.erase({found->second, timer});
    impl_->due.erase(found);  // the alarm goes off for nothing, once
}

void Loop::Impl::arm() {
    if (timers.empty() || timers.begin()->first.first >= armed_us) return;
    armed_us = timers.begin()->first.first;
    alarm.expires_at(std::chrono::steady_clock::time_point{std::chrono::microseconds{armed_us}});
    alarm.async_wait([this](const boost::system::error_code& error) {
        if (error) return;  // armed for an earlier one
        armed_us = INT64_MAX;
        const auto now = now_us();
        while (!timers.empty() && timers.begin()->first.first <= now) {
            auto next = timers.extract(timers.begin());
            due.erase(next.key().second);
            next.mapped()();
        }
        arm();
    });
}

}  // namespace stargate::net
