#pragma once

#include <gtest/gtest.h>

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "base/json_text.hpp"
#include "core/decide.hpp"
#include "core/explain.hpp"
#include "core/invariants.hpp"
#include "core/log.hpp"
#include "core/owed.hpp"
#include "core/transitions.hpp"

/// For tests of the core alone: a fleet, its people and its engines in the words of the domain. Every step asserts the
/// local invariants after each fact and the whole-state ones at its end.
namespace stargate::test {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;

/// What somebody asks for: `job("a").gpus(4).of(PriorityClass::production)`.
struct Asked {
    Submit submit;

    Asked gpus(int least, int most = 0) && {
        submit.spec.min_gpus = GpuCount{least};
        submit.spec.max_gpus = GpuCount{most == 0 ? least : most};
        return std::move(*this);
    }
    Asked share(int thousandths) && {
        submit.spec.share = thousandths;
        return std::move(*this).gpus(0);
    }
    Asked of(PriorityClass priority) && { return submit.spec.priority = priority, std::move(*this); }
    Asked by(std::string tenant) && { return submit.tenant = std::move(tenant), std::move(*this); }
    Asked after(std::string name) && { return submit.after.push_back(std::move(name)), std::move(*this); }
    Asked count(int elements) && { return submit.count = elements, std::move(*this); }
    Asked held() && { return submit.held = true, std::move(*this); }
    Asked limit(Duration limit) && { return submit.spec.time_limit = limit, std::move(*this); }
    Asked grace(Duration grace) && { return submit.spec.grace = grace, std::move(*this); }
    Asked retries(int retries) && { return submit.spec.retries = retries, std::move(*this); }
    Asked host(MilliCpus cpus, Bytes memory = {}) && {
        submit.spec.cpus_per_rank = cpus;
        submit.spec.memory_per_rank = memory;
        return std::move(*this);
    }
    Asked within(Level level) && { return submit.spec.require = level, std::move(*this); }
    Asked in_place() && { return submit.spec.resize_in_place = true, std::move(*this); }
    Asked one_rank_a_node() && { return submit.spec.one_rank_a_node = true, std::move(*this); }
};

inline Asked job(std::string name) {
    Asked asked;
    asked.submit.spec.name = std::move(name);
    asked.submit.spec.time_limit = hours{1};
    asked.submit.spec.grace = seconds{5};
    asked.submit.tenant = "lab";
    return asked;
}

/// `service("chat", {1, 3, 2})`: at least 1 replica of a GPU, at most 3, up to 2 asleep.
inline Asked service(std::string name, ServiceSpec spec) {
    auto asked = job(std::move(name)).of(PriorityClass::serving).count(spec.max).within(Level::node);
    asked.submit.spec.kind = Kind::service;
    asked.submit.service = std::move(spec);
    return asked;
}

/// `external("gpt")`: a service whose servers run elsewhere.
inline Asked external(std::string name, std::vector<Endpoint> endpoints = {{"a", 8000}, {"b", 8000}}) {
    ServiceSpec spec;
    spec.endpoints = std::move(endpoints);
    return service(std::move(name), std::move(spec)).gpus(0);
}

class Given {
public:
    explicit Given(Settings settings = {}) {
        decide_now(TakeOffice{1, std::move(settings)});
        tenant("lab");
    }

    Given& tenant(const std::string& name, int quota_gpus = -1, int weight = 1, std::uint32_t may_use = 0b1111) {
        decide_now(SetTenant{name, quota_gpus < 0 ? -1 : quota_gpus * 1000, weight, may_use});
        return *this;
    }
    Given& node(const std::string& name, int gpus, int rack = 0, MilliCpus with_cpus = cpus(64),
                Bytes memory = gibibytes(256)) & {
        NodeShape shape;
        shape.name = name;
        shape.gpus = GpuCount{gpus};
        shape.cpus = with_cpus;
        shape.memory = memory;
        shape.rack = static_cast<std::uint32_t>(rack);
        shapes_[name] = shape;
        boots_[name] = 1;
        decide_now(NodeUp{shape, boot(name)});
        return *this;
    }

    Given node(const std::string& name, int gpus, int rack = 0, MilliCpus with_cpus = cpus(64),
               Bytes memory = gibibytes(256)) && {
        static_cast<Given&>(*this).node(name, gpus, rack, with_cpus, memory);
        return std::move(*this);
    }

