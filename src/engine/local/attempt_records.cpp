#include "engine/local/attempt_records.hpp"

#include "base/file.hpp"

namespace stargate::local {

AttemptRecords::AttemptRecords(const std::string& state, std::uint64_t attempt, Disk& disk)
    : attempts_{state + "/attempts"}, folder_{attempts_ + "/" + attempt_folder_name(attempt)}, disk_{&disk} {}

Result<void> AttemptRecords::claim() { return disk_->make_folder(folder_); }

Result<void> AttemptRecords::keep_claim() { return disk_->sync_folder(attempts_); }

Result<void> AttemptRecords::bury(const Speaker& by) {
    return write_durably(in_folder(tombstone_name), to_file(Tombstone{by}), *disk_);
}

bool AttemptRecords::is_buried() const { return disk_->exists(in_folder(tombstone_name)); }

Result<void> AttemptRecords::keep_end(const ExitRecord& end) {
    return write_durably(in_folder(exit_record_name), to_file(end), *disk_);
}

std::optional<ExitRecord> AttemptRecords::end() const { return read<ExitRecord>(exit_record_name); }

Result<void> AttemptRecords::keep_shim(const ShimRecord& shim) {
    return write_durably(in_folder(shim_record_name), to_file(shim), *disk_);
}

std::optional<ShimRecord> AttemptRecords::shim() const { return read<ShimRecord>(shim_record_name); }

Result<void> AttemptRecords::dismiss() { return disk_->rename(in_folder(shim_record_name), in_folder(dismissed_name)); }

template <class Record>
std::optional<Record> AttemptRecords::read(const char* name) const {
    const auto file = read_file(in_folder(name), longest_record, *disk_);
    return file ? from_file<Record>(*file) : std::nullopt;
}

}  // namespace stargate::local
