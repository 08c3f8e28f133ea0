#include "gateway/link.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/overloaded.hpp"

namespace stargate::gateway {

namespace {

constexpr Duration between_demands = std::chrono::milliseconds{20};
constexpr Duration longest_silence = std::chrono::seconds{1};  // half of what makes our demand unknown
constexpr std::size_t most_peers = 16;  // of whom one is obeyed; the others have not said who they are yet

}  // namespace

ControlLink::ControlLink(net::Loop& loop, Introduction self, Table& table, Pool& pool)
    : loop_{loop}, self_{std::move(self)}, table_{table}, pool_{pool} {}

Result<std::unique_ptr<ControlLink>> ControlLink::listen(net::Loop& loop, const std::string& path, Introduction self,
                                                         Table& table, Pool& pool) {
    std::unique_ptr<ControlLink> link{new ControlLink{loop, std::move(self), table, pool}};
    auto server = net::LineServer::listen(
        loop, path, [raw = link.get()](std::unique_ptr<net::LineLink> peer) { raw->came(std::move(peer)); });
    if (!server) return tl::unexpected(server.error());
    link->server_ = std::move(*server);
    pool.when_changed = [raw = link.get()] { raw->demand_changed(); };
    pool.when_drained = [raw = link.get()](std::uint64_t replica) { raw->tell(Drained{replica}); };
    pool.when_answered_first = [raw = link.get()](FirstAnswer answer) {
        raw->untold_[answer.replica] = answer;
        raw->tell_untold();
    };
    return link;
}

ControlLink::~ControlLink() {
    pool_.when_changed = nullptr;
    pool_.when_drained = nullptr;
    pool_.when_answered_first = nullptr;
    loop_.cancel(demand_timer_);
    *is_here_ = false;
}

void ControlLink::came(std::unique_ptr<net::LineLink> link) {
    if (peers_.size() >= most_peers) return;
    const auto peer = peers_.insert(peers_.end(), Peer{std::move(link)});
    peer->link->begin({[this, peer](std::string_view line) { heard(peer, line); },
                       [this, peer](const std::string&) {
                           if (peer == office_) office_ = peers_.end();
                           peers_.erase(peer);
                       }});
    self_.services = table_.services().size();
    peer->link->send(to_line(Report{self_}));
}

void ControlLink::heard(Place peer, std::string_view line) {
    const auto read = read_order(line);
    if (!read) return refuse(peer, read.error().detail);
    const auto* order = std::get_if<Order>(&*read);
    if (order == nullptr) return;
    if (peer != office_ && !std::holds_alternative<TakeOffice>(*order)) return refuse(peer, "hello comes first");
    std::visit([&](const auto& it) { obey(peer, it); }, *order);
}

void ControlLink::obey(Place peer, const TakeOffice& order) {
    const bool is_ours = order.incarnation == self_.incarnation;
    if (!is_ours && !table_.services().empty()) {
        return refuse(peer, fmt::format("this gateway serves for the store {}", self_.incarnation));
    }
    if (is_ours && order.term < self_.term) {
        return refuse(peer, fmt::format("term {} is over: {} is in force", order.term, self_.term));
    }
    if (has_office() && office_ != peer) peers_.erase(office_);
    office_ = peer;
    if (!is_ours || order.term > self_.term) has_table_ = false;
    self_.incarnation = order.incarnation;
    self_.term = order.term;
    demand_changed();
    tell_untold();
}

void ControlLink::obey(Place /*peer*/, const WholeTable& order) {
    table_.take(order);
    has_table_ = true;
    took_table();
}

void ControlLink::obey(Place peer, const Change& order) {
    if (!has_table_ || !table_.take(order)) return does_not_follow(peer, order.version);
    took_table();
}

void ControlLink::obey(Place peer, const Withdraw& order) {
    if (!has_table_ || !table_.take(order)) return does_not_follow(peer, order.version);
    took_table();
    const auto in_flight = pool_.withdraw(order.replica, std::chrono::milliseconds{order.deadline_ms});
    tell(Draining{order.replica, in_flight});
    if (in_flight == 0) tell(Drained{order.replica});
}

void ControlLink::took_table() {
    self_.version = table_.version();
    pool_.follow(table_);
    tell(Have{self_.version});
}

void ControlLink::does_not_follow(Place peer, std::uint64_t version) {
    const auto have = has_table_ ? self_.version : 0;
    peer->link->send(to_line(Report{Refused{fmt::format("version {} does not follow on {}", version, have)}}));
    peer->link->send(to_line(Report{Have{have}}));
}

void ControlLink::refuse(Place peer, std::string why) {
    peer->link->send(to_line(Report{Refused{std::move(why)}}));
    if (peer == office_) office_ = peers_.end();
    peers_.erase(peer);
}

void ControlLink::tell(const Report& report) {
    if (has_office()) office_->link->send(to_line(report));
}

void ControlLink::tell_untold() {
    if (!has_office()) return;
    for (const auto& [replica, answer] : std::exchange(untold_, {})) tell(answer);
}

/// Says it at the end of this turn, or when the last time is long enough ago.
void ControlLink::demand_changed() {
    if (!has_office() || std::exchange(is_demand_due_, true)) return;
    loop_.cancel(std::exchange(demand_timer_, 0));
    const auto since = Duration{net::Loop::now_us() - told_demand_us_};
    if (since < between_demands) {
        demand_timer_ = loop_.after(between_demands - since, [this] { tell_demand(); });
        return;
    }
    loop_.post([this, is_here = is_here_] {
        if (*is_here) tell_demand();
    });
}

void ControlLink::tell_demand() {
    is_demand_due_ = false;
    loop_.cancel(std::exchange(demand_timer_, 0));
    if (!has_office()) return;
    told_demand_us_ = net::Loop::now_us();
    Demand demand{++last_seq_, {}};
    for (const auto& [name, service] : pool_.services()) demand.services.push_back(service->demand());
    tell(demand);
    if (Duration{told_demand_us_ - told_seen_us_} >= longest_silence) tell_seen();
    demand_timer_ = loop_.after(longest_silence, [this] { tell_demand(); });
}

void ControlLink::tell_seen() {
    told_seen_us_ = told_demand_us_;
    auto seen = pool_.take_seen();
    if (!seen.answered.empty() || !seen.asleep.empty()) tell(std::move(seen));
}

}  // namespace stargate::gateway
