#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

#include "core/given.hpp"

// Logs and snapshots of every schema that was ever released, in their binary form: each version of Stargate must open
// them. The files are written once, by STARGATE_UPDATE_GOLDEN=1 where one is not there, and never again: what no longer
// reads one breaks the logs that people have. A new type of fact gets a further file.
//   fact TYPE HEX JSON   an entry of the log and what it says
//   rows HEX             State after all of them, as a snapshot holds it
namespace stargate::test {
namespace {

const std::filesystem::path folder = std::filesystem::path{STARGATE_SOURCE_DIR} / "tests/golden";

std::string to_hex(std::string_view bytes) {
    std::string out;
    for (const char c : bytes) {
        const auto byte = static_cast<unsigned char>(c);
        out += "0123456789abcdef"[byte >> 4];
        out += "0123456789abcdef"[byte & 15];
    }
    return out;
}

std::string from_hex(std::string_view hex) {
    std::string out;
    for (std::size_t i = 0; i + 1 < hex.size(); i += 2) {
        out += static_cast<char>(std::stoi(std::string{hex.substr(i, 2)}, nullptr, 16));
    }
    return out;
}

/// Whether `now` says all that `then` did. Members that were appended since may stand at the end of each object.
bool says_all_of(std::string_view now, std::string_view then) {
    std::size_t at = 0;
    for (const char c : then) {
        if (c == '}' && at < now.size() && now[at] != '}') {
            if (now[at] != ',' && now[at] != '"') return false;
            bool in_text = false;
            for (int depth = 0; at < now.size() && (in_text || depth > 0 || now[at] != '}'); ++at) {
                if (now[at] == '"' && now[at - 1] != '\\') in_text = !in_text;
                if (in_text) continue;
                if (now[at] == '{' || now[at] == '[') ++depth;
                if (now[at] == '}' || now[at] == ']') --depth;
            }
        }
        if (at >= now.size() || now[at] != c) return false;
        ++at;
    }
    return at == now.size();
}

std::string json_of(const LogEntry& entry) {
    std::string out = R"({"at":)" + std::to_string(entry.at.time_since_epoch().count()) + R"(,"cause":")" +
                      std::string{input_names[entry.cause]} + R"(","fact":)";
    json_text(out, entry.fact);
    return out + "}";
}

/// A history that causes every type of fact of schema 1.
Given everything_that_happens() {
    Settings settings;
    settings.retention = minutes{30};
    settings.quiet_period = seconds{3};
    auto given = Given{settings}.node("n1", 8, 0).node("n2", 8, 1);
    given.tenant("lab/nlp", 12, 2);
    given.running(job("short").gpus(16).limit(minutes{1})).waiting(job("next").gpus(16)).later(minutes{2});
    given.leaves("short");
    given.cancel("next");
    if (given.phase("next") == "stopping") given.leaves("next");
    given.running(job("first").gpus(16).of(PriorityClass::opportunistic));
    given.waiting(job("late").gpus(16).of(PriorityClass::production));
    given.later(minutes{2});  // the claim's deadline, before the first has left
    given.leaves("first");
    if (given.phase("first") != "waiting") given.leaves("first");
    given.cancel("first");
    given.cancel("late");
    if (given.phase("late") == "stopping") given.leaves("late");
    given.running(job("train").gpus(2, 8).by("lab/nlp").in_place().grace(seconds{5}));
    given.decide_now(Progress{given.attempt("train").id, 40});
    given.later(minutes{1});
    given.resize("train", 4);
    given.leaves("train", 50).runs("train").later(seconds{4});
    given.resize("train", 0);
    for (int i = 0; i < 3 && given.times("growth_planned") == 0; ++i) given.later(seconds{4});
    given.later(minutes{1});
    if (given.phase("train") == "stopping") given.leaves("train", 60).runs("train");
    given.running(job("part").share(300).host(cpus(2), gibibytes(1)));
    given.waiting(job("urgent").gpus(6).of(PriorityClass::production).host(cpus(1)));
    given.waiting(job("wide").gpus(16).limit(minutes{10})).hold("wide");
    given.hold("wide", false);
    given.waiting(job("report").after("urgent").count(2).retries(1));
    given.leaves("train", 70);
    if (given.phase("urgent") == "starting") given.runs("urgent");
    given.cancel("wide");
    given.loses("n2").later(seconds{2}).reboots("n2").later(seconds{10});
    given.decide_now(Drain{given.node_id("n2"), true});
    given.decide_now(Drain{given.node_id("n2"), false});
    if (given.phase("urgent") == "starting") given.runs("urgent");
    if (given.phase("urgent") == "running") given.ends("urgent");
    given.waiting(job("low").gpus(2).of(PriorityClass::opportunistic).limit(hours{2}));
    given.waiting(job("claims").gpus(16).of(PriorityClass::serving)).later(minutes{5});
    given.cancel("claims");
    given.decide_now(ForeignFound{given.node_id("n2"), GpuMask{1} << 7, {AttemptId{900}}, 1});
    given.waiting(job("last")).later(hours{1});
    return given;
}

