#pragma once

#include <string>
#include <vector>

#include "base/result.hpp"
#include "store/rows.hpp"

namespace stargate::store {

/// Something wrong with a store, in words for an operator.
struct Finding {
    std::string what;
    std::string remedy;
};

struct Report {
    Identity identity;
    std::int64_t schema_version = 0;
    LogExtent log;
    std::uint64_t launches = 0;
    std::uint64_t history = 0;
    std::uint64_t keys = 0;
    std::vector<SnapshotRow> snapshots;  // newest first
    std::uint64_t segments = 0;          // sealed ones, which hold older rows than the log does
    std::vector<Finding> findings;       // the first few of each kind
    [[nodiscard]] bool is_sound() const { return findings.empty(); }
};

/// Reads everything in the store of `folder`, its snapshots and its sealed segments, and changes nothing; a control
/// plane may be running on it. Reads the whole log, so its cost grows with it. Fault::not_found when there is no store,
/// Fault::denied when it is of a newer schema; damage is not an error but a finding. What it cannot see: batches whose
/// part of the WAL was damaged. SQLite takes the log to end before the first bad frame, as it must after a power cut. A
/// snapshot from beyond the end gives that away; and so does an executor that has seen a higher term.
[[nodiscard]] Result<Report> examine_store(const std::string& folder);

}  // namespace stargate::store
