#pragma once

#include <list>
#include <map>
#include <memory>
#include <string>

#include "gateway/messages.hpp"
#include "gateway/pool.hpp"
#include "gateway/table.hpp"
#include "net/line_link.hpp"

namespace stargate::gateway {

/// The gateway's end of the link to the control plane: whom it obeys, and what it tells.
class ControlLink {
public:
    /// Listens at once. Table and pool outlive it.
    /// self  boot, pid and where it serves
    [[nodiscard]] static Result<std::unique_ptr<ControlLink>> listen(net::Loop& loop, const std::string& path,
                                                                     Introduction self, Table& table, Pool& pool);
    ControlLink(const ControlLink&) = delete;
    ControlLink& operator=(const ControlLink&) = delete;
    ~ControlLink();

    /// Takes no more links: no control plane shall find a gateway that is about to end. Those that there are go on.
    void stop_listening() { server_.reset(); }

private:
    struct Peer {
        std::unique_ptr<net::LineLink> link;
        bool is_in_office = false;
    };
    using Place = std::list<Peer>::iterator;

    ControlLink(net::Loop& loop, Introduction self, Table& table, Pool& pool);
    void came(std::unique_ptr<net::LineLink> link);
    void heard(Place peer, std::string_view line);
    void obey(Place peer, const TakeOffice& order);
    void obey(Place peer, const WholeTable& order);
    void obey(Place peer, const Change& order);
    void obey(Place peer, const Withdraw& order);
    void took_table();
    void does_not_follow(Place peer, std::uint64_t version);
    void refuse(Place peer, std::string why);
    void tell(const Report& report);

    void demand_changed();
    void tell_demand();
    void tell_seen();
    void tell_untold();
    [[nodiscard]] bool has_office() const { return office_ != peers_.end(); }

    net::Loop& loop_;
    Introduction self_;  // with whom it obeyed last
    Table& table_;
    Pool& pool_;
    bool has_table_ = false;  // of this term: what there is before still serves
    std::list<Peer> peers_;
    Place office_ = peers_.end();
    std::map<std::uint64_t, FirstAnswer> untold_;  // by replica: nobody was in office
    std::uint64_t last_seq_ = 0;
    std::int64_t told_demand_us_ = 0;
    std::int64_t told_seen_us_ = 0;
    net::Loop::Timer demand_timer_ = 0;
    bool is_demand_due_ = false;  // within this turn of the loop, or by the timer
    std::shared_ptr<bool> is_here_ = std::make_shared<bool>(true);
    std::unique_ptr<net::LineServer> server_;
};

}  // namespace stargate::gateway
