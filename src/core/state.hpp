#pragma once

#include <array>
#include <boost/container/flat_set.hpp>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <variant>
#include <vector>

#include "core/node_set.hpp"
#include "core/rows.hpp"
#include "core/settings.hpp"
#include "core/table.hpp"

namespace stargate {

/// A table for the few rows of their kind: the same verbs as Table, kept in order by key.
template <class Key, class Row>
class SmallTable {
public:
    [[nodiscard]] const Row* find(Key key) const {
        const auto at = rows_.find(key);
        return at == rows_.end() ? nullptr : &at->second;
    }
    [[nodiscard]] Row* find(Key key) { return const_cast<Row*>(std::as_const(*this).find(key)); }
    void put(Key key, Row row) { rows_.insert_or_assign(key, std::move(row)); }
    void erase(Key key) { rows_.erase(key); }
    [[nodiscard]] std::size_t size() const { return rows_.size(); }
    template <class Visit>
    void for_each(Visit visit) const {
        for (const auto& [key, row] : rows_) visit(row);
    }

private:
    std::map<Key, Row> rows_;
};

/// The one row of its kind (key 0).
template <class Row>
class Single {
public:
    [[nodiscard]] const Row* find(int) const { return &row_; }
    [[nodiscard]] Row* find(int) { return &row_; }
    void put(int, Row row) { row_ = std::move(row); }
    void erase(int) { row_ = Row{}; }
    [[nodiscard]] std::size_t size() const { return 1; }
    template <class Visit>
    void for_each(Visit visit) const {
        visit(row_);
    }

private:
    Row row_{};
};

using SharedKey = std::pair<NodeId, std::int32_t>;

inline JobId key_of(const Job& row) { return row.id; }
inline JobId key_of(const Spec& row) { return row.first; }
inline AttemptId key_of(const Attempt& row) { return row.id; }
inline NodeId key_of(const Node& row) { return row.id; }
inline TenantId key_of(const TenantRow& row) { return row.tenant.id; }
inline JobId key_of(const Claim& row) { return row.job; }
inline JobId key_of(const Blocked& row) { return row.spec; }
inline JobId key_of(const Reservation& row) { return row.job; }
inline JobId key_of(const Service& row) { return row.first; }
inline SharedKey key_of(const SharedGpu& row) { return {row.node, row.gpu}; }
inline int key_of(const Counters&) { return 0; }
inline int key_of(const Settings&) { return 0; }

/// What makes two waiting jobs the same to a scheduler, but for their time limits. Ordered: higher classes first.
struct ShapeKey {
    std::int32_t class_order = 0;  // lower goes first
    TenantId tenant;
    std::int32_t min_gpus = 0, max_gpus = 0, share = 0;
    GpuTypeBits gpu_types = 0;
    MilliCpus cpus_per_rank;
    Bytes memory_per_rank;
    Level require = Level::fleet;
    bool one_rank_a_node = false;
    friend auto operator<=>(const ShapeKey&, const ShapeKey&) = default;
};
ShapeKey shape_of(const JobSpec& spec);

/// That a shape could not be placed. As long as nothing has changed that placing looks at, trying it again would say
/// the same, so the pass does not try. It is forgotten without harm: it changes what a pass costs, never what it does.
struct Refused {
    std::uint64_t version = 0;  // State::placement_version() then; 0: nothing is remembered
    JobId oldest, shortest;     // the jobs that stood for the shape
    Instant until{};            // time alone may change the answer after this
    bool for_want_of_room = false;
    bool asked_for_reservation = false;  // when it was refused, so that asking again would change nothing either
};

/// An equivalence class of waiting jobs.
struct Shape {
    ShapeKey key;
    std::set<JobId> ready;                          // waiting, not held, dependencies met, not backing off; by age
    std::set<std::pair<Duration, JobId>> by_limit;  // the same jobs, the shortest time limit first
    std::int32_t specs = 0;                         // rows that use it
    mutable Refused refused;                        // written by the pass
};

/// What fires when an instant comes.
enum class DeadlineKind : std::uint8_t {
    growth,
    time_limit,
    gang,
    settle,
    claim,
    backoff,
    reservation,
    reply,
    shrink,
    help
};
struct Deadline {
    Instant at{};
    DeadlineKind kind = DeadlineKind::growth;
    std::uint64_t id = 0;  // of the attempt or job
    friend auto operator<=>(const Deadline&, const Deadline&) = default;
};

/// What a tenant and those below it hold, by class, in thousandths of GPUs, and of this what elastic attempts hold
/// above their minimum. What is ending already counts in neither.
struct TenantWork {
    std::set<AttemptId> attempts;  // of the tenant itself
    std::array<std::int64_t, priority_classes> held{}, surplus{};
    friend bool operator==(const TenantWork&, const TenantWork&) = default;
};

/// GPUs of one domain that are free on nodes which take work, by GPU type.
using FreeByType = std::vector<std::int32_t>;
struct Domain {
    std::vector<NodeId> nodes;
    FreeByType free;
};
/// The index of a node's domain at this level; 0 for the fleet, and for a node, which is its own.
std::uint32_t domain_of(const NodeShape& shape, Level level);

/// Everything the core knows: rows, and what is derived from them for speed. Edited only through put, change and
/// erase, which keep the derived data in step and, when an undo log is attached, record how to go back. A row's edit
/// costs O(log n) at most.
class State {
public:
    template <class Row>
    struct Old {
        decltype(key_of(std::declval<Row>())) key;
        std::optional<Row> row;
    };
    // What changes of a specification.
    struct OldLeft {
        JobId spec;
        std::int32_t left = 0, failed = 0;
    };
    struct OldSpec {
        JobId first;
        JobSpec spec;
    };
    using Edit =
        std::variant<Old<Job>, Old<Spec>, Old<Attempt>, Old<Node>, Old<TenantRow>, Old<Claim>, Old<Blocked>,
                     Old<Reservation>, Old<SharedGpu>, Old<Counters>, Old<Settings>, Old<Service>, OldLeft, OldSpec>;
    using UndoLog = std::vector<Edit>;

