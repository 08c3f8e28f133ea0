#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/disk.hpp"
#include "base/result.hpp"
#include "engine/local/attempt_folder.hpp"

namespace stargate::local {

/// The durable steps of one attempt, for engine and shim alike, over a disk whose power a test can cut between any two.
/// What is answered with success survives a power cut from then on, where nothing else is said. Who may take which step
/// when is made by the lock of the folder (attempt_folder.hpp).
class AttemptRecords {
public:
    AttemptRecords(const std::string& state, std::uint64_t attempt, Disk& disk = real_disk());

    /// Makes the folder; of several callers one succeeds, ever, and the others get Fault::conflict. Not yet durable:
    /// before keep_claim() has answered nothing of the attempt may run, for after a power cut it could be claimed
    /// again.
    [[nodiscard]] Result<void> claim();
    [[nodiscard]] Result<void> keep_claim();

    /// Nothing may ever begin here. The folder is there.
    [[nodiscard]] Result<void> bury(const Speaker& by);
    [[nodiscard]] bool is_buried() const;

    [[nodiscard]] Result<void> keep_end(const ExitRecord& end);
    [[nodiscard]] std::optional<ExitRecord> end() const;

    [[nodiscard]] Result<void> keep_shim(const ShimRecord& shim);
    [[nodiscard]] std::optional<ShimRecord> shim() const;

    /// The end is committed, no exit record is needed. Not durable, for no harm comes of its being undone: the attempt
    /// is found dead then, and whoever asks knows its end.
    [[nodiscard]] Result<void> dismiss();

private:
    [[nodiscard]] std::string in_folder(const char* name) const { return folder_ + "/" + name; }
    template <class Record>
    [[nodiscard]] std::optional<Record> read(const char* name) const;

    std::string attempts_;
    std::string folder_;
    Disk* disk_;
};

}  // namespace stargate::local
