#pragma once

#include <cstdint>
#include <limits>
#include <string>

namespace CLI {
class App;
class Error;
class Option;
}  // namespace CLI

namespace stargate::cli {

/// What is wrong with a command line, as one sentence with its remedy: `stargate VERB: what; remedy`.
std::string complaint(const CLI::App* app, const CLI::Error& error);

/// The option takes a whole number of that range and nothing else.
void check_whole(CLI::Option* option, std::int64_t least, std::int64_t most = std::numeric_limits<std::int64_t>::max());

/// The option takes ADDRESS:PORT, the address in numbers or `localhost`, and nothing else; or nothing at all.
/// example  what is right, for who is not
void check_address(CLI::Option* option, const std::string& example);

}  // namespace stargate::cli
