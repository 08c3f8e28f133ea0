#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "api/json.hpp"
#include "cli/table.hpp"

/// How each kind of row is shown to people.
namespace stargate::cli {

std::vector<Column> job_columns();
std::vector<Column> node_columns();
std::vector<Column> tenant_columns();
std::vector<Column> token_columns();
std::vector<Column> service_columns();
std::vector<Column> usage_columns();

/// An instant as people of this place say it.
std::string clock_of(std::int64_t microseconds);
/// The owner's name where this machine knows it.
std::string owner_of(const api::Json& job);

void print_job(const api::Json& job);
void print_why(const api::Json& why);
void print_event_line(const api::Json& event);

}  // namespace stargate::cli