/// And every type that services brought.
Given a_service_lends_and_returns() {
    Given given;
    given.node("n", 3);
    given.running(job("train").gpus(1, 2));
    given.waiting(service("chat", {1, 2, 1, 8}));
    for (int round = 0; round < 6; ++round) {
        given.replicas_obey("chat");
        if (given.phase("train") == "stopping") given.leaves("train", round);
        if (given.phase("train") == "starting") given.runs("train");
        given.later(seconds{4});
    }
    given.demand("chat", 20, 8, true);
    given.leaves("train", 70).replicas_obey("chat").runs("train");
    given.demand("chat", 0, 1);
    given.later(seconds{6}).replicas_obey("chat");
    given.demand("chat", 0, 5, true).demand("chat", 0, 1);
    given.demand("chat", 20, 8, true);
    if (given.phase("train") == "stopping") given.leaves("train", 80);
    given.replicas_obey("chat");
    given.demand("chat", 0, 1).later(seconds{6});
    for (const auto& command : owed(given.state())) {
        const auto* tell = std::get_if<TellReplica>(&command);
        if (tell != nullptr && tell->what == Telling::sleep)
            given.decide_now(ReplicaAsleep{tell->attempt, false, tell->telling});
    }
    given.pass();
    std::vector<Attempt> serving;
    given.state().table<Attempt>().for_each([&](const Attempt& one) {
        if (one.is_ready && !one.ending) serving.push_back(one);
    });
    given.decide_now(ReplicaFailed{serving.front().id, serving.front().tellings, "it does not answer"});
    given.pass();
    return given;
}

/// A pass that is cut off.
Given more_waits_than_a_pass_tries() {
    Settings settings;
    settings.pass_steps = 1;
    auto given = Given{settings}.node("n", 1);
    for (int gpus = 2; gpus < 5; ++gpus)
        given.decide_now(job("s" + std::to_string(gpus)).gpus(1).host(cpus(gpus)).submit);
    given.pass();
    return given;
}

/// And what is said of servers that run elsewhere.
Given endpoints_are_held_and_released() {
    Given given;
    given.node("n", 1).tenant("lab/nlp", 0);
    given.waiting(external("gpt", {{"127.0.0.1", 8000}, {"gpu-7.lab", 8001}, {"fe80::1", 65535}}).by("lab/nlp"));
    given.waiting(external("other").held());
    given.hold("gpt");
    given.hold("other", false);
    given.hold("gpt", false);
    given.cancel("other");
    return given;
}

/// A woken replica answers, on GPUs that a resize has let go of for it.
Given a_borrower_answers() {
    Given given;
    given.node("n", 3).running(job("train").gpus(1, 2)).waiting(service("chat", {1, 2, 1, 8}));
    for (int round = 0; round < 6; ++round) {
        given.replicas_obey("chat");
        if (given.phase("train") == "stopping") given.leaves("train", round);
        if (given.phase("train") == "starting") given.runs("train");
        given.later(seconds{4});
    }
    given.demand("chat", 20, 8, true).leaves("train", 70).replicas_obey("chat").runs("train");
    std::vector<Attempt> serving;
    given.state().table<Attempt>().for_each([&](const Attempt& one) {
        if (one.is_ready) serving.push_back(one);
    });
    for (const auto& one : serving) given.decide_now(ReplicaAnswered{one.id, one.tellings});
    return given;
}

/// People change what they asked for, and attempts end in all the ways that a job's account tells apart.
Given edits_and_accounts() {
    auto given = Given{}.node("n1", 4).node("n2", 4, 1);
    given.running(job("train").gpus(1, 4).retries(2)).waiting(job("next").gpus(8)).waiting(job("report").after("next"));
    given.wait(seconds{10});
    given.decide_now(Progress{given.attempt("train").id, 5});
    Edit of_running{given.id("train")};
    of_running.priority = PriorityClass::opportunistic;
    of_running.time_limit = hours{2};
    of_running.gpus = GpuRange{GpuCount{2}, GpuCount{6}};
    given.ask(of_running);
    Edit of_waiting{given.id("report")};
    of_waiting.after = std::vector<std::string>{"train"};
    given.ask(of_waiting);
    if (given.phase("train") == "stopping") given.leaves("train", 6);
    if (given.phase("train") == "starting") given.runs("train");
    if (given.phase("next") == "starting") given.runs("next").wait(seconds{3}).ends("next", 1);
    given.later(seconds{5});
    if (given.phase("train") == "starting") given.runs("train");
    given.wait(seconds{7}).reboots("n1").later(seconds{2});
    return given;
}

