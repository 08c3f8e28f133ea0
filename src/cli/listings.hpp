#pragma once

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

void print_job(const api::Json& job);
void print_why(const api::Json& why);
void print_event_line(const api::Json& event);

}  // namespace stargate::cli