    State();
    State(State&&) = default;
    State& operator=(State&&) = default;

    template <class Row>
    [[nodiscard]] const auto& table() const {
        return std::get<TableFor<Row>>(tables_);
    }
    template <class Row, class Key>
    [[nodiscard]] const Row* find(Key key) const {
        return table<Row>().find(key);
    }
    template <class Row, class Key>
    [[nodiscard]] const Row& at(Key key) const {
        const auto* row = find<Row>(key);
        CHECK(row != nullptr);
        return *row;
    }
    [[nodiscard]] const Settings& settings() const { return *find<Settings>(0); }
    [[nodiscard]] const Counters& counters() const { return *find<Counters>(0); }
    [[nodiscard]] const JobSpec& spec_of(const Job& job) const { return at<Spec>(job.spec).spec; }

    /// A new row; there must be none with its key.
    template <class Row>
    void put(Row row);
    /// Changes the row of this key, which must exist, in place.
    template <class Row, class Key, class Change>
    void change(Key key, Change change);
    template <class Row, class Key>
    void erase(Key key);
    /// An element of this specification has left State; others have not.
    void count_gone(JobId spec, bool had_failed);
    /// Its elements ask for something else. Cost O(elements); the tenant and the owner stay.
    void edit_spec(JobId first, JobSpec spec);

    void attach(UndoLog* undo) { undo_ = undo; }
    void take_back(Edit edit);