/// Tokens ask for more than requests do.
Given tokens_wake_a_replica() {
    Given given;
    given.node("n", 3).waiting(service("chat", {1, 3, 1, 8})).replicas_obey("chat");
    given.tokens("chat", 6, 900, 400).replicas_obey("chat").tokens("chat", 2, 100, 400).later(seconds{6});
    given.replicas_obey("chat");
    return given;
}

/// An array that comes after arrays, one of which has left State in part.
Given arrays_come_after_arrays() {
    Settings settings;
    settings.max_finished = 1;
    auto given = Given{settings}.node("n", 4);
    given.waiting(job("shards").count(3)).runs("shards[0]").runs("shards[1]").runs("shards[2]");
    given.waiting(job("index")).runs("index").ends("shards[0]").later(seconds{1}).ends("shards[1]").later(seconds{1});
    given.waiting(job("merge").count(2).after("shards").after("index"));
    given.ends("shards[2]").ends("index");
    given.waiting(job("report").after("merge")).runs("merge[0]").ends("merge[0]", 1);
    return given;
}

void write_golden(const std::filesystem::path& path, const Given& given) {
    std::ofstream file{path};
    for (const auto& entry : given.log()) {
        file << "fact " << fact_names[entry.fact.index()] << ' '
             << to_hex(encode_entry(entry.at, entry.cause, entry.fact)) << ' ' << json_of(entry) << '\n';
    }
    file << "rows " << to_hex(given.state().rows()) << '\n';
}

std::vector<std::filesystem::path> golden_logs() {
    std::vector<std::filesystem::path> found;
    for (const auto& entry : std::filesystem::directory_iterator{folder}) {
        if (entry.path().filename().string().starts_with("log_v")) found.push_back(entry.path());
    }
    return found;
}

TEST(GoldenLog, IsReadAsItWasWritten) {
    if (std::getenv("STARGATE_UPDATE_GOLDEN") != nullptr) {
        const auto write_once = [](const char* name, const Given& given) {
            if (!std::filesystem::exists(folder / name)) write_golden(folder / name, given);
        };
        write_once("log_v1.txt", everything_that_happens());
        write_once("log_v1_services.txt", a_service_lends_and_returns());
        write_once("log_v1_passes.txt", more_waits_than_a_pass_tries());
        write_once("log_v1_endpoints.txt", endpoints_are_held_and_released());
        write_once("log_v1_tokens.txt", tokens_wake_a_replica());
        write_once("log_v1_arrays.txt", arrays_come_after_arrays());
        write_once("log_v1_answers.txt", a_borrower_answers());
        write_once("log_v1_edits.txt", edits_and_accounts());
    }
    std::set<std::string> covered;
    for (const auto& path : golden_logs()) {
        SCOPED_TRACE(path.filename());
        State state;
        std::ifstream file{path};
        int number = 0;
        for (std::string line; std::getline(file, line);) {
            SCOPED_TRACE("line " + std::to_string(++number));
            std::istringstream words{line};
            std::string kind, type, hex, text;
            words >> kind;
            if (kind == "rows") {
                words >> hex;
                const auto then = State::from_rows(from_hex(hex));
                ASSERT_TRUE(then) << "a snapshot of this schema is no longer read";
                EXPECT_EQ(to_hex(then->rows()), to_hex(state.rows())) << "the log folds to another State";
                EXPECT_EQ(then->derived_text(), state.derived_text());
                continue;
            }
            words >> type >> hex;
            std::getline(words >> std::ws, text);
            const auto entry = decode_entry(from_hex(hex));
            ASSERT_TRUE(entry) << type << " is no longer read";
            ASSERT_EQ(fact_names[entry->fact.index()], type);
            const auto now = json_of(*entry);
            ASSERT_TRUE(says_all_of(now, text)) << "now:  " << now << "\nthen: " << text;
            evolve(state, entry->at, entry->fact);
            covered.insert(type);
        }
        EXPECT_FALSE(broken(state)) << *broken(state);
        EXPECT_GT(number, 1);
    }
    for (const auto name : fact_names) EXPECT_TRUE(covered.contains(std::string{name})) << name << " is in no file";
}

TEST(GoldenLog, MayOnlyGainMembersAtTheEnd) {
    EXPECT_TRUE(says_all_of(R"({"a":1,"b":{"c":"}"}})", R"({"a":1,"b":{"c":"}"}})"));
    EXPECT_TRUE(says_all_of(R"({"a":1,"b":{"c":[],"d":{"e":"}"}},"f":2})", R"({"a":1,"b":{"c":[]}})"));
    EXPECT_FALSE(says_all_of(R"({"b":2,"a":1})", R"({"a":1,"b":2})"));
    EXPECT_FALSE(says_all_of(R"({"a":1})", R"({"a":1,"b":2})"));
    EXPECT_FALSE(says_all_of(R"({"a":12})", R"({"a":1})"));
}

}  // namespace
}  // namespace stargate::test
