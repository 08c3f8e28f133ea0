#include "api/served_files.hpp"

#include <gtest/gtest.h>

#include <map>
#include <set>

#include "api/fake_control.hpp"
#include "api/json.hpp"
#include "api/routes.hpp"
#include "base/scratch_folder.hpp"

// The document says what the routes are; that replies are as it says is tests/e2e/openapi_test.py's.
namespace stargate::api {
namespace {

const Json& document() {
    static const Json whole = *parse_json(openapi_text);
    return whole;
}

/// `/api/v1/jobs/{ref}` as the routes write it. A tenant's path has slashes in it.
std::string as_route(std::string_view path) {
    std::string route;
    for (std::size_t at = 0; at < path.size(); ++at) {
        if (path[at] != '{') {
            route += path[at];
            continue;
        }
        const auto end = path.find('}', at);
        route += path.substr(at, end - at + 1) == "{path}" ? "**" : "*";
        at = end;
    }
    return route;
}

std::string upper(std::string text) {
    for (auto& c : text) c = static_cast<char>(std::toupper(c));
    return text;
}

/// Calls with each operation: `GET`, its path, and itself.
template <class Visit>
void each_operation(Visit visit) {
    for (const auto& path : document()["paths"].members) {
        for (const auto& operation : path.value.members) visit(upper(operation.name), path.name, operation.value);
    }
}

TEST(OpenApi, HasTheRoutesAndNoOthers) {
    std::set<std::string> documented;
    each_operation([&](const std::string& method, const std::string& path, const Json&) {
        EXPECT_TRUE(documented.insert(method + " " + as_route(path)).second) << path;
    });
    std::set<std::string> routes{"GET /healthz"};  // answered to who is not known, before any route is asked
    for (const auto& route : Api::all_routes()) routes.insert(route.method + " " + route.path);
    EXPECT_EQ(documented, routes);
}

/// A parameter as one text, as the document and as the route have it.
std::string words_of(const Json& schema) {
    std::string text = schema["type"].text;
    for (const auto& word : schema["enum"].items) text += " " + word.text;
    for (const auto* bound : {"minimum", "maximum"}) {
        if (const auto* value = schema.find(bound)) text += " " + value->word();
    }
    return text;
}

std::string words_of(const Parameter& parameter) {
    switch (parameter.kind) {
        case Parameter::Kind::text:
            return "string";
        case Parameter::Kind::flag:
            return "string 1 true 0 false";
        case Parameter::Kind::whole:
            return "integer " + std::to_string(parameter.least) +
                   (parameter.most == any_number ? "" : " " + std::to_string(parameter.most));
        case Parameter::Kind::word:
            break;
    }
    std::string text = "string";
    for (const auto word : parameter.words) text += " " + std::string{word};
    return text;
}

using Parameters = std::map<std::string, std::string>;

TEST(OpenApi, HasWhatEachRouteTakes) {
    std::map<std::string, Parameters> documented;
    each_operation([&](const std::string& method, const std::string& path, const Json& operation) {
        auto& taken = documented[method + " " + as_route(path)];
        for (const auto& parameter : operation["parameters"].items) {
            if (parameter["in"].text == "query") taken[parameter["name"].text] = words_of(parameter["schema"]);
        }
    });
    for (const auto& route : Api::all_routes()) {
        Parameters taken;
        for (const auto& parameter : route.takes) taken[std::string{parameter.name}] = words_of(parameter);
        EXPECT_EQ(documented[route.method + " " + route.path], taken) << route.method << " " << route.path;
    }
}

/// Whether all that is referred to within `json` is there.
void follow_references(const Json& json) {
    if (const auto* reference = json.find("$ref")) {
        const auto* at = &document();
        std::string_view rest = reference->text;
        ASSERT_EQ(rest.substr(0, 2), "#/") << rest;
        rest.remove_prefix(2);
        while (at != nullptr && !rest.empty()) {
            const auto end = std::min(rest.find('/'), rest.size());
            at = at->find(rest.substr(0, end));
            rest.remove_prefix(std::min(end + 1, rest.size()));
        }
        EXPECT_NE(at, nullptr) << reference->text;
    }
    for (const auto& item : json.items) follow_references(item);
    for (const auto& member : json.members) follow_references(member.value);
}

TEST(OpenApi, RefersToWhatIsThere) { follow_references(document()); }

TEST(OpenApi, NamesEachOperationOnceAndAllItsPathsParameters) {
    std::set<std::string> names;
    each_operation([&](const std::string&, const std::string& path, const Json& operation) {
        EXPECT_TRUE(names.insert(operation["operationId"].text).second) << path;
        EXPECT_FALSE(operation["summary"].text.empty()) << path;
        std::set<std::string> given;
        for (const auto& parameter : operation["parameters"].items) given.insert(parameter["$ref"].text);
        for (auto at = path.find('{'); at != std::string::npos; at = path.find('{', at + 1)) {
            const auto name = path.substr(at + 1, path.find('}', at) - at - 1);
            EXPECT_TRUE(given.contains("#/components/parameters/" + name)) << path;
        }
    });
}

TEST(OpenApi, IsServed) {
    const ScratchFolder folder;
    FakeControl control;
    auto tokens = Tokens::open(folder.path());
    ASSERT_TRUE(tokens);
    Api api{control, *tokens, {}};
    Request request;
    request.method = "GET";
    request.target = *Target::parse("/openapi.json");
    Reply reply;
    api.handle(request, [&](const Api::Outcome& outcome) { reply = std::get<Reply>(made(outcome)); });
    EXPECT_EQ(reply.status, 200);
    EXPECT_EQ(reply.body, openapi_text);
    EXPECT_EQ(reply.type, "application/json");
}

}  // namespace
}  // namespace stargate::api
