#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cstdlib>
#include <fstream>
#include <sstream>

#include "core/given.hpp"

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
        rc::gen::map(rc::gen::tuple(rc::gen::inRange(0, 24), rc::gen::inRange(0, 1000), rc::gen::inRange(0, 1000)),
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
            return std::move(asked).after("j" + std::to_string(much % 7));
        default:
            return std::move(asked).gpus(1 + much % 8).host(cpus(1), gibibytes(1));
    }
}

Input input_of(const State& state, const Happens& happens) {
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

RC_GTEST_PROP(History, KeepsAllInvariants, ()) {
    const auto history = *histories();
    auto given = small_fleet();
    for (const auto& happens : history) {
        given.decide_now(input_of(given.state(), happens));
        if (happens.much % 3 == 0) given.later(seconds{happens.much % 40});
        RC_ASSERT_FALSE(::testing::Test::HasFailure());
    }
    given.pass();
    RC_ASSERT_FALSE(::testing::Test::HasFailure());
}

RC_GTEST_PROP(History, AnUndoneProbeLeavesNothingBehind, ()) {
    const auto history = *histories();
    const auto probe = *histories();
    auto given = small_fleet();
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

/// Derived data may change what a decision costs, never its result: two cores decide the same history, and one of them
/// loses its derived data, with all that it remembers, again and again.
RC_GTEST_PROP(History, IsDecidedAlikeWithDerivedDataBuiltAnew, ()) {
    const auto history = *histories();
    auto given = small_fleet();
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
        RC_ASSERT(ours == theirs);
        other.commit();
        RC_ASSERT(other.state().derived_text() == given.state().derived_text());
    };
    for (const auto& happens : history) {
        decide_in_both(input_of(given.state(), happens));
        if (happens.much % 5 == 0) other = Core{*State::from_rows(other.state().rows())};
        if (happens.much % 3 == 0) given.wait(seconds{happens.much % 40});
        if (happens.much % 4 == 0) decide_in_both(Due{});
        if (happens.much % 2 == 0) decide_in_both(Pass{});
    }
}

/// Given compares each refusal, numbers and all, with what explain says first of the State in which it was decided. As
/// long as nothing but refusals has happened since, people are shown the same.
RC_GTEST_PROP(History, WhatIsRecordedIsWhatIsExplained, ()) {
    const auto history = *histories();
    auto given = small_fleet();
    for (const auto& happens : history) {
        given.decide_now(input_of(given.state(), happens));
        given.pass();
    }
    std::size_t compared = 0;
    const auto& log = given.log();
    for (auto entry = log.rbegin(); entry != log.rend(); ++entry) {
        const auto* blocked = std::get_if<BlockedBecause>(&entry->fact);
        if (blocked == nullptr || entry->at != given.now()) break;
        if (blocked->why.why == Why::pass_bound) continue;
        const auto reasons = explain(given.state(), given.now(), blocked->job);
        RC_ASSERT_FALSE(reasons.empty());
        RC_ASSERT(recorded_reason(given.state(), given.state().at<Job>(blocked->job)) == reasons.front());
        ++compared;
    }
    RC_CLASSIFY(compared > 0, "compared");
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
