#pragma once

#include <functional>

namespace CLI {
class App;
}

/// The verbs that are more than a request to a control plane: each adds itself and puts what it does into `action`.
namespace stargate {

void add_up(CLI::App& app, std::function<int()>& action);
void add_down(CLI::App& app, std::function<int()>& action);
void add_doctor(CLI::App& app, std::function<int()>& action);
void add_twin(CLI::App& app, std::function<int()>& action);
void add_follower(CLI::App& app, std::function<int()>& action);

}  // namespace stargate
