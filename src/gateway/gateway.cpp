#include "gateway/gateway.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include "base/digest.hpp"

namespace stargate::gateway {

Gateway::Gateway(net::Loop& loop, GatewaySetting setting)
    : loop_{loop}, setting_{std::move(setting)}, boot_{hex_of(random_bytes())} {}

Gateway::~Gateway() { loop_.cancel(drain_timer_); }

Result<std::unique_ptr<Gateway>> Gateway::start(net::Loop& loop, GatewaySetting setting) {
    std::unique_ptr<Gateway> gateway{new Gateway{loop, std::move(setting)}};
    const auto& state = gateway->setting_.state;
    auto usage = UsageBook::open(state + "/usage", gateway->boot_);
    if (!usage) return tl::unexpected(usage.error());
    gateway->usage_ = std::move(*usage);
    auto front =
        Front::listen(loop, gateway->setting_.front, gateway->boot_, gateway->table_, gateway->pool_, *gateway->usage_);
    if (!front) {  // who is started again and again in vain shall leave nothing behind
        gateway->usage_.reset();
        ::unlink((state + "/usage/" + gateway->boot_).c_str());
        return tl::unexpected(front.error());
    }
    gateway->front_ = std::move(*front);
    Introduction self;
    self.boot = gateway->boot_;
    self.pid = ::getpid();
    self.listen = gateway->address();
    auto link = ControlLink::listen(loop, state + "/gateway.sock", std::move(self), gateway->table_, gateway->pool_);
    if (!link) return tl::unexpected(link.error());
    gateway->link_ = std::move(*link);
    return gateway;
}

std::string Gateway::address() const {
    const auto& host = setting_.front.host;
    const bool is_v6 = host.find(':') != std::string::npos;
    return fmt::format("{}{}{}:{}", is_v6 ? "[" : "", host, is_v6 ? "]" : "", port());
}

void Gateway::drain(std::function<void()> when_over) {
    when_over_ = std::move(when_over);
    drains_until_us_ = net::Loop::now_us() + setting_.drain_limit.count();
    front_->drain();
    link_->stop_listening();
    look_whether_over();
}

void Gateway::look_whether_over() {
    constexpr Duration pause = std::chrono::milliseconds{20};
    constexpr Duration last_words = std::chrono::seconds{1};  // for what the cut ones are told to reach their clients
    const auto now = net::Loop::now_us();
    if (front_->connections() == 0 || now > drains_until_us_ + last_words.count()) {
        if (const auto told = std::exchange(when_over_, nullptr)) told();
        return;
    }
    if (now > drains_until_us_) pool_.end_all("the gateway ends");
    drain_timer_ = loop_.after(pause, [this] { look_whether_over(); });
}

}  // namespace stargate::gateway