    /// Submits and schedules.
    Given& waiting(Asked asked) {
        EXPECT_EQ(submit(std::move(asked)), Why::none);
        return *this;
    }
    /// Submits and sees its ranks run.
    Given& running(Asked asked) {
        const auto name = asked.submit.spec.name;
        waiting(std::move(asked));
        EXPECT_EQ(phase(name), "starting") << name;
        runs(name);
        return *this;
    }
    Why submit(Asked asked) {
        const auto name = asked.submit.spec.name;
        const auto answer = decide_now(asked.submit);
        if (answer.accepted()) {
            if (asked.submit.service) ids_[name] = answer.job;
            for (int task = 0; task < asked.submit.count; ++task) {
                const auto element = asked.submit.count == 1 ? name : name + "[" + std::to_string(task) + "]";
                ids_[element] = JobId{answer.job.value + static_cast<std::uint64_t>(task)};
            }
        }
        pass();
        return answer.why.why;
    }
    /// A request about a job, then a pass.
    Why ask(const Input& input) {
        const auto answer = decide_now(input);
        pass();
        return answer.why.why;
    }
    Why cancel(const std::string& name) { return ask(Cancel{id(name)}); }
    Why hold(const std::string& name, bool held = true) { return ask(Hold{id(name), held}); }
    Why resize(const std::string& name, int gpus) { return ask(Resize{id(name), gpus}); }

    // What engines report.
    Given& runs(const std::string& name) {
        const auto one = attempt(name);
        for (const auto& part : one.parts) {
            if (part.phase == PartPhase::owed) decide_now(RanksRunning{one.id, part.node, one.generation});
        }
        return pass();
    }
    /// All its ranks end by themselves.
    Given& ends(const std::string& name, int code = 0) {
        const auto one = attempt(name);
        for (const auto& part : one.parts)
            decide_now(RanksEnded{one.id, part.node, one.generation, {ExitKind::exited, code, ""}, false, -1, 0});
        return pass();
    }
    /// Its warned ranks leave, having written a checkpoint at `step`.
    Given& leaves(const std::string& name, std::int64_t step = -1) {
        const auto one = attempt(name);
        for (const auto& command : owed(core_.state(), one)) {
            if (const auto* end = std::get_if<EndRanks>(&command)) {
                decide_now(
                    RanksEnded{one.id, end->node, one.generation, {ExitKind::exited, 0, ""}, true, step, end->keep});
            }
        }
        return pass();
    }
    // What replicas and gateways report.
    Given& demand(const std::string& name, std::int64_t queued, std::int64_t in_flight, bool over_limit = false) {
        decide_now(ServiceDemand{id(name), true, queued, in_flight, over_limit});
        return pass();
    }
    /// As many tokens a second are wanted as that, and a full replica gives as many as this.
    Given& tokens(const std::string& name, std::int64_t in_flight, std::int64_t wanted, std::int64_t replica) {
        decide_now(ServiceDemand{id(name), true, 0, in_flight, false, wanted, replica});
        return pass();
    }
    /// Every replica does what it is told: those that are to start run and prove it, those that are to sleep do.
    Given& replicas_obey(const std::string& name) {
        for (int round = 0; round < 3; ++round) {
            for (const auto& command : owed(core_.state())) {
                const auto* run = std::get_if<RunRanks>(&command);
                const auto* tell = std::get_if<TellReplica>(&command);
                const auto about = run != nullptr ? run->attempt : tell != nullptr ? tell->attempt : AttemptId{};
                if (!about || state().at<Job>(state().at<Attempt>(about).job).spec != id(name)) continue;
                if (run != nullptr) decide_now(RanksRunning{run->attempt, run->node, run->generation});
                if (tell == nullptr) continue;
                if (tell->what == Telling::sleep) {
                    decide_now(ReplicaAsleep{tell->attempt, true, tell->telling});
                } else {
                    decide_now(ReplicaReady{tell->attempt, tell->telling});
                }
            }
            pass();
        }
        return *this;
    }
    /// Replicas by where they are: `serving 1 asleep 2`.
    [[nodiscard]] std::string replicas(const std::string& name) const {
        std::map<std::string, int> seen;
        for (int task = 0; task < state().at<Spec>(id(name)).count; ++task) {
            const auto& job = state().at<Job>(JobId{id(name).value + static_cast<std::uint64_t>(task)});
            const auto* active = std::get_if<Active>(&job.phase);
            if (active == nullptr) continue;
            const auto& one = state().at<Attempt>(active->attempt);
            ++seen[one.ending ? "ending" : one.is_ready ? "serving" : std::string{name_of(one.presence)}];
        }
        std::string out;
        for (const auto& [what, count] : seen) out += (out.empty() ? "" : " ") + what + " " + std::to_string(count);
        return out;
    }
    [[nodiscard]] std::vector<Loan> loans(const std::string& name) const {
        std::vector<Loan> all;
        state().table<Attempt>().for_each([&](const Attempt& one) {
            if (state().at<Job>(one.job).spec == id(name)) all.insert(all.end(), one.loans.begin(), one.loans.end());
        });
        return all;
    }