    // Derived; each says what it is a function of.
    /// Nodes that take work, by GPU type and number of free GPUs.
    [[nodiscard]] const NodeSet& nodes_with(std::uint32_t type, std::int32_t free) const;
    [[nodiscard]] std::int32_t free_gpus(GpuTypeBits types) const;
    [[nodiscard]] std::int32_t all_gpus(GpuTypeBits types) const;  // of every node, reachable or not
    /// GPUs of the nodes that take work, free or not, and how many such nodes there are.
    [[nodiscard]] std::int32_t working_gpus(GpuTypeBits types) const;
    [[nodiscard]] std::int64_t working_nodes() const { return working_nodes_; }
    /// Attempts that somebody has warned, and the GPUs that they are about to let go of.
    [[nodiscard]] const std::set<AttemptId>& ending() const { return ending_; }
    [[nodiscard]] std::int32_t leaving_gpus() const { return leaving_; }
    /// Nodes on which attempts of this class hold anything, and how many attempts of it there are.
    [[nodiscard]] const NodeSet& nodes_holding(PriorityClass priority) const { return holding_[rank_of(priority)]; }
    [[nodiscard]] std::int32_t attempts_of(PriorityClass priority) const { return attempts_of_[rank_of(priority)]; }
    [[nodiscard]] const TenantWork& work_of(TenantId tenant) const;
    /// GPUs of this tenant's shares, by what is used of them: (tenant, minus the thousandths used, GPU).
    using SharedByUse = std::set<std::tuple<TenantId, std::int32_t, SharedKey>>;
    [[nodiscard]] const SharedByUse& shared_by_use() const { return shared_by_use_; }
    /// Rises whenever something changes that placing a job looks at; an undo makes it rise too.
    [[nodiscard]] std::uint64_t placement_version() const { return placement_version_; }
    /// Whole GPUs leased to attempts of this class, and of these what elastic ones hold above their minimum.
    [[nodiscard]] std::int32_t held_by(PriorityClass priority) const { return held_[rank_of(priority)]; }
    [[nodiscard]] std::int32_t surplus_of(PriorityClass priority) const { return surplus_[rank_of(priority)]; }
    [[nodiscard]] const std::map<ShapeKey, Shape>& shapes() const { return shapes_; }
    [[nodiscard]] const Shape& shape_of_job(const Job& job) const {
        return shapes_.at(stargate::shape_of(spec_of(job)));
    }
    [[nodiscard]] const std::set<Deadline>& deadlines() const { return deadlines_; }
    [[nodiscard]] const boost::container::flat_set<AttemptId>& attempts_on(NodeId node) const;
    [[nodiscard]] const std::set<AttemptId>& elastic_attempts() const { return elastic_; }
    [[nodiscard]] const std::set<std::pair<Instant, JobId>>& finished() const { return finished_; }
    [[nodiscard]] const std::vector<Domain>& domains(Level level) const {
        return domains_[static_cast<std::size_t>(level)];
    }
    /// First ids of the specifications of this name, oldest first.
    [[nodiscard]] const std::set<JobId>& named(const std::string& name) const;
    /// Specifications that come after this one, by its first id.
    [[nodiscard]] const std::set<JobId>& dependents_of(JobId spec) const;
    [[nodiscard]] std::optional<TenantId> tenant_named(const std::string& name) const;
    [[nodiscard]] NodeId node_named(const std::string& name) const;
    [[nodiscard]] std::int64_t waiting() const { return waiting_; }
    [[nodiscard]] std::int64_t waiting_of(std::uint32_t owner) const {
        const auto found = waiting_of_.find(owner);
        return found == waiting_of_.end() ? 0 : found->second;
    }
    /// How many of the arrays that this specification comes after have not succeeded yet, each as a whole.
    [[nodiscard]] std::int32_t unmet(JobId spec) const { return elements_.find(spec)->unmet; }
    /// Elements of this specification in State that have not succeeded, or not yet; and those that ended otherwise.
    [[nodiscard]] std::int32_t open(JobId spec) const { return elements_.find(spec)->open; }
    [[nodiscard]] std::int32_t failed(JobId spec) const { return elements_.find(spec)->failed; }
    /// An element that has not succeeded of an array that this specification comes after; none when there is none.
    [[nodiscard]] JobId first_unmet(const JobSpec& spec) const;
    /// Whether the job has ended well, so that what comes after it may start.
    [[nodiscard]] static bool has_succeeded(const Job& job);

    /// Services at which nobody has looked since something about them changed, which are now taken for looked at. Like
    /// a Refused it is forgotten without harm, and then all are named: it changes what a pass costs, never what it
    /// does.
    [[nodiscard]] std::set<JobId> take_changed_services() const;
    void look_again_at(JobId service) const { changed_services_.insert(service); }

