#pragma once

#include <algorithm>
#include <boost/describe.hpp>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "base/units.hpp"

namespace stargate {

/// How far a job is shut in. `none` needs the operator's leave; `strict` adds a read-only root and no network.
enum class Sandbox : std::uint8_t { none, standard, strict };  // `standard` is written `default` in job files
BOOST_DESCRIBE_ENUM(Sandbox, none, standard, strict)

/// A folder of the host made visible to the job at `target`.
struct Mount {
    std::string source;
    std::string target;
    bool read_only = false;
    friend bool operator==(const Mount&, const Mount&) = default;
};
BOOST_DESCRIBE_STRUCT(Mount, (), (source, target, read_only))

/// The Unix account that a job runs as: resolved once, at submit, by the process that may ask the account database.
struct Account {
    std::uint32_t uid = 0;
    std::uint32_t gid = 0;
    std::vector<std::uint32_t> groups;
    std::string name;
    std::string home;
    std::string shell;
    friend bool operator==(const Account&, const Account&) = default;
};
BOOST_DESCRIBE_STRUCT(Account, (), (uid, gid, groups, name, home, shell))

/// A variable of a sweep and the values that it takes in turn.
struct SweepVariable {
    std::string name;
    std::vector<std::string> values;
    friend bool operator==(const SweepVariable&, const SweepVariable&) = default;
};
BOOST_DESCRIBE_STRUCT(SweepVariable, (), (name, values))

/// How a job is run on a machine: everything that the executor needs and no decision does. It is stored beside the
/// log under the job's id and never enters State, so a hundred thousand waiting jobs stay small.
struct Launch {
    std::string name;                                      // of the job, for people: $STARGATE_JOB_NAME
    std::vector<std::string> argv;                         // executed directly; or
    std::string shell;                                     // given to `/bin/sh -c` when argv is empty
    std::string folder;                                    // absolute; where the command starts
    std::vector<std::pair<std::string, std::string>> env;  // on top of the base environment, in order
    bool keep_environment = false;                         // `env` is the submitter's whole environment (same uid)
    std::vector<Mount> mounts;
    Account account;
    Sandbox sandbox = Sandbox::standard;
    bool one_rank_a_node = false;              // `ranks: per_node`
    bool resize_in_place = false;              // `resize: in_place`
    std::string checkpoint_folder;             // absolute, or empty
    Bytes output_limit = gibibytes(1);         // each attempt's output file is cut there
    Duration grace = std::chrono::seconds{5};  // from a warning to the kill, where no control plane says it
    bool terminal = false;                     // its one rank stands at a terminal, which people type at
    std::vector<SweepVariable> sweep;  // an element of the array for each combination, the last changing fastest
    friend bool operator==(const Launch&, const Launch&) = default;

    /// The variables of one element of a sweep: its index, counted out in the lengths of the lists.
    [[nodiscard]] std::vector<std::pair<std::string, std::string>> swept(std::int32_t task) const {
        std::vector<std::pair<std::string, std::string>> variables(sweep.size());
        auto left = static_cast<std::size_t>(task);
        for (auto at = sweep.size(); at-- > 0;) {
            const auto& values = sweep[at].values;
            if (!values.empty()) variables[at] = {sweep[at].name, values[left % values.size()]};
            left /= std::max<std::size_t>(1, values.size());
        }
        return variables;
    }
};
BOOST_DESCRIBE_STRUCT(Launch, (),
                      (name, argv, shell, folder, env, keep_environment, mounts, account, sandbox, one_rank_a_node,
                       resize_in_place, checkpoint_folder, output_limit, grace, terminal, sweep))

}  // namespace stargate
