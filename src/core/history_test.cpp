#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cstdlib>
#include <fstream>
#include <sstream>

#include "core/given.hpp"
#include "core/policy/seats.hpp"
#include "core/serving.hpp"

namespace stargate::test {
namespace {

/// One thing that happens in a random history; what it means depends on what is there by then.
struct Happens {
    int what = 0;
    int which = 0;
    int much = 0;
};

std::ostream& operator<<(std::ostream& out, const Happens& happens) {
    return out << '{' << happens.what << ',' << happens.which << ',' << happens.much << '}';
}

rc::Gen<std::vector<Happens>> histories() {
    return rc::gen::container<std::vector<Happens>>(
        rc::gen::map(rc::gen::tuple(rc::gen::inRange(0, 37), rc::gen::inRange(0, 1000), rc::gen::inRange(0, 1000)),
                     [](const std::tuple<int, int, int>& drawn) {
                         return Happens{std::get<0>(drawn), std::get<1>(drawn), std::get<2>(drawn)};
                     }));
}

Asked some_job(int which, int much) {
    auto asked =
        job("j" + std::to_string(which % 7)).by(which % 2 == 0 ? "lab" : "lab/nlp").limit(minutes{1 + much % 90});
    asked = std::move(asked).of(static_cast<PriorityClass>(much % 4)).count(1 + which % 3).retries(which % 4);
    switch (which % 8) {
        case 0:
            return std::move(asked).gpus(1, 1 + much % 10);
        case 1:
            return std::move(asked).gpus(2, 2 + much % 12).in_place();
        case 2:
            return std::move(asked).share(100 + much % 900);
        case 3:
            return std::move(asked).gpus(0).host(cpus(1 + much % 8), gibibytes(much % 8));
        case 4:
            return std::move(asked).gpus(2 + much % 15).within(Level::rack).one_rank_a_node();
        case 5:
            return std::move(asked).gpus(1, 6).in_place().one_rank_a_node();
        case 6:
            return std::move(asked).after("j" + std::to_string(much % 7)).after("j" + std::to_string(much % 5));
        default:
            return std::move(asked).gpus(1 + much % 8).host(cpus(1), gibibytes(1));
    }
}

Asked some_service(int which, int much) {
    if (much % 9 == 0) {
        auto elsewhere = external("s" + std::to_string(which % 5)).by(which % 2 == 0 ? "lab" : "lab/nlp");
        elsewhere.submit.held = which % 7 == 0;
        return elsewhere;
    }
    ServiceSpec spec;
    spec.max = 1 + which % 4;
    spec.min = much % 5 == 0 ? 0 : 1 + much % spec.max;
    spec.standby = which % 3;
    spec.max_concurrency = 1 + much % 4;
    auto asked = service("s" + std::to_string(which % 5), spec).by(which % 2 == 0 ? "lab" : "lab/nlp");
    return std::move(asked).gpus(1 + much % 3).grace(seconds{1 + much % 5}).host(cpus(1 + which % 2));
}

/// What a replica answers to what it was told last, or (`stale`) to what it was told before that.
Input answer_of(const Attempt& replica, const Happens& happens) {
    const auto stale = happens.much % 7 == 0 && replica.tellings > 0 ? 1U : 0U;
    const auto telling = replica.tellings - stale;
    if (replica.presence == Presence::falling_asleep) {
        return ReplicaAsleep{replica.id, happens.much % 11 != 0, telling};
    }
    if (happens.much % 19 == 0) return ReplicaAnswered{replica.id, telling};
    if (happens.much % 17 == 0) return ReplicaFailed{replica.id, telling, "it does not answer"};
    return happens.much % 13 == 0 ? Input{ReplicaAsleep{replica.id, true, telling}}
                                  : Input{ReplicaReady{replica.id, telling}};
}

/// Some service, a live replica, or a part that is owed to its engine: whichever the draw falls on.
template <class Row, class Is>
const Row* some(const State& state, int which, Is is) {
    std::vector<const Row*> rows;
    state.table<Row>().for_each([&](const Row& row) {
        if (is(row)) rows.push_back(&row);
    });
    return rows.empty() ? nullptr : rows[static_cast<std::size_t>(which) % rows.size()];
}

/// Another class, time limit, size or order of some job; whether it may be is for the core to say.
Input some_edit(const State& state, const Happens& happens) {
    const auto* job =
        some<Job>(state, happens.which, [](const Job& row) { return !std::holds_alternative<Finished>(row.phase); });
    if (job == nullptr) return Due{};
    Edit edit{job->id};
    if (happens.much % 3 == 0) edit.priority = static_cast<PriorityClass>(happens.which % 4);
    if (happens.much % 4 == 1) edit.time_limit = minutes{1 + happens.which % 120};
    if (happens.much % 5 == 2) {
        edit.gpus = GpuRange{GpuCount{1 + happens.which % 3}, GpuCount{1 + happens.which % 3 + happens.much % 8}};
    }
    if (happens.much % 7 == 3) edit.after = std::vector<std::string>{"j" + std::to_string(happens.which % 7)};
    if (happens.much % 14 == 10) edit.after->clear();
    return edit;
}

Input input_to_services(const State& state, const Happens& happens) {
    switch (happens.what) {
        case 24:
            return some_service(happens.which, happens.much).submit;
        case 25:
        case 26:
            if (const auto* service = some<Service>(state, happens.which, [](const Service&) { return true; })) {
                return ServiceDemand{service->first,        happens.much % 6 != 0, happens.much % 17,
                                     happens.which % 9,     happens.much % 4 == 1, happens.much % 700,
                                     happens.which % 5 * 40};
            }
            return Due{};
        case 27: {  // an engine obeys a start
            const auto* attempt = some<Attempt>(state, happens.which, [](const Attempt& row) {
                return !row.ending && row.gang_deadline != never && row.parts.front().phase == PartPhase::owed;
            });
            if (attempt == nullptr) return Due{};
            return RanksRunning{attempt->id, attempt->parts.front().node, attempt->generation};
        }
        case 28: {  // and a warning
            const auto* attempt =
                some<Attempt>(state, happens.which, [](const Attempt& row) { return row.ending.has_value(); });
            if (attempt == nullptr) return Due{};
            const auto& part = attempt->parts[static_cast<std::size_t>(happens.much) % attempt->parts.size()];
            const auto left = staying_ranks(state.spec_of(state.at<Job>(attempt->job)), *attempt->ending, part);
            return RanksEnded{attempt->id, part.node, attempt->generation, {ExitKind::exited, 0, ""}, true, -1, left};
        }
        case 35:
        case 36:
            return some_edit(state, happens);
        case 34:  // a pass that takes few of those that are over out of State
            return Pass{false, false, 1 + happens.much % 3};
        default:
            if (const auto* replica = some<Attempt>(state, happens.which, [&](const Attempt& row) {
                    return row.port != 0 && (happens.much % 5 == 0 || row.reply_by != Instant{});
                })) {
                return answer_of(*replica, happens);
            }
            return Due{};
    }
}

Input input_of(const State& state, const Happens& happens) {
    if (happens.what >= 24) return input_to_services(state, happens);
    const auto jobs = static_cast<int>(state.counters().jobs);
    const JobId job{jobs == 0 ? 1U : static_cast<std::uint64_t>(1 + happens.which % jobs)};
    const NodeId node{static_cast<std::uint64_t>(1 + happens.which % 3)};
    const auto* row = state.find<Job>(job);
    const auto* active = row == nullptr ? nullptr : std::get_if<Active>(&row->phase);
    const auto* attempt = active == nullptr ? nullptr : state.find<Attempt>(active->attempt);
    Part part;
    if (attempt != nullptr) part = attempt->parts[static_cast<std::size_t>(happens.much) % attempt->parts.size()];
    const auto id = attempt == nullptr ? AttemptId{static_cast<std::uint64_t>(happens.much)} : attempt->id;
    const auto generation = attempt == nullptr ? 1U : attempt->generation;
    const auto at = attempt == nullptr ? node : part.node;
    switch (happens.what) {
        case 0:
        case 1:
        case 2:
            return some_job(happens.which, happens.much).submit;
        case 3:
            return Cancel{job};
        case 4:
            return Hold{job, happens.much % 2 == 0};
        case 5:
            return Resize{job, happens.much % 12};
        case 6:
        case 7:
        case 8:
            return RanksRunning{id, at, generation};
        case 9:
            return RanksEnded{id,    at,           generation, {ExitKind::exited, happens.much % 4 == 0 ? 1 : 0, ""},
                              false, happens.much, 0};
        case 10:
        case 11: {
            std::int32_t left = 0;
            if (attempt != nullptr && attempt->ending)
                left = staying_ranks(state.spec_of(*row), *attempt->ending, part);
            const bool cancelled = happens.which % 5 == 0;
            return RanksEnded{id, at, generation, {ExitKind::exited, 0, ""}, true, happens.much, left, cancelled};
        }
        case 12:
            return happens.much % 3 == 0 ? Input{NodeDead{node}} : Input{NodeSilent{node}};
        case 13: {
            const auto* known = state.find<Node>(node);
            auto shape = known->shape;
            if (happens.which % 5 == 0) {  // with more or less of everything
                shape.gpus = GpuCount{1 + happens.much % 10};
                shape.cpus = cpus(happens.much % 64);
                shape.memory = gibibytes(happens.much % 256);
            }
            return NodeUp{shape, happens.much % 2 == 0 ? known->boot : known->boot + "x"};
        }
        case 14:
            return Drain{node, happens.much % 2 == 0};
        case 15: {
            std::vector<AttemptId> ids{
                AttemptId{state.counters().attempts + 1 + static_cast<unsigned>(happens.which % 3)}};
            if (happens.much % 2 == 0) ids.clear();
            return ForeignFound{node,
                                static_cast<GpuMask>(happens.much),
                                ids,
                                happens.which % 3,
                                cpus(happens.much % 5),
                                gibibytes(happens.much % 7)};
        }
        case 16:
            return AttemptLost{id, at, "no trace of it"};
        case 17:
            return RanksEnded{id, at, generation, {ExitKind::refused, 0, "no sandbox"}, happens.much % 5 == 0, -1, 0};
        case 18:
            return RanksEnded{id, at, generation, {ExitKind::killed, 9, "at its deadline"}, happens.much % 2 == 0,
                              -1, 0};
        case 19:
            return Progress{id, happens.much};
        case 20: {  // quotas go up and down, also below what is held
            SetTenant tenant{happens.which % 2 == 0 ? "lab" : "lab/nlp", std::int64_t{1000} * (happens.much % 16),
                             1 + happens.which % 3};
            return tenant;
        }
        case 21: {
            auto settings = state.settings();
            settings.quiet_period = seconds{1 + happens.much % 4};
            settings.gang_limit = seconds{20 + happens.much % 60};
            settings.max_finished = 1 + happens.much % 8;
            return TakeOffice{state.counters().term + static_cast<std::uint64_t>(happens.which % 2), settings};
        }
        default:
            return Due{};
    }
}

/// A fleet of three nodes in two racks, and two tenants of which one has a quota.
Given small_fleet() {
    Settings settings;
    settings.max_finished = 6;
    auto given = Given{settings}.node("n1", 8, 0).node("n2", 8, 0, cpus(16)).node("n3", 4, 1, cpus(16), gibibytes(16));
    given.tenant("lab", 12).tenant("lab/nlp", 8, 2);
    return given;
}

/// The same, where a service at rest and a training share most of what there is.
Given shared_fleet() {
    auto given = small_fleet();
    given.running(job("train").gpus(1, 12)).waiting(service("chat", {1, 4, 2, 4}).gpus(2));
    for (int round = 0; round < 6; ++round) {
        given.replicas_obey("chat");
        if (given.phase("train") == "stopping") given.leaves("train");
        if (given.phase("train") == "starting") given.runs("train");
        given.later(seconds{4});
    }
    return given;
}

Given some_fleet() { return *rc::gen::arbitrary<bool>() ? shared_fleet() : small_fleet(); }

RC_GTEST_PROP(History, KeepsAllInvariants, ()) {
    const auto history = *histories();
    auto given = some_fleet();
    for (const auto& happens : history) {
        given.decide_now(input_of(given.state(), happens));
        if (happens.much % 3 == 0) given.later(seconds{happens.much % 40});
        RC_ASSERT_FALSE(::testing::Test::HasFailure());
    }
    given.pass();
    RC_CLASSIFY(given.times("lent") > 0, "lent");
    RC_CLASSIFY(given.times("woken") > 0, "woken");
    RC_CLASSIFY(given.times("edited") > 0, "edited");
    RC_ASSERT_FALSE(::testing::Test::HasFailure());
}

RC_GTEST_PROP(History, AnUndoneProbeLeavesNothingBehind, ()) {
    const auto history = *histories();
    const auto probe = *histories();
    auto given = some_fleet();
    for (const auto& happens : history) given.decide_now(input_of(given.state(), happens));
    given.pass();
    const auto rows = given.state().rows();
    const auto derived = given.state().derived_text();
    auto& core = given.core();
    const auto mark = core.mark();
    auto now = given.now();
    for (const auto& happens : probe) {
        (void)decide(core, now, input_of(core.state(), happens));
        now += seconds{happens.much % 60};
        if (happens.much % 2 == 0) (void)decide(core, now, Pass{});
    }
    core.undo_to(mark);
    RC_ASSERT(given.state().rows() == rows);
    RC_ASSERT(given.state().derived_text() == derived);
    RC_ASSERT(core.batch().empty());
    RC_ASSERT(core.retired().empty());
}

/// What happens to arrays that come after arrays.
Input input_to_arrays(const State& state, const Happens& happens) {
    const auto jobs = std::max<std::uint64_t>(1, state.counters().jobs);
    const JobId job{1 + static_cast<std::uint64_t>(happens.which) % jobs};
    switch (happens.what % 7) {
        case 0:
        case 1: {
            auto asked = test::job("j" + std::to_string(happens.which % 9)).count(1 + happens.much % 4);
            asked.submit.held = happens.which % 2 == 0;
            if (happens.much % 3 > 0) asked.submit.after.push_back("j" + std::to_string(happens.much % 9));
            if (happens.much % 3 > 1) asked.submit.after.push_back("j" + std::to_string(happens.much % 7));
            return asked.submit;
        }
        case 2:
            return Cancel{job};
        case 3:
            return Hold{job, happens.much % 4 == 0};
        case 5: {
            Edit edit{job, {}, {}, {}, std::vector<std::string>{}};
            for (auto left = happens.much % 3; left > 0; --left) {
                edit.after->push_back("j" + std::to_string((happens.much + left) % 9));
            }
            return edit;
        }
        case 4: {
            const auto* attempt = some<Attempt>(state, happens.which, [](const Attempt&) { return true; });
            if (attempt == nullptr) return Due{};
            const Exit exit{ExitKind::exited, happens.much % 4 == 0 ? 1 : 0, ""};
            return RanksEnded{attempt->id, attempt->parts.front().node, attempt->generation, exit, false, -1, 0};
        }
        default:
            return Pass{false, false, happens.much % 3};
    }
}

/// Nobody waits for what cannot succeed any more; the log folds to the same State; and all of it can be taken back.
RC_GTEST_PROP(History, ArraysAfterArraysGoTogether, ()) {
    const auto history = *histories();
    Settings settings;
    settings.max_finished = 4;
    auto given = Given{settings}.node("n1", 3);
    const auto before = given.state().rows();
    const auto derived = given.state().derived_text();
    Core other{*State::from_rows(before)};
    for (const auto& happens : history) {
        const auto input = input_to_arrays(given.state(), happens);
        given.decide_now(input);
        (void)decide(other, given.now(), input);
        given.state().table<Spec>().for_each([&](const Spec& array) {
            if (given.state().failed(array.first) == 0) return;
            for (const auto dependent : given.state().dependents_of(array.first)) {
                const auto& behind = given.state().at<Spec>(dependent);
                for (auto id = behind.first; id.value < behind.first.value + static_cast<unsigned>(behind.count);
                     ++id.value) {
                    const auto* job = given.state().find<Job>(id);
                    // Not inside the macro: that takes || apart and evaluates both sides.
                    const bool gone = job == nullptr || std::holds_alternative<Finished>(job->phase);
                    RC_ASSERT(gone);
                }
            }
        });
    }
    given.pass();
    (void)decide(other, given.now(), Pass{});
    RC_CLASSIFY(given.times("dropped") > 2, "dropped");
    State folded;
    for (const auto& entry : given.log()) evolve(folded, entry.at, entry.fact);
    RC_ASSERT(folded.rows() == given.state().rows());
    RC_ASSERT(folded.derived_text() == given.state().derived_text());
    RC_ASSERT(other.state().rows() == given.state().rows());
    other.undo_to({});
    RC_ASSERT(other.state().rows() == before);
    RC_ASSERT(other.state().derived_text() == derived);
    RC_ASSERT_FALSE(::testing::Test::HasFailure());
}

/// Derived data may change what a decision costs, never its result: two cores decide the same history, and one of them
/// loses its derived data, with all that it remembers, again and again.
void decide_alike(Given given, const std::vector<Happens>& history) {
    Core other{*State::from_rows(given.state().rows())};
    std::size_t known = given.log().size();
    const auto decide_in_both = [&](const Input& input) {
        given.decide_now(input);
        (void)decide(other, given.now(), input);
        std::string ours;
        std::string theirs;
        for (; known < given.log().size(); ++known) {
            ours += std::string{fact_names[given.log()[known].fact.index()]} + ' ';
            json_text(ours, given.log()[known].fact);
        }
        for (const auto& fact : other.batch()) {
            theirs += std::string{fact_names[fact.index()]} + ' ';
            json_text(theirs, fact);
        }
        ASSERT_EQ(ours, theirs);
        other.commit();
        ASSERT_EQ(other.state().derived_text(), given.state().derived_text());
    };
    for (const auto& happens : history) {
        decide_in_both(input_of(given.state(), happens));
        if (happens.much % 5 == 0) other = Core{*State::from_rows(other.state().rows())};
        if (happens.much % 3 == 0) given.wait(seconds{happens.much % 40});
        if (happens.much % 4 == 0) decide_in_both(Due{});
        if (happens.much % 2 == 0) decide_in_both(Pass{});
        if (::testing::Test::HasFailure()) return;
    }
}

RC_GTEST_PROP(History, IsDecidedAlikeWithDerivedDataBuiltAnew, ()) {
    const auto history = *histories();
    decide_alike(some_fleet(), history);
    RC_ASSERT_FALSE(::testing::Test::HasFailure());
}

/// An element that holds the reservation and is not the oldest of its array any more was noted each time it was tried
/// beside the oldest, and with it the array's reason went to and fro.
TEST(History, AnArraysReasonStaysThatOfItsOldest) {
    decide_alike(small_fleet(), {{0, 0, 0},
                                 {12, 178, 0},
                                 {13, 0, 11},
                                 {21, 3, 0},
                                 {0, 401, 0},
                                 {0, 0, 273},
                                 {22, 0, 3},
                                 {28, 0, 0},
                                 {14, 143, 804},
                                 {0, 0, 0}});
}

/// Given compares each refusal, numbers and all, with what explain says first of the State in which it was decided. As
/// long as nothing but refusals has happened since, people are shown the same.
RC_GTEST_PROP(History, WhatIsRecordedIsWhatIsExplained, ()) {
    const auto history = *histories();
    auto given = some_fleet();
    for (const auto& happens : history) {
        given.decide_now(input_of(given.state(), happens));
        given.pass();
    }
    std::size_t compared = 0;
    const auto& log = given.log();
    for (auto entry = log.rbegin(); entry != log.rend(); ++entry) {
        const auto* blocked = std::get_if<BlockedBecause>(&entry->fact);
        if (blocked == nullptr || entry->at != given.now()) break;
        const auto reasons = explain(given.state(), given.now(), blocked->job);
        RC_ASSERT_FALSE(reasons.empty());
        RC_ASSERT(recorded_reason(given.state(), given.state().at<Job>(blocked->job)) == reasons.front());
        ++compared;
    }
    RC_CLASSIFY(compared > 0, "compared");
    RC_ASSERT_FALSE(::testing::Test::HasFailure());
}

/// Everything obeys and nothing goes wrong any more: what is told is done, and other work than services comes to its
/// end.
void calm_down(Given& given) {
    given.tenant("lab", 40).tenant("lab/nlp", 40);
    for (const auto* name : {"n1", "n2", "n3"}) {
        given.decide_now(ForeignFound{given.node_id(name), 0, {}, 0});
        given.decide_now(Drain{given.node_id(name), false});
        given.decide_now(NodeUp{given.state().at<Node>(given.node_id(name)).shape,
                                given.state().at<Node>(given.node_id(name)).boot});
    }
    const auto jobs = given.state().counters().jobs;
    for (std::uint64_t id = 1; id <= jobs; ++id) (void)given.decide_now(Hold{JobId{id}, false});
    given.state().table<Service>().for_each([&](const Service& service) {
        given.decide_now(
            ServiceDemand{service.first, true, 0, static_cast<std::int64_t>(service.first.value % 9), false});
    });
    given.pass();
    for (int round = 0; round < 40; ++round) {
        for (const auto& command : owed(given.state())) {
            if (const auto* run = std::get_if<RunRanks>(&command)) {
                given.decide_now(RanksRunning{run->attempt, run->node, run->generation});
            } else if (const auto* end = std::get_if<EndRanks>(&command)) {
                given.decide_now(RanksEnded{
                    end->attempt, end->node, end->generation, {ExitKind::exited, 0, ""}, true, -1, end->keep});
            } else if (const auto* tell = std::get_if<TellReplica>(&command)) {
                if (tell->what == Telling::sleep) {
                    given.decide_now(ReplicaAsleep{tell->attempt, true, tell->telling});
                } else {
                    given.decide_now(ReplicaReady{tell->attempt, tell->telling});
                }
            }
        }
        given.pass();
        if (round % 4 == 3 && round < 32) given.later(minutes{5});  // longer than the longest back-off
        for (std::uint64_t id = 1; id <= jobs && round < 30; ++id) {
            const auto* job = given.state().find<Job>(JobId{id});
            if (job == nullptr || is_replica(given.state(), *job)) continue;
            (void)given.decide_now(Cancel{JobId{id}});
        }
    }
}

/// As many serve as are wanted, or somebody could say what lacks.
RC_GTEST_PROP(History, ThenServicesHaveWhatTheyNeed, ()) {
    const auto history = *histories();
    auto given = some_fleet();
    for (const auto& happens : history) {
        given.decide_now(input_of(given.state(), happens));
        if (happens.much % 3 == 0) given.later(seconds{happens.much % 40});
    }
    calm_down(given);
    const auto& state = given.state();
    state.table<Service>().for_each([&](const Service& service) {
        std::int32_t left = 0;
        std::int32_t ready = 0;
        bool has_room = true;
        for (std::int32_t task = 0; task < service.spec.max; ++task) {
            const auto* job = state.find<Job>(JobId{service.first.value + static_cast<std::uint64_t>(task)});
            if (job == nullptr || std::holds_alternative<Finished>(job->phase)) continue;
            ++left;
            const auto* active = std::get_if<Active>(&job->phase);
            ready += active != nullptr && state.at<Attempt>(active->attempt).is_ready ? 1 : 0;
            if (job->wish == Wish::awake && active == nullptr) {
                has_room = has_room && room_for_replica(state, given.now(), *job).plan.has_value();
            }
        }
        const auto need = std::clamp(service.need, service.spec.min, service.spec.max);
        RC_ASSERT((left == 0 || service.awake >= need));
        RC_ASSERT((!has_room || ready == std::min(service.awake, left)));
    });
    RC_ASSERT_FALSE(::testing::Test::HasFailure());
}

/// One walk through most of what there is, as text. A change here is a change of behaviour or of the log's form.
TEST(Golden, TheLogOfOneDay) {
    Settings settings;
    settings.retention = minutes{30};
    auto given = Given{settings}.node("n1", 8, 0).node("n2", 8, 1);
    given.tenant("lab/nlp", 12, 2);
    given.running(job("train").gpus(2, 12).by("lab/nlp").grace(seconds{5})).later(minutes{5});
    given.waiting(job("sweep").count(2).by("lab/nlp")).waiting(job("report").after("sweep").by("lab/nlp"));
    given.waiting(job("serve").gpus(4).of(PriorityClass::serving)).leaves("train", 1000).runs("train");
    if (given.phase("serve") == "starting") given.runs("serve");
    given.later(minutes{1});
    given.loses("n2").later(seconds{2}).reboots("n2").later(seconds{10});
    given.waiting(job("wide").gpus(16).limit(minutes{10})).hold("wide");
    given.cancel("wide");
    given.later(minutes{45}).later(hours{1});
    const auto path = std::string{STARGATE_SOURCE_DIR} + "/tests/golden/core_one_day.txt";
    const auto text = given.log_text();
    if (std::getenv("STARGATE_UPDATE_GOLDEN") != nullptr) {
        std::ofstream{path} << text;
        return;
    }
    std::ifstream file{path};
    std::stringstream golden;
    golden << file.rdbuf();
    EXPECT_EQ(text, golden.str()) << "rewrite with STARGATE_UPDATE_GOLDEN=1 and review the difference like code";
}

}  // namespace
}  // namespace stargate::test
