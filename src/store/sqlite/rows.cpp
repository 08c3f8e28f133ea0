#include "store/sqlite/rows.hpp"

#include <fmt/format.h>
#include <sodium.h>

#include <algorithm>
#include <cstring>
#include <initializer_list>

namespace stargate::store {
namespace {

/// Says which table a row is of, so that a row of one never fits another. Kept for ever, as they lie in the files.
enum class Kind : std::uint64_t { store = 1, input, fact, launch, history, key, snapshot };

constexpr std::array<const char*, 8> kind_names{"", "store", "input", "fact", "launch", "history", "key", "snapshot"};

/// SipHash-2-4 with a key that is no secret: against accidents, not against forgers. The first pass hashes the numbers,
/// and its result keys the second, over the bytes. Numbers enter in the machine's byte order (all we run on is little).
std::int64_t checksum(Kind kind, std::initializer_list<std::uint64_t> numbers, std::string_view bytes) {
    std::array<std::uint64_t, 2> key{static_cast<std::uint64_t>(kind), numbers.size()};
    static_assert(sizeof(key) == crypto_shorthash_KEYBYTES);
    const auto hash = [&key](const void* data, std::size_t size) {
        std::uint64_t result = 0;
        crypto_shorthash(reinterpret_cast<unsigned char*>(&result), static_cast<const unsigned char*>(data), size,
                         reinterpret_cast<const unsigned char*>(key.data()));
        return result;
    };
    key[0] = hash(numbers.begin(), numbers.size() * sizeof(std::uint64_t));
    // 32 bits keep the column short; one damaged row in four thousand million would pass.
    return static_cast<std::int32_t>(hash(bytes.data(), bytes.size()));
}

Instant instant(std::int64_t column) { return Instant{Duration{column}}; }

std::uint64_t bits(Instant at) { return static_cast<std::uint64_t>(column_of(at)); }

template <std::size_t N>
std::string_view view(const std::array<std::uint8_t, N>& bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), N};
}

/// Zeros where the column has another length: the checksum then does not fit.
template <std::size_t N>
std::array<std::uint8_t, N> array_of(std::string_view bytes) {
    std::array<std::uint8_t, N> result{};
    if (bytes.size() == N) std::memcpy(result.data(), bytes.data(), N);
    return result;
}

std::int64_t checksum(const StoreRow& row) {
    return checksum(Kind::store, {row.identity.term, row.first_input, row.first_fact}, view(row.identity.incarnation));
}
std::int64_t checksum(const InputRow& row) {
    return checksum(Kind::input, {row.seq, bits(row.at), row.type}, row.body);
}
std::int64_t checksum(const FactRow& row) { return checksum(Kind::fact, {row.seq, row.input_seq, row.type}, row.body); }
std::int64_t checksum(const LaunchRow& row) { return checksum(Kind::launch, {row.job.value, row.count}, row.body); }
std::int64_t checksum(const HistoryRow& row) {
    return checksum(Kind::history, {row.job.value, bits(row.at)}, row.body);
}
std::int64_t checksum(const KeyRow& row) {
    return checksum(Kind::key, {row.tenant.value, row.first_job.value, bits(row.expires_at)},
                    row.key + std::string{view(row.body_hash)});
}
std::int64_t checksum(const SnapshotRow& row) {
    return checksum(Kind::snapshot, {row.fact_seq, row.input_seq, row.verified ? 1U : 0U},
                    row.file + std::string{view(row.digest)});
}

template <class Row>
Result<Row> verified(Kind kind, Row row, std::uint64_t name, std::int64_t stored_checksum) {
    if (checksum(row) == stored_checksum) return row;
    return fail(Fault::malformed, fmt::format("the {} row {} is damaged: its checksum does not fit",
                                              kind_names[static_cast<std::size_t>(kind)], name));
}

}  // namespace

std::int64_t column_of(Instant at) { return at.time_since_epoch().count(); }