    Given& loses(const std::string& node) {
        decide_now(NodeDead{node_id(node)});
        return pass();
    }
    Given& reboots(const std::string& node) {
        ++boots_[node];
        return comes_back(node);
    }
    Given& comes_back(const std::string& node) {
        decide_now(NodeUp{shapes_[node], boot(node)});
        return pass();
    }
    /// The same boot, with another inventory.
    Given& becomes(const std::string& node, int gpus, MilliCpus with_cpus = cpus(64), Bytes memory = gibibytes(256)) {
        auto& shape = shapes_[node];
        shape.gpus = GpuCount{gpus};
        shape.cpus = with_cpus;
        shape.memory = memory;
        return comes_back(node);
    }
    Given& pass(const Pass& pass = {}) {
        decide_now(pass);
        if (const auto what = broken(core_.state())) ADD_FAILURE() << *what;
        return *this;
    }
    Given& wait(Duration by) { return now_ += by, *this; }
    Given& later(Duration by) {
        wait(by);
        decide_now(Due{});
        return pass();
    }

    // What is there to see.
    [[nodiscard]] const State& state() const { return core_.state(); }
    [[nodiscard]] Core& core() { return core_; }
    [[nodiscard]] Instant now() const { return now_; }
    [[nodiscard]] JobId id(const std::string& name) const {
        const auto found = ids_.find(name);
        return found == ids_.end() ? JobId{} : found->second;
    }
    [[nodiscard]] NodeId node_id(const std::string& name) const { return state().node_named(name); }
    [[nodiscard]] const Job& row(const std::string& name) const { return state().at<Job>(id(name)); }
    [[nodiscard]] Attempt attempt(const std::string& name) const {
        return state().at<Attempt>(std::get<Active>(row(name).phase).attempt);
    }
    /// As the CLI tells it.
    [[nodiscard]] std::string phase(const std::string& name) const {
        const auto* found = state().find<Job>(id(name));
        if (found == nullptr) return "gone";
        if (std::holds_alternative<Waiting>(found->phase)) return "waiting";
        if (std::holds_alternative<Routed>(found->phase)) return "running";
        if (const auto* finished = std::get_if<Finished>(&found->phase)) return std::string{name_of(finished->outcome)};
        const auto one = attempt(name);
        if (one.ending) return "stopping";
        return one.gang_deadline == never ? "running" : "starting";
    }
    [[nodiscard]] int gpus(const std::string& name) const { return attempt(name).gpu_count(); }
    [[nodiscard]] Why reason(const std::string& name) const { return recorded_reason(state(), row(name)).why; }
    [[nodiscard]] std::string node_of(const std::string& name) const {
        return state().at<Node>(attempt(name).parts.front().node).shape.name;
    }
    [[nodiscard]] std::int64_t used_by(const std::string& tenant) const {
        return state().at<TenantRow>(*state().tenant_named(tenant)).used;
    }
    [[nodiscard]] std::size_t facts() const { return log_.size(); }
    [[nodiscard]] std::size_t times(const std::string& fact) const {
        std::size_t count = 0;
        for (const auto& entry : log_) {
            if (fact_names[entry.fact.index()] == fact) ++count;
        }
        return count;
    }
    [[nodiscard]] const std::vector<LogEntry>& log() const { return log_; }
    /// All facts so far, a line each: seconds since the beginning, type, members.
    [[nodiscard]] std::string log_text() const {
        std::string out;
        for (const auto& [at, cause, fact] : log_) {
            out +=
                std::to_string((at - beginning).count() / 1000) + "ms " + std::string{fact_names[fact.index()]} + " ";
            json_text(out, fact);
            out += '\n';
        }
        return out;
    }

    Answer decide_now(const Input& input) {
        const auto answer = decide(core_, now_, input);
        if (!answer.accepted()) { EXPECT_TRUE(core_.batch().empty()) << "a refused input left a fact"; }
        for (const auto& fact : core_.batch()) {
            if (const auto what = illegal(mirror_, now_, fact)) ADD_FAILURE() << *what << " in " << text_of(fact);
            const auto* blocked = std::get_if<BlockedBecause>(&fact);
            if (blocked != nullptr) {
                const auto reasons = explain(mirror_, now_, blocked->job);
                EXPECT_TRUE(!reasons.empty() && reasons.front() == blocked->why) << text_of(fact);
            }
            evolve(mirror_, now_, fact);
            if (const auto what = broken_by(mirror_, fact))
                ADD_FAILURE() << *what << " after " << fact_names[fact.index()];
            log_.push_back({now_, type_of(input), fact});
        }
        core_.commit();
        return answer;
    }

private:
    static constexpr Instant beginning{hours{24 * 365 * 50}};
    static std::string text_of(const Fact& fact) {
        std::string out{fact_names[fact.index()]};
        out += ' ';
        json_text(out, fact);
        return out;
    }
    [[nodiscard]] std::string boot(const std::string& node) const {
        return node + "-" + std::to_string(boots_.at(node));
    }

    Core core_;
    State mirror_;
    Instant now_ = beginning;
    std::map<std::string, JobId> ids_;
    std::map<std::string, NodeShape> shapes_;
    std::map<std::string, int> boots_;
    std::vector<LogEntry> log_;
};

}  // namespace stargate::test