    /// All rows, in the order of their tables and keys: what a snapshot holds and what a digest is made of.
    [[nodiscard]] std::string rows() const;
    /// A State of these rows, its derived data built anew; nothing when the bytes are not such rows.
    [[nodiscard]] static std::optional<State> from_rows(std::string_view bytes);
    /// The derived data as text, to compare a kept State with a rebuilt one.
    [[nodiscard]] std::string derived_text() const;

private:
    template <class Row>
    struct TableOf;
    template <class Row>
    using TableFor = typename TableOf<Row>::type;

    void index(const Job& row);
    void unindex(const Job& row);
    void index(const Spec& row);
    void unindex(const Spec& row);
    void index(const Attempt& row) { account(row, 1); }
    void unindex(const Attempt& row) { account(row, -1); }
    void index(const Node& row);
    void unindex(const Node& row);
    void index(const TenantRow& row);
    void unindex(const TenantRow& row);
    void index(const Claim& row);
    void unindex(const Claim& row);
    void index(const Counters& row);
    void unindex(const Counters& row);
    static void index(const Blocked&) {}
    static void unindex(const Blocked&) {}
    void index(const Reservation& row) { set_deadline(row.at, DeadlineKind::reservation, row.job.value, 1); }
    void unindex(const Reservation& row) { set_deadline(row.at, DeadlineKind::reservation, row.job.value, -1); }
    void index(const SharedGpu& row) { shared_by_use_.emplace(row.tenant, -row.used, key_of(row)); }
    void unindex(const SharedGpu& row) { shared_by_use_.erase({row.tenant, -row.used, key_of(row)}); }
    void index(const Service& row) { account(row, 1); }
    void unindex(const Service& row) { account(row, -1); }
    static void index(const Settings&) {}
    static void unindex(const Settings&) {}
    /// Rows that change often and mostly in members that nothing is derived from.
    template <class Row>
    static constexpr bool has_cheap_reindex = std::is_same_v<Row, Attempt> || std::is_same_v<Row, Node> ||
                                              std::is_same_v<Row, Job> || std::is_same_v<Row, TenantRow>;
    /// Rows that placing a job looks at.
    template <class Row>
    static constexpr bool decides_placement =
        !(std::is_same_v<Row, Job> || std::is_same_v<Row, Spec> || std::is_same_v<Row, Blocked> ||
          std::is_same_v<Row, Counters> || std::is_same_v<Row, Service>);
    void reindex(const Attempt& before, const Attempt& now);
    void reindex(const Node& before, const Node& now);
    void reindex(const Job& before, const Job& now);
    void reindex(const TenantRow& before, const TenantRow& now);
    void account(const Attempt& row, int sign);
    void count_gpus(const Attempt& row, const JobSpec& spec, int sign);
    void count_nodes(const Attempt& row, const JobSpec& spec, int sign);
    void account(const Node& row, int sign);
    void account(const Service& row, int sign);
    void joined(const Node& row);  // nodes join and, by undo alone, leave again
    void left(const Node& row);
    void set_deadline(Instant at, DeadlineKind kind, std::uint64_t id, int sign);
    void refresh_readiness(const Job& job);
    void wait(const Job& row, int sign);
    void put_in_line(const Job& row);
    void take_out_of_line(const Job& row);
    void count_open(JobId spec, int more);
    [[nodiscard]] JobId array_of(JobId element) const;
    void note_service_of(const Job& replica);

    std::tuple<Table<JobId, Job>, Table<JobId, Spec>, Table<AttemptId, Attempt>, Table<NodeId, Node>,
               Table<TenantId, TenantRow>, SmallTable<JobId, Claim>, SmallTable<JobId, Blocked>,
               SmallTable<JobId, Reservation>, SmallTable<SharedKey, SharedGpu>, Single<Counters>, Single<Settings>,
               SmallTable<JobId, Service>>
        tables_;
    UndoLog* undo_ = nullptr;

