#include "store/sqlite/schema.hpp"

#include <fmt/format.h>

#include <array>

#include "store/sqlite/rows.hpp"

namespace stargate::store {
namespace {

constexpr std::int64_t application_id = 0x53744761;  // "StGa": what file(1) and check_schema() know a store by

// Bodies are last but for the checksum: SQLite reads the columns before a long body without touching the rest.
constexpr const char* schema = R"sql(
CREATE TABLE store (
  one         INTEGER PRIMARY KEY CHECK (one = 1),
  incarnation BLOB    NOT NULL CHECK (length(incarnation) = 16),
  term        INTEGER NOT NULL,
  first_input INTEGER NOT NULL,
  first_fact  INTEGER NOT NULL,
  checksum    INTEGER NOT NULL
) STRICT;
CREATE TABLE inputs (
  seq      INTEGER PRIMARY KEY,
  at       INTEGER NOT NULL,
  type     INTEGER NOT NULL,
  body     BLOB    NOT NULL,
  checksum INTEGER NOT NULL
) STRICT;
CREATE TABLE facts (
  seq       INTEGER PRIMARY KEY,
  input_seq INTEGER NOT NULL,
  type      INTEGER NOT NULL,
  body      BLOB    NOT NULL,
  checksum  INTEGER NOT NULL
) STRICT;
CREATE TABLE launches (
  job      INTEGER PRIMARY KEY,
  count    INTEGER NOT NULL,
  body     BLOB    NOT NULL,
  checksum INTEGER NOT NULL
) STRICT;
CREATE TABLE history (
  job      INTEGER PRIMARY KEY,
  at       INTEGER NOT NULL,
  body     BLOB    NOT NULL,
  checksum INTEGER NOT NULL
) STRICT;
CREATE INDEX history_by_time ON history (at, job);
CREATE TABLE keys (
  tenant     INTEGER NOT NULL,
  key        BLOB    NOT NULL,
  body_hash  BLOB    NOT NULL,
  first_job  INTEGER NOT NULL,
  expires_at INTEGER NOT NULL,
  checksum   INTEGER NOT NULL,
  PRIMARY KEY (tenant, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX keys_by_expiry ON keys (expires_at);
CREATE TABLE snapshots (
  fact_seq  INTEGER PRIMARY KEY,
  input_seq INTEGER NOT NULL,
  file      TEXT    NOT NULL,
  digest    BLOB    NOT NULL,
  verified  INTEGER NOT NULL,
  checksum  INTEGER NOT NULL
) STRICT;
)sql";

std::string hexadecimal(const Incarnation& incarnation) {
    std::string digits;
    for (const auto byte : incarnation) digits += fmt::format("{:02x}", byte);
    return digits;
}

Result<void> refuse_unknown(std::int64_t application, std::int64_t version) {
    if (application != application_id) {
        return fail(Fault::malformed,
                    "this file is no Stargate store; name another state folder, or move the file away");
    }
    if (version > schema_version) {
        return fail(
            Fault::denied,
            fmt::format("this store has schema version {}, and this Stargate knows versions up to {}; start the "
                        "newer Stargate that wrote it, or restore a backup made before the upgrade; nothing was "
                        "changed",
                        version, schema_version));
    }
    if (version < 1) { return fail(Fault::malformed, "this store has no schema version: it is damaged"); }
    return {};
}

/// A big-endian number of four bytes of the database header.
std::int64_t header_number(const std::array<char, 100>& header, std::size_t at) {
    std::uint32_t number = 0;
    for (std::size_t i = 0; i < 4; ++i) number = number << 8U | static_cast<unsigned char>(header[at + i]);
    return number;
}

}  // namespace

Result<std::string> empty_store(const Incarnation& incarnation) {
    const auto checksum = checksum_of(StoreRow{Identity{incarnation, 0}, 1, 1});
    return Database::image(
        fmt::format("{}INSERT INTO store (one, {}) VALUES (1, x'{}', 0, 1, 1, {});"
                    "PRAGMA application_id = {}; PRAGMA user_version = {};",
                    schema, store_columns, hexadecimal(incarnation), checksum, application_id, schema_version));
}

Result<void> check_untouched(const std::string& path, Disk& disk) {
    auto file = disk.open(path, Opening::read);
    if (!file) return tl::unexpected(file.error());
    std::array<char, 100> header{};
    const auto got = (*file)->read(0, header);
    if (!got) return tl::unexpected(got.error());
    // sqlite.org/fileformat2.html, section 1.3: user_version at 60, application_id at 68.
    if (*got < header.size() || std::string_view{header.data(), 16} != std::string_view{"SQLite format 3\0", 16}) {
        return fail(Fault::malformed, path + " is no Stargate store, or its first page is damaged");
    }
    return refuse_unknown(header_number(header, 68), header_number(header, 60));
}

Result<void> check_schema(Database& database) {
    const auto application = database.number("PRAGMA application_id");
    if (!application) return tl::unexpected(application.error());
    const auto version = database.number("PRAGMA user_version");
    if (!version) return tl::unexpected(version.error());
    return refuse_unknown(*application, *version);
    // With version 2: an older store is migrated here, in one transaction that ends with its new user_version, and then
    // checkpointed so that check_untouched() of an older Stargate sees it.
}

}  // namespace stargate::store
