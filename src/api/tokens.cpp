#include "api/tokens.hpp"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "api/secret_rows.hpp"
#include "base/file.hpp"

namespace stargate::api {

namespace {

constexpr Bytes most_token_bytes{1 << 20};

std::string fresh_token() { return "sg_" + hex_of(random_bytes()) + hex_of(random_bytes()); }

Result<std::string> owner_token(const std::string& file) {
    if (access(file.c_str(), F_OK) != 0) {
        const auto written = write_durably(file, fresh_token() + "\n");  // for the owner's eyes: made with mode 0600
        if (!written) return tl::unexpected<Error>(written.error());
    }
    auto token = read_file(file, most_token_bytes);
    struct stat status {};
    if (token && ::stat(file.c_str(), &status) == 0 && (status.st_mode & 077U) != 0) {
        return fail(Fault::denied,
                    fmt::format("others than its owner can open {}, and with it all there is; remove it, "
                                "and the next start makes a new one",
                                file));
    }
    while (token && !token->empty() && token->back() == '\n') token->pop_back();
    if (token && token->size() < 32) {
        return fail(Fault::malformed, file + " holds no token; remove it and start again to get a new one");
    }
    return token;
}

}  // namespace

Result<Tokens> Tokens::open(const std::string& state_folder) {
    Tokens tokens;
    tokens.file_ = state_folder + "/tokens";
    const auto owner = owner_token(state_folder + "/token");
    if (!owner) return tl::unexpected<Error>(owner.error());
    tokens.owner_ = digest_of(*owner);
    const auto read =
        read_secret_rows(tokens.file_, most_token_bytes, "make a new token in its place: stargate token create",
                         [&](const Digest& digest, std::istringstream& words) {
                             Row row;
                             row.digest = digest;
                             words >> row.uid >> row.is_operator >> row.name;
                             tokens.rows_.push_back(row);
                             return !words.fail();
                         });
    if (!read) return tl::unexpected<Error>(read.error());
    return tokens;
}

std::optional<Caller> Tokens::caller_of(std::string_view token) const {
    // Digests are compared, so timing tells nothing about the token.
    const auto digest = digest_of(token);
    if (digest == owner_) return Caller{geteuid(), true, false, {}};
    for (const auto& row : rows_) {
        if (row.digest == digest) return Caller{row.uid, row.is_operator, false, id_of(row)};
    }
    return std::nullopt;
}

std::string Tokens::id_of(const Row& row) { return hex_of(row.digest).substr(0, 12); }

bool Tokens::is_good(const std::string& id) const {
    return std::any_of(rows_.begin(), rows_.end(), [&](const Row& row) { return id_of(row) == id; });
}

std::vector<Tokens::Shown> Tokens::all() const {
    std::vector<Shown> shown;
    for (const auto& row : rows_) shown.push_back({id_of(row), row.name, row.uid, row.is_operator});
    return shown;
}

Result<void> Tokens::revoke(const std::string& id) {
    const auto kept = rows_;
    std::erase_if(rows_, [&](const Row& row) { return id_of(row) == id; });
    if (rows_.size() == kept.size()) return fail(Fault::not_found, "there is no token `" + id + "`");
    auto saved = save();
    if (!saved) rows_ = kept;
    return saved;
}

Result<std::string> Tokens::make(const std::string& name, std::uint32_t uid, bool is_operator) {
    constexpr std::size_t most = 1'000;  // read at every start, compared at every request
    if (rows_.size() >= most)
        return fail(Fault::full, "there are 1,000 tokens already; revoke some: stargate token list");
    auto token = fresh_token();
    rows_.push_back({digest_of(token), name, uid, is_operator});
    if (auto saved = save(); !saved) {
        rows_.pop_back();
        return tl::unexpected<Error>(saved.error());
    }
    return token;
}

Result<void> Tokens::save() const {
    std::string text;
    for (const auto& row : rows_) {
        text += fmt::format("{} {} {} {}\n", hex_of(row.digest), row.uid, row.is_operator ? 1 : 0, row.name);
    }
    return write_durably(file_, text);
}

}  // namespace stargate::api
