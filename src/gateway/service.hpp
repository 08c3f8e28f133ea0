#pragma once

#include <functional>
#include <memory>
#include <random>
#include <vector>

#include "gateway/fair_queue.hpp"
#include "gateway/meters.hpp"
#include "gateway/rate.hpp"
#include "gateway/replica.hpp"

namespace stargate::gateway {

class Service;

/// A request's place at a replica: every path on which the request ends gives it back.
class Load {
public:
    Load(std::shared_ptr<Service> service, std::shared_ptr<Replica> replica, Errand& errand, std::int64_t now_us);
    Load(const Load&) = delete;
    Load& operator=(const Load&) = delete;
    ~Load();

    [[nodiscard]] const Replica& replica() const { return *replica_; }
    /// One more token of the answer is there.
    void progress();
    void answered();     // the replica works
    void heard();        // something of a good answer has come
    void begun();        // the first of one goes to its client
    void unreachable();  // it could not be reached, or broke off
    void asleep();
    /// The whole answer is there, of so many tokens.
    void finished(std::int64_t tokens);

private:
    std::shared_ptr<Service> service_;
    std::shared_ptr<Replica> replica_;
    Errand* errand_;
    std::int64_t tokens_;         // of ours among the replica's
    std::shared_ptr<Pace> pace_;  // that it adds to: the service may have another by then
    std::int64_t began_us_;
    std::int64_t full_before_us_ = 0;  // of the replica
    std::int64_t deltas_ = 0;          // 0 of an answer that comes in one piece
    std::int64_t deltas_while_full_ = 0;
};

/// What of a service's life others want to hear.
struct ServiceEvents {
    std::function<void()> changed;                               // its demand
    std::function<void(const Replica& replica)> emptied;         // nothing is in flight there any more
    std::function<void(const Replica& replica)> answered_first;  // since it serves
};

/// One model that clients ask for: its queue, its replicas, and who goes where. A request goes to the replica with the
/// least outstanding work that has room; where there is none it waits.
class Service : public std::enable_shared_from_this<Service> {
public:
    Service(net::Loop& loop, ServiceEvents events) : loop_{loop}, events_{std::move(events)} {}
    Service(const Service&) = delete;
    Service& operator=(const Service&) = delete;
    ~Service();

    /// As the table has it now.
    void update(const ServiceEntry& entry, std::vector<std::shared_ptr<Replica>> replicas);
    /// It is in the table no more: what waits is refused so, what is in flight goes on.
    void drop(const Refusal& refusal);
    [[nodiscard]] const ServiceEntry& entry() const { return entry_; }
    [[nodiscard]] Meters& meters() { return meters_; }

    /// Starts it, now or later, or refuses it.
    void submit(std::shared_ptr<Errand> errand);
    /// One that a replica has failed before anything of an answer reached the client. False: nobody else could take it.
    [[nodiscard]] bool submit_again(std::shared_ptr<Errand> errand);
    /// It waits no more, its client has gone.
    void withdraw(Errand& errand);
    /// Puts to work whoever can be.
    void pump();

    [[nodiscard]] ServiceDemand demand() const;
    /// How long whoever is refused now should stay away: until the queue is emptied, by how long places are held.
    [[nodiscard]] Duration wait_for_room();
    /// An answer's length as answers have been of late, for requests that set no limit. Tokens.
    [[nodiscard]] std::int64_t usual_answer() const { return usual_answer_; }
    void note_answer(std::int64_t tokens);
    /// A request is over whose answer was expected to have so many tokens: it came to as many as these.
    void put_right(std::int64_t expected, std::int64_t tokens);

private:
    friend class Load;
    [[nodiscard]] std::shared_ptr<Replica> place_for(const Errand& errand) const;
    [[nodiscard]] bool is_served() const;
    [[nodiscard]] Duration limit() const;
    void enqueue(std::shared_ptr<Errand> errand, bool goes_first);
    void left_queue(Errand& errand);
    void put_to_work(const std::shared_ptr<Errand>& errand, std::shared_ptr<Replica> replica);
    void refuse(Errand& errand, const Refusal& refusal);
    void lost_patience(Errand& errand);
    void watch_limit();
    void wake_later();
    void forget_pace();
    void note_hold(std::int64_t held_us);
    void changed() const {
        if (events_.changed) events_.changed();
    }

    net::Loop& loop_;
    ServiceEvents events_;
    ServiceEntry entry_;
    std::vector<std::shared_ptr<Replica>> replicas_;
    FairQueue queue_;
    Meters meters_;
    Rate wanted_;  // of answers' tokens: as expected when they are asked for, and put right when they are over
    std::shared_ptr<Pace> pace_ = std::make_shared<Pace>(entry_.max_concurrency);
    std::int64_t in_flight_ = 0;
    std::int64_t in_flight_tokens_ = 0;
    std::int64_t began_us_ = 0;       // the sum of the moments at which those in flight got their places
    std::int64_t usual_hold_us_ = 0;  // how long a request has held its place of late; 0: none has
    std::int64_t usual_answer_ = 256;
    std::uint64_t arrived_ = 0;
    std::uint64_t rejected_ = 0;
    net::Loop::Timer limit_timer_ = 0;  // when the oldest passes the limit
    net::Loop::Timer wake_timer_ = 0;   // when a replica that rests may be tried
    bool is_pumping_ = false;
    std::minstd_rand chance_{std::random_device{}()};  // spreads those who come back
};

}  // namespace stargate::gateway
