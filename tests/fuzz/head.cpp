#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "api/frame.hpp"
#include "api/request_reader.hpp"
#include "api/served_files.hpp"
#include "base/file.hpp"
#include "base/scratch_folder.hpp"

namespace {

using namespace stargate;

/// What the owner's token is in this process; the corpus writes it so.
constexpr std::string_view token = "sg_00000000000000000000000000000000";

const api::Tokens& tokens() {
    static const ScratchFolder folder;
    static const auto tokens = [] {
        (void)write_durably(folder.path() + "/token", std::string{token} + "\n");
        return std::move(*api::Tokens::open(folder.path()));
    }();
    return tokens;
}

bool has(std::string_view text, std::string_view part) { return text.find(part) != std::string_view::npos; }

/// Reads one request off the front of `bytes` as the server does over TCP; false when the connection is over.
bool serve_one(std::string_view& bytes) {
    using Stage = api::RequestReader::Stage;
    api::RequestReader reader;
    const auto whole = bytes;
    const auto read = [&](Stage until) {
        while (reader.stage() < until && !bytes.empty()) {
            const auto used = reader.put(bytes);
            if (used == 0 && reader.stage() < until) return false;  // the rest has not come
            bytes.remove_prefix(used);
        }
        return reader.stage() >= until;
    };
    if (!read(Stage::body)) return false;
    if (reader.stage() == Stage::broken) {
        if (reader.complaint()->status < 400 || reader.complaint()->status >= 500) std::abort();
        return false;
    }
    const auto head = whole.substr(0, whole.size() - bytes.size());
    api::Caller caller;
    if (const auto refusal = reader.turn_away(std::nullopt, tokens(), caller)) {
        const bool is_open_to_all = refusal->body == "ok\n" || refusal->body == api::page_html ||
                                    refusal->body == api::page_css || refusal->body == api::page_js;
        if (!is_open_to_all && refusal->status != 400 && refusal->status != 401 && refusal->status != 403) std::abort();
        return reader.stage() == Stage::done && reader.keeps_alive();
    }
    // Nobody comes in without the token and this machine's name.
    if (!caller.is_operator || caller.is_local || !has(head, token)) std::abort();
    if (!has(head, "127.") && !has(head, "localhost") && !has(head, "[::1]")) std::abort();
    // Where the body ends must have one answer.
    if (reader.has_two_ends()) std::abort();
    if (!read(Stage::done) || reader.stage() == Stage::broken) return false;
    const bool keeps_alive = reader.keeps_alive();
    const auto request = reader.take(caller);
    if (request && (request->target.path.empty() || request->body.size() > api::max_body_bytes)) std::abort();
    return keeps_alive;
}

}  // namespace

/// Any bytes of a TCP connection: pipelined requests are read one after the other until one ends the connection.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    std::string_view bytes{reinterpret_cast<const char*>(data), size};
    while (!bytes.empty() && serve_one(bytes)) {}
    return 0;
}