std::int64_t checksum_of(const StoreRow& row) { return checksum(row); }
std::int64_t checksum_of(const InputRow& row) { return checksum(row); }
std::int64_t checksum_of(const FactRow& row) { return checksum(row); }

void bind(Statement& to, const StoreRow& row) {
    to.bind_bytes(1, view(row.identity.incarnation)).bind(2, row.identity.term).bind(3, row.first_input);
    to.bind(4, row.first_fact).bind(5, checksum(row));
}

void bind(Statement& to, const InputRow& row) {
    to.bind(1, row.seq).bind(2, column_of(row.at)).bind(3, std::int64_t{row.type}).bind_bytes(4, row.body);
    to.bind(5, checksum(row));
}

void bind(Statement& to, const FactRow& row) {
    to.bind(1, row.seq).bind(2, row.input_seq).bind(3, std::int64_t{row.type}).bind_bytes(4, row.body);
    to.bind(5, checksum(row));
}

void bind(Statement& to, const LaunchRow& row) {
    to.bind(1, row.job.value).bind(2, std::int64_t{row.count}).bind_bytes(3, row.body).bind(4, checksum(row));
}

void bind(Statement& to, const HistoryRow& row) {
    to.bind(1, row.job.value).bind(2, column_of(row.at)).bind_bytes(3, row.body).bind(4, checksum(row));
}

void bind(Statement& to, const KeyRow& row) {
    to.bind(1, row.tenant.value).bind_bytes(2, row.key).bind_bytes(3, view(row.body_hash)).bind(4, row.first_job.value);
    to.bind(5, column_of(row.expires_at)).bind(6, checksum(row));
}

void bind(Statement& to, const SnapshotRow& row) {
    to.bind(1, row.fact_seq).bind(2, row.input_seq).bind_text(3, row.file).bind_bytes(4, view(row.digest));
    to.bind(5, std::int64_t{row.verified}).bind(6, checksum(row));
}

Result<StoreRow> read_store_row(const Statement& from) {
    const StoreRow row{{array_of<16>(from.bytes(0)), from.whole(1)}, from.whole(2), from.whole(3)};
    return verified(Kind::store, row, 1, from.integer(4));
}

Result<InputRow> read_input_row(const Statement& from) {
    const InputRow row{from.whole(0), instant(from.integer(1)), static_cast<std::uint16_t>(from.integer(2)),
                       from.bytes(3)};
    return verified(Kind::input, row, row.seq, from.integer(4));
}

Result<FactRow> read_fact_row(const Statement& from) {
    const FactRow row{from.whole(0), from.whole(1), static_cast<std::uint16_t>(from.integer(2)), from.bytes(3)};
    return verified(Kind::fact, row, row.seq, from.integer(4));
}

Result<LaunchRow> read_launch_row(const Statement& from) {
    LaunchRow row{JobId{from.whole(0)}, static_cast<std::uint32_t>(from.integer(1)), std::string{from.bytes(2)}};
    const auto name = row.job.value;
    return verified(Kind::launch, std::move(row), name, from.integer(3));
}

Result<HistoryRow> read_history_row(const Statement& from) {
    HistoryRow row{JobId{from.whole(0)}, instant(from.integer(1)), std::string{from.bytes(2)}};
    const auto name = row.job.value;
    return verified(Kind::history, std::move(row), name, from.integer(3));
}

Result<KeyRow> read_key_row(const Statement& from) {
    KeyRow row{TenantId{from.whole(0)}, std::string{from.bytes(1)}, array_of<32>(from.bytes(2)), JobId{from.whole(3)},
               instant(from.integer(4))};
    const auto name = row.first_job.value;
    return verified(Kind::key, std::move(row), name, from.integer(5));
}

Result<SnapshotRow> read_snapshot_row(const Statement& from) {
    SnapshotRow row{from.whole(0), from.whole(1), std::string{from.bytes(2)}, array_of<32>(from.bytes(3)),
                    from.integer(4) != 0};
    const auto name = row.fact_seq;
    return verified(Kind::snapshot, std::move(row), name, from.integer(5));
}

}  // namespace stargate::store
