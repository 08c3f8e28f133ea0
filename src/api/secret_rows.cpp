#include "api/secret_rows.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include "base/file.hpp"

namespace stargate::api {

Result<void> read_secret_rows(const std::string& file, Bytes most, const std::string& remedy,
                              const std::function<bool(const Digest&, std::istringstream&)>& take) {
    if (access(file.c_str(), F_OK) != 0) return {};
    const auto text = read_file(file, most);
    if (!text) return tl::unexpected<Error>(text.error());
    std::istringstream lines{*text};
    int number = 0;
    for (std::string line; std::getline(lines, line);) {
        ++number;
        std::istringstream words{line};
        std::string digest;
        std::string more;
        words >> digest;
        const auto read = digest_from_hex(digest);
        const bool is_whole = read && !lines.eof() && take(*read, words) && !(words >> more);
        if (is_whole) continue;
        return fail(Fault::malformed, fmt::format("{}:{} is damaged; remove that line and {}", file, number, remedy));
    }
    return {};
}

}  // namespace stargate::api
