#pragma once

#include <functional>
#include <string>

#include "base/result.hpp"

namespace CLI {
class App;
}

/// The verbs that are more than a request to a control plane: each adds itself and puts what it does into `action`.
namespace stargate {

/// A verb of `app`, whose help ends with an example.
CLI::App* add_verb(CLI::App& app, const char* name, const char* what, const char* example);

/// Says what failed, and returns the exit status that goes with it.
int say_failed(const Error& error);

void add_up(CLI::App& app, std::function<int()>& action);
void add_down(CLI::App& app, std::function<int()>& action);
void add_doctor(CLI::App& app, std::function<int()>& action);
void add_twin(CLI::App& app, std::function<int()>& action);
void add_mock_engine(CLI::App& app, std::function<int()>& action);
void add_bench_serve(CLI::App& app, std::function<int()>& action);
void add_gateway(CLI::App& app, std::function<int()>& action);
void add_follower(CLI::App& app, std::function<int()>& action);

}  // namespace stargate