    std::vector<std::array<NodeSet, max_gpus_per_node + 1>> nodes_by_free_;
    FreeByType free_, all_, working_;
    std::int64_t working_nodes_ = 0;
    std::array<std::vector<Domain>, 6> domains_;
    std::array<std::int32_t, priority_classes> held_{}, surplus_{}, attempts_of_{};
    std::map<TenantId, TenantWork> work_;
    std::set<AttemptId> ending_;
    std::int32_t leaving_ = 0;
    std::array<NodeSet, priority_classes> holding_;
    std::vector<std::array<std::int32_t, priority_classes>> parts_on_;  // by node: parts of each class
    SharedByUse shared_by_use_;
    mutable std::set<JobId> changed_services_;
    mutable bool any_service_changed_ = true;
    /// What is derived of a specification and its elements.
    struct ElementsOf {
        Shape* shape = nullptr;
        std::int32_t unmet = 0;
        std::int32_t open = 0;
        std::int32_t failed = 0;
    };
    Table<JobId, ElementsOf> elements_;
    std::uint64_t placement_version_ = 1;
    std::map<ShapeKey, Shape> shapes_;
    std::set<Deadline> deadlines_;
    std::vector<boost::container::flat_set<AttemptId>> attempts_on_;
    std::set<AttemptId> elastic_;
    std::set<std::pair<Instant, JobId>> finished_;
    std::map<std::string, std::set<JobId>> named_;
    std::map<JobId, std::set<JobId>> dependents_;
    std::map<std::string, TenantId> tenants_by_name_;
    std::map<std::string, NodeId> nodes_by_name_;
    std::int64_t waiting_ = 0;
    std::map<std::uint32_t, std::int64_t> waiting_of_;  // by owner; nobody with none
};

template <>
struct State::TableOf<Job> {
    using type = Table<JobId, Job>;
};
template <>
struct State::TableOf<Spec> {
    using type = Table<JobId, Spec>;
};
template <>
struct State::TableOf<Attempt> {
    using type = Table<AttemptId, Attempt>;
};
template <>
struct State::TableOf<Node> {
    using type = Table<NodeId, Node>;
};
template <>
struct State::TableOf<TenantRow> {
    using type = Table<TenantId, TenantRow>;
};
template <>
struct State::TableOf<Claim> {
    using type = SmallTable<JobId, Claim>;
};
template <>
struct State::TableOf<Blocked> {
    using type = SmallTable<JobId, Blocked>;
};
template <>
struct State::TableOf<Reservation> {
    using type = SmallTable<JobId, Reservation>;
};
template <>
struct State::TableOf<Service> {
    using type = SmallTable<JobId, Service>;
};
template <>
struct State::TableOf<SharedGpu> {
    using type = SmallTable<SharedKey, SharedGpu>;
};
template <>
struct State::TableOf<Counters> {
    using type = Single<Counters>;
};
template <>
struct State::TableOf<Settings> {
    using type = Single<Settings>;
};

template <class Row>
void State::put(Row row) {
    auto& rows = std::get<TableFor<Row>>(tables_);
    const auto key = key_of(row);
    CHECK(rows.find(key) == nullptr);
    if (undo_ != nullptr) undo_->push_back(Old<Row>{key, std::nullopt});
    rows.put(key, std::move(row));
    if constexpr (decides_placement<Row>) ++placement_version_;
    if constexpr (std::is_same_v<Row, Node>) joined(*rows.find(key));
    index(*rows.find(key));
}

template <class Row, class Key, class Change>
void State::change(Key key, Change change) {
    static_assert(!std::is_same_v<Row, Spec>, "a specification changes by count_gone and edit_spec alone");
    auto& rows = std::get<TableFor<Row>>(tables_);
    Row* row = rows.find(key);
    CHECK(row != nullptr);
    if constexpr (decides_placement<Row>) ++placement_version_;
    if constexpr (has_cheap_reindex<Row>) {
        Row before = *row;
        change(*row);
        reindex(before, *row);
        if (undo_ != nullptr) undo_->push_back(Old<Row>{key, std::move(before)});
    } else {
        if (undo_ != nullptr) undo_->push_back(Old<Row>{key, *row});
        unindex(*row);
        change(*row);
        index(*row);
    }
}

template <class Row, class Key>
void State::erase(Key key) {
    auto& rows = std::get<TableFor<Row>>(tables_);
    Row* row = rows.find(key);
    CHECK(row != nullptr);
    if constexpr (decides_placement<Row>) ++placement_version_;
    unindex(*row);
    if (undo_ != nullptr) undo_->push_back(Old<Row>{key, std::move(*row)});
    rows.erase(key);
}

}  // namespace stargate
