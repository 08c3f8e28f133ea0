#pragma once

#include <string>
#include <vector>

#include "api/json.hpp"
#include "base/result.hpp"
#include "cli/client.hpp"

namespace stargate::cli {

/// What `stargate run` was asked.
struct RunOptions {
    std::string state;
    std::vector<std::string> command;
    std::string gpus = "1";
    int count = 1;
    std::vector<std::pair<std::string, std::string>> more;  // further members of the request, as name, priority, time
};

/// Submits the command from this folder, passes its output on as it comes, and returns its exit status, the worst of
/// an array's. Standard output holds nothing but the command's own. The first Ctrl-C cancels, the second leaves. A
/// control plane that goes away meanwhile is waited for, and the output goes on where it broke off.
int run(const RunOptions& options);

/// The members that every submit carries: the caller's environment. Fault::malformed where it is not UTF-8.
Result<std::string> environment_json();

/// The folder that we are in. Fault::malformed where it cannot be named to others.
Result<std::string> callers_folder();

/// Posts what must be done once, under a key of its own: where the reply breaks off, or the control plane goes down
/// meanwhile, it is asked for again until one is there to tell. The error says so when it may have been accepted all
/// the same.
Result<HttpReply> post_once(const std::string& state, const std::string& target, const std::string& body);

/// A failure on this side as a sentence, and the exit status that goes with it.
int fail_with(const Error& error);

/// An error reply as a sentence with its remedy, and the exit status that goes with it. What begins with a place in
/// `file`, as `train.yaml:3: gpus: ...`, is said as it is, for editors.
int explain_failure(int status, const std::string& body, const std::string& file = {});

}  // namespace stargate::cli
