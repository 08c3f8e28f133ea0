#include "api/jobfile.hpp"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace stargate::api {
namespace {

JobFileSetting setting() {
    JobFileSetting s;
    s.folder = "/home/ada/exp";
    s.account.home = "/home/ada";
    s.owner = 1000;
    s.gpu_types = {"cpu", "h100"};
    s.state = "/var/lib/stargate";
    return s;
}

Result<ParsedJob> parse(const std::string& text) { return parse_job_file(text, setting()); }

const std::string head = "kind: batch\nname: a\nrun: 'true'\n";

TEST(JobFile, ShortestOneGetsTheDefaults) {
    const auto job = parse(head);
    ASSERT_TRUE(job) << job.error().detail;
    const auto& spec = job->submit.spec;
    EXPECT_EQ(spec.name, "a");
    EXPECT_EQ(spec.kind, Kind::batch);
    EXPECT_EQ(spec.min_gpus, GpuCount{1});
    EXPECT_EQ(spec.max_gpus, GpuCount{1});
    EXPECT_EQ(spec.time_limit, std::chrono::hours{24});
    EXPECT_EQ(spec.grace, std::chrono::seconds{5});
    EXPECT_EQ(spec.retries, 3);
    EXPECT_EQ(spec.priority, PriorityClass::research);
    EXPECT_EQ(spec.owner, 1000U);
    EXPECT_EQ(job->submit.tenant, "default");
    EXPECT_EQ(job->submit.count, 1);
    EXPECT_EQ(job->launch.shell, "true");
    EXPECT_EQ(job->launch.folder, "/home/ada/exp");
    EXPECT_EQ(job->launch.sandbox, Sandbox::standard);
}

TEST(JobFile, ASweepHasAnElementForEachCombination) {
    const auto job = parse(head + "sweep: {LR: [0.1, \"0.01\"], SEED: [1, 2, 3]}\n");
    ASSERT_TRUE(job) << job.error().detail;
    EXPECT_EQ(job->submit.count, 6);
    std::vector<std::string> seen;
    for (std::int32_t task = 0; task < 6; ++task) {
        const auto variables = job->launch.swept(task);
        ASSERT_EQ(variables.size(), 2U);
        EXPECT_EQ(variables[0].first, "LR");
        EXPECT_EQ(variables[1].first, "SEED");
        seen.push_back(variables[0].second + " " + variables[1].second);
    }
    EXPECT_EQ(seen, (std::vector<std::string>{"0.1 1", "0.1 2", "0.1 3", "0.01 1", "0.01 2", "0.01 3"}));
    EXPECT_TRUE(parse(head)->launch.swept(3).empty());
}

TEST(JobFile, ASweepIsNoLargerThanAnArrayMayBe) {
    std::string list = "[0";
    for (int i = 1; i < 400; ++i) list += ", " + std::to_string(i);
    const auto text = head + "sweep: {A: " + list + "], B: " + list + "]}\n";
    EXPECT_EQ(parse(text).error().detail,
              "job.yaml:4: sweep: has more than 100000 combinations; write fewer values, or several files");
}

TEST(JobFile, EveryFieldArrives) {
    const auto job = parse(R"(
kind: training
name: tiny-gpt
tenant: lab/nlp
priority: production
gpus: 1..8
gpu_type: [h100, cpu]
cpus: 4
memory: 16GB
time: 1h30m
topology: {require: pod, prefer: rack}
count: 20
after: [prepare]
dir: sub
mounts: [data:/data, /scratch:/scratch:ro]
env: {A: 1, B: "two words"}
checkpoint: {dir: ckpt, grace: 20s}
retries: 7
ranks: per_node
resize: in_place
sandbox: strict
held: true
output_limit: 2MiB
run: [python3, train.py]
)");
    ASSERT_TRUE(job) << job.error().detail;
    const auto& spec = job->submit.spec;
    EXPECT_EQ(spec.kind, Kind::training);
    EXPECT_EQ(job->submit.tenant, "lab/nlp");
    EXPECT_EQ(spec.priority, PriorityClass::production);
    EXPECT_EQ(spec.min_gpus, GpuCount{1});
    EXPECT_EQ(spec.max_gpus, GpuCount{8});
    EXPECT_EQ(spec.gpu_types, 0b11U);
    EXPECT_EQ(spec.cpus_per_rank, cpus(4));
    EXPECT_EQ(spec.memory_per_rank, Bytes{16'000'000'000});
    EXPECT_EQ(spec.time_limit, std::chrono::minutes{90});
    EXPECT_EQ(spec.require, Level::pod);
    EXPECT_EQ(job->submit.count, 20);
    EXPECT_EQ(job->submit.after, std::vector<std::string>{"prepare"});
    EXPECT_EQ(spec.grace, std::chrono::seconds{20});
    EXPECT_EQ(spec.retries, 7);
    EXPECT_TRUE(spec.one_rank_a_node);
    EXPECT_TRUE(spec.resize_in_place);
    EXPECT_TRUE(job->submit.held);
    const auto& launch = job->launch;
    EXPECT_EQ(launch.folder, "/home/ada/exp/sub");
    EXPECT_EQ(launch.checkpoint_folder, "/home/ada/exp/sub/ckpt");
    EXPECT_EQ(launch.mounts,
              (std::vector<Mount>{{"/home/ada/exp/sub/data", "/data", false}, {"/scratch", "/scratch", true}}));
    EXPECT_EQ(launch.env, (std::vector<std::pair<std::string, std::string>>{{"A", "1"}, {"B", "two words"}}));
    EXPECT_EQ(launch.argv, (std::vector<std::string>{"python3", "train.py"}));
    EXPECT_EQ(launch.sandbox, Sandbox::strict);
    EXPECT_EQ(launch.output_limit, mebibytes(2));
    EXPECT_TRUE(launch.one_rank_a_node);
    EXPECT_TRUE(launch.resize_in_place);
}

TEST(JobFile, GpusInEveryForm) {
    struct Case {
        std::string text;
        int min, max, share;
    };
    for (const auto& [text, min, max, share] :
         std::vector<Case>{{"0", 0, 0, 0}, {"8", 8, 8, 0}, {"0.5", 0, 0, 500}, {"2..2", 2, 2, 0}, {"4.0", 4, 4, 0}}) {
        const auto job = parse(head + "gpus: " + text + "\n");
        ASSERT_TRUE(job) << text << ": " << job.error().detail;
        EXPECT_EQ(job->submit.spec.min_gpus.count(), min) << text;
        EXPECT_EQ(job->submit.spec.max_gpus.count(), max) << text;
        EXPECT_EQ(job->submit.spec.share, share) << text;
    }
}

TEST(JobFile, AMountTargetIsReadAsThePathItMeans) {
    for (const auto* target : {"/data/", "//data", "/./data/."}) {
        const auto job = parse(head + "mounts: ['a:" + target + ":ro']\n");
        ASSERT_TRUE(job) << target << ": " << job.error().detail;
        EXPECT_EQ(job->launch.mounts.front().target, "/data") << target;
    }
    for (const auto* entry :
         {"/dev/shm:/dev/shm/x", "a:/usr/local/lib", "a:/etc/x", "/var:/tmp", "/devices:/process"}) {
        EXPECT_TRUE(parse(head + "mounts: ['" + entry + "']\n")) << entry;
    }
}

TEST(JobFile, EndpointsAreServersThatRunAlready) {
    const auto job = parse(
        "kind: service\nname: llama-8b\nmodel: meta-llama/Llama-3.1-8B-Instruct\n"
        "endpoints: [http://127.0.0.1:8000, 'http://[::1]:8000/']\nslo: 500ms\nmax_concurrency: 64\nheld: true\n");
    ASSERT_TRUE(job) << job.error().detail;
    const auto& service = *job->submit.service;
    EXPECT_EQ(service.endpoints, (std::vector<Endpoint>{{"127.0.0.1", 8000}, {"::1", 8000}}));
    EXPECT_EQ(service.max_concurrency, 64);
    EXPECT_EQ(service.slo, std::chrono::milliseconds{500});
    EXPECT_EQ(service.model, "meta-llama/Llama-3.1-8B-Instruct");
    EXPECT_EQ(job->submit.count, 1);
    EXPECT_EQ(job->submit.spec.max_gpus, GpuCount{0});
    EXPECT_TRUE(job->submit.held);
    EXPECT_EQ(parse("kind: service\nname: a\nendpoints: http://gpu-7:80\n")->submit.service->endpoints,
              (std::vector<Endpoint>{{"gpu-7", 80}}));
}

TEST(JobFile, HomeAndAbsolutePaths) {
    EXPECT_EQ(parse(head + "dir: '~/x'\n")->launch.folder, "/home/ada/x");
    EXPECT_EQ(parse(head + "dir: /x\n")->launch.folder, "/x");
    EXPECT_EQ(parse(head + "dir: .\n")->launch.folder, "/home/ada/exp");
}

/// `[j0, j1, ...]`
std::string names(int count) {
    std::string list;
    for (int i = 0; i < count; ++i) list += (i == 0 ? "[j" : ", j") + std::to_string(i);
    return list + "]";
}

struct Bad {
    std::string text;
    std::string message;
};

class BadJobFile : public testing::TestWithParam<Bad> {};

TEST_P(BadJobFile, IsRefusedWithPlaceFieldAndRemedy) {
    const auto job = parse(GetParam().text);
    ASSERT_FALSE(job) << GetParam().text.substr(0, 200);
    EXPECT_EQ(job.error().detail, GetParam().message);
    EXPECT_EQ(job.error().fault, Fault::malformed);
}

std::string deep(int levels) {
    std::string text = "a: ";
    for (int i = 0; i < levels; ++i) text += "[";
    return text;
}

std::string many(int values) {
    std::string text = "a: [";
    for (int i = 0; i < values; ++i) text += "1,";
    return text + "]\n";
}

std::string many_endpoints(int count) {
    std::string text;
    for (int i = 0; i < count; ++i) text += "http://a:" + std::to_string(1000 + i) + ",";
    return text;
}

std::string not_beside_endpoints(int line, const std::string& field) {
    return "job.yaml:" + std::to_string(line) + ": " + field +
           ": is of replicas that Stargate starts, and `endpoints` are servers that run already; leave one of the two "
           "out";
}

const std::vector<Bad> bad{
    {"", "job.yaml:1: file: holds no fields; write `kind: batch`, `name: ...` and `run: ...`"},
    {"just a text", "job.yaml:1: file: holds no fields; write `kind: batch`, `name: ...` and `run: ...`"},
    {"- a\n- b\n", "job.yaml:1: file: holds no fields; write `kind: batch`, `name: ...` and `run: ...`"},
    {"name: a\nrun: x\n", "job.yaml:1: kind: is missing; write `kind: training` or `kind: batch`"},
    {"kind: batch\nrun: x\n", "job.yaml:1: name: is missing; every job has one, write `name: ...`"},
    {"kind: batch\nname: a\n", "job.yaml:1: run: is missing; every job has one, write `run: ...`"},
    {"kind: service\nname: a\nrun: x\ntime: 1h\n",
     "job.yaml:4: time: is of work that ends, and a service does not; leave it out"},
    {"kind: service\nname: a\nrun: x\ngpus: 1..2\n",
     "job.yaml:4: gpus: a replica has whole GPUs, always as many; write `gpus: 1`"},
    {"kind: service\nname: a\nrun: x\nreplicas: {min: 2, max: 1}\n",
     "job.yaml:4: replicas: `max` is smaller than `min`; write `{min: 1, max: 3}`"},
    {"kind: service\nname: a\nrun: x\nreplicas: {least: 2}\n",
     "job.yaml:4: replicas.least: no such field; docs/job-file.md lists them all"},
    {"kind: service\nname: a\n",
     "job.yaml:1: run: is missing; write `run: ...` with a server that listens on $PORT, or, for servers that run "
     "already, `endpoints: [http://HOST:PORT]`"},
    {"kind: batch\nname: a\nrun: x\nendpoints: [http://a:1]\n",
     "job.yaml:4: endpoints: is of services; write `kind: service`, or leave it out"},
    {"kind: service\nname: a\nendpoints: [http://a:1]\nrun: x\n", not_beside_endpoints(4, "run")},
    {"kind: service\nname: a\ncommand: [x]\nendpoints: [http://a:1]\n", not_beside_endpoints(3, "command")},
    {"kind: service\nname: a\nendpoints: [http://a:1]\nreplicas: 2\n", not_beside_endpoints(4, "replicas")},
    {"kind: service\nname: a\nendpoints: [http://a:1]\ngpus: 0\n", not_beside_endpoints(4, "gpus")},
    {"kind: service\nname: a\nendpoints: [http://a:1]\npriority: serving\n", not_beside_endpoints(4, "priority")},
    {"kind: service\nname: a\nendpoints: [http://a:1]\ndrain: 5s\n", not_beside_endpoints(4, "drain")},
    {"kind: service\nname: a\nendpoints: [http://a:1]\nenv: {A: b}\n", not_beside_endpoints(4, "env")},
    {"kind: service\nname: a\nendpoints: [http://a:1]\nsandbox: none\n", not_beside_endpoints(4, "sandbox")},
    {"kind: service\nname: a\nendpoints: [http://a:1]\nretries: 1\n",
     "job.yaml:4: retries: is of work that ends, and a service does not; leave it out"},
    {"kind: service\nname: a\nendpoints: [http://a:1]\ncount: 2\n",
     "job.yaml:4: count: is of work that ends, and a service does not; leave it out"},
    {"kind: service\nname: a\nendpoints:\n- http://a:1\n- http://A:1/\n",
     "job.yaml:5: endpoints: http://a:1 is there twice; write each server once"},
    {"kind: service\nname: a\nendpoints: []\n", "job.yaml:3: endpoints: an empty list; write `[http://HOST:PORT]`"},
    {"kind: service\nname: a\nendpoints: [[http://a:1]]\n",
     "job.yaml:3: endpoints: a list stands where one value belongs; write `endpoints: VALUE`"},
    {"kind: service\nname: a\nendpoints: [http://a:1, https://b:1]\n",
     "job.yaml:3: endpoints: `https://b:1` is reached by TLS, which the gateway does not speak to servers yet; give an "
     "http address, as of a proxy beside it that does"},
    {"kind: service\nname: a\nendpoints: http://a:8000/v1\n",
     "job.yaml:3: endpoints: `http://a:8000/v1` goes on after the port, and paths are the clients' own; write "
     "http://HOST:PORT alone"},
    {"kind: service\nname: a\nendpoints: [" + many_endpoints(65) + "]\n",
     "job.yaml:3: endpoints: 65 servers, and 64 is the most; put a balancer before some of them"},
    {"kind: batch\nname: a\nrun: x\nslo: 1s\n",
     "job.yaml:4: slo: is of services; write `kind: service`, or leave it out"},
    {"kind: trainin\nname: a\nrun: x\n",
     "job.yaml:1: kind: `trainin` is no kind of work (did you mean `training`?); write training, batch, shell or "
     "service"},
    {"kind: [batch]\nname: a\nrun: x\n",
     "job.yaml:1: kind: a list stands where one value belongs; write `kind: VALUE`"},
    {head + "gpu: 4\n", "job.yaml:4: gpu: no such field (did you mean `gpus`?); docs/job-file.md lists them all"},
    {head + "colour: red\n", "job.yaml:4: colour: no such field; docs/job-file.md lists them all"},
    {head + "topology: {requires: pod}\n",
     "job.yaml:4: topology.requires: no such field (did you mean `require`?); docs/job-file.md lists them all"},
    {head + "checkpoint: {dirr: x}\n",
     "job.yaml:4: checkpoint.dirr: no such field (did you mean `dir`?); docs/job-file.md lists them all"},
    {head + "gpus: 1\ngpus: 2\n", "job.yaml:5: gpus: stands here and in line 4; remove one of them"},
    {head + "env: {A: 1, A: 2}\n", "job.yaml:4: env.A: stands here and in line 4; remove one of them"},
    {head + "gpus: [1]\n", "job.yaml:4: gpus: a list stands where one value belongs; write `gpus: VALUE`"},
    {head + "gpus: .nan\n",
     "job.yaml:4: gpus: `.nan` is no number of GPUs; write 4, 1..8, 0, or 0.5 for a part of one GPU"},
    {head + "gpus: -1\n",
     "job.yaml:4: gpus: `-1` is no number of GPUs; write 4, 1..8, 0, or 0.5 for a part of one GPU"},
    {head + "gpus: 1e9\n",
     "job.yaml:4: gpus: `1e9` is no number of GPUs; write 4, 1..8, 0, or 0.5 for a part of one GPU"},
    {head + "gpus: 1.5\n",
     "job.yaml:4: gpus: only parts of one GPU can be shared; write a whole number, or less than 1"},
    {head + "gpus: 0..4\n", "job.yaml:4: gpus: an elastic job needs at least one GPU; write 1..N"},
    {head + "gpus: 8..1\n",
     "job.yaml:4: gpus: `8..1` is no range from low to high; write 4, 1..8, 0, or 0.5 for a part of one GPU"},
    {head + "gpus: 99999999999999999999\n",
     "job.yaml:4: gpus: `99999999999999999999` is no number of GPUs; write 4, 1..8, 0, or 0.5 for a part of one GPU"},
    {head + "gpus: .inf\n",
     "job.yaml:4: gpus: `.inf` is no number of GPUs; write 4, 1..8, 0, or 0.5 for a part of one GPU"},
    {head + "gpus: ~\n", "job.yaml:4: gpus: nothing stands where one value belongs; write `gpus: VALUE`"},
    {head + "gpus: 1..\n",
     "job.yaml:4: gpus: `1..` is no range of GPUs; write 4, 1..8, 0, or 0.5 for a part of one GPU"},
    {head + "gpu_type: a100\n", "job.yaml:4: gpu_type: this fleet has no `a100`; it has cpu, h100"},
    {head + "cpus: -2\n", "job.yaml:4: cpus: `-2` is no number of CPUs; write 4 or 0.5"},
    {head + "cpus: lots\n", "job.yaml:4: cpus: `lots` is no number of CPUs; write 4 or 0.5"},
    {head + "memory: 16\n",
     "job.yaml:4: memory: `16` is no size; write a number with its unit, as 512MB, 16GB or 16GiB"},
    {head + "memory: 16gb\n",
     "job.yaml:4: memory: `16gb` is no size; write a number with its unit, as 512MB, 16GB or 16GiB"},
    {head + "memory: -1GB\n",
     "job.yaml:4: memory: `-1GB` is no size; write a number with its unit, as 512MB, 16GB or 16GiB"},
    {head + "memory: 999999999999TB\n",
     "job.yaml:4: memory: `999999999999TB` is more than any machine has; write less"},
    {head + "memory: .inf\n",
     "job.yaml:4: memory: `.inf` is no size; write a number with its unit, as 512MB, 16GB or 16GiB"},
    {head + "time: 90\n",
     "job.yaml:4: time: `90` is no time; write a number with its unit, as 30s, 90m, 2h, 1d or 1h30m"},
    {head + "time: 2 hours\n",
     "job.yaml:4: time: `2 hours` is no time; write a number with its unit, as 30s, 90m, 2h, 1d or 1h30m"},
    {head + "time: 0s\n", "job.yaml:4: time: `0s` is out of range; write 1s to 366d"},
    {head + "time: 999999999999d\n", "job.yaml:4: time: `999999999999d` is too long; a job may run a year"},
    {head + "time: -1h\n",
     "job.yaml:4: time: `-1h` is no time; write a number with its unit, as 30s, 90m, 2h, 1d or 1h30m"},
    {head + "time: .nan\n",
     "job.yaml:4: time: `.nan` is no time; write a number with its unit, as 30s, 90m, 2h, 1d or 1h30m"},
    {head + "time: 5000d\n", "job.yaml:4: time: `5000d` is out of range; write 1s to 366d"},
    {head + "topology: pod\n",
     "job.yaml:4: topology: a group of fields belongs here; write `topology: {require: ...}`"},
    {head + "topology: {require: galaxy}\n",
     "job.yaml:4: topology.require: `galaxy` is not known; write node, rack, pod, hall, site or fleet"},
    {head + "topology: {require: fleeet}\n",
     "job.yaml:4: topology.require: `fleeet` is not known (did you mean `fleet`?); write node, rack, pod, hall, site "
     "or fleet"},
    {head + "count: 0\n", "job.yaml:4: count: `0` is no number from 1 to 100000; write one"},
    {head + "count: 100001\n", "job.yaml:4: count: `100001` is no number from 1 to 100000; write one"},
    {head + "count: two\n", "job.yaml:4: count: `two` is no number from 1 to 100000; write one"},
    {head + "after: ['a b']\n",
     "job.yaml:4: after: `a b`: not a name that commands can take; use 1 to 63 letters, digits, `.`, `_` and `-`, the "
     "first a letter or digit"},
    {head + "after: " + names(101) + "\n",
     "job.yaml:4: after: 101 jobs, and 100 is the most; make them elements of one array, or put a job between"},
    {head + "mounts: [data]\n",
     "job.yaml:4: mounts: `data` is no mount; write `SOURCE:/TARGET` or `SOURCE:/TARGET:ro`"},
    {head + "mounts: ['a:/x/../../etc']\n",
     "job.yaml:4: mounts: `a:/x/../../etc` is no mount; write `SOURCE:/TARGET` or `SOURCE:/TARGET:ro`"},
    {head + "mounts: ['/proc:/x']\n",
     "job.yaml:4: mounts: `/proc` would show the job the machine's own processes and devices; mount another folder"},
    {head + "mounts: ['/dev/../:/x']\n",
     "job.yaml:4: mounts: `/dev/../` holds what no job may see; mount the folders in it that you need"},
    {head + "mounts: ['/var/lib/stargate/logs:/x']\n",
     "job.yaml:4: mounts: `/var/lib/stargate/logs` lies in the state folder, which no job sees; mount another folder"},
    {head + "mounts: ['a:/']\n",
     "job.yaml:4: mounts: a mount at `/` would hide what every job needs; choose another target, as /data"},
    {head + "mounts: ['a:/usr/']\n",
     "job.yaml:4: mounts: a mount at `/usr/` would hide what every job needs; choose another target, as /data"},
    {head + "mounts: ['a:/./lib64']\n",
     "job.yaml:4: mounts: a mount at `/./lib64` would hide what every job needs; choose another target, as /data"},
    {head + "mounts: ['a:/sys/fs/x:ro']\n",
     "job.yaml:4: mounts: nothing can be mounted at `/sys/fs/x`, which is the sandbox's own; choose another target, as "
     "/data"},
    {head + "mounts: ['a:/dev/']\n",
     "job.yaml:4: mounts: nothing can be mounted at `/dev/`, which is the sandbox's own; choose another target, as "
     "/data"},
    {head + "mounts: ['a:/var/lib/stargate']\n",
     "job.yaml:4: mounts: nothing can be mounted at `/var/lib/stargate`, which is the state folder; choose another "
     "target, as /data"},
    {head + "mounts: ['a:/data']\nsandbox: none\n",
     "job.yaml:4: mounts: are made by the sandbox, and `sandbox: none` has none; leave one of them out"},
    {head + "env: [A]\n", "job.yaml:4: env: a group of fields belongs here; write `env: {NAME: ...}`"},
    {head + "env: {1A: x}\n",
     "job.yaml:4: env.1A: not a variable's name; use letters, digits and `_`, the first no digit"},
    {head + "env: {STARGATE_RANK: 0}\n",
     "job.yaml:4: env.STARGATE_RANK: STARGATE_ names are given by Stargate; use another name"},
    {head + "env: {A: [1]}\n", "job.yaml:4: env.A: a variable is one text; write it in quotes"},
    {head + "sweep: [1]\n", "job.yaml:4: sweep: a group of fields belongs here; write `sweep: {NAME: ...}`"},
    {head + "sweep: {}\n", "job.yaml:4: sweep: holds no variable; write `{LR: [0.1, 0.01]}`"},
    {head + "sweep: {LR: 1}\n", "job.yaml:4: sweep.LR: no list of values; write `LR: [0.1, 0.01]`"},
    {head + "sweep: {LR: []}\n", "job.yaml:4: sweep.LR: no list of values; write `LR: [0.1, 0.01]`"},
    {head + "sweep: {LR: [[1]]}\n", "job.yaml:4: sweep.LR: no list of values; write `LR: [0.1, 0.01]`"},
    {head + "sweep: {l r: [1]}\n",
     "job.yaml:4: sweep.l r: not a variable's name; use letters, digits and `_`, the first no digit"},
    {head + "sweep: {LR: [1]}\ncount: 3\n",
     "job.yaml:4: sweep: says how many elements there are, and so does `count`; leave that out"},
    {head + "sweep: {LR: [1]}\nenv: {LR: 1}\n", "job.yaml:4: sweep.LR: stands in `env` too; leave it out of one"},
    {head + "checkpoint: {grace: 2d}\n", "job.yaml:4: checkpoint.grace: `2d` is out of range; write 0s to 1h"},
    {head + "retries: -1\n", "job.yaml:4: retries: `-1` is no number from 0 to 1000; write one"},
    {head + "ranks: per_cpu\n",
     "job.yaml:4: ranks: `per_cpu` is not known (did you mean `per_gpu`?); write per_gpu or per_node"},
    {head + "resize: maybe\n", "job.yaml:4: resize: `maybe` is not known; write restart or in_place"},
    {"kind: service\nname: a\nrun: x\nsandbox: strict\n",
     "job.yaml:4: sandbox: `strict` has no network, and a replica is asked over it; leave it out"},
    {head + "sandbox: off\n", "job.yaml:4: sandbox: `off` is no sandbox; write none, default or strict"},
    {head + "held: yes\n", "job.yaml:4: held: `yes` is neither true nor false; write one of them"},
    {head + "priority: high\n",
     "job.yaml:4: priority: `high` is no priority class; write opportunistic, research, production or serving"},
    {head + "priority: reserch\n",
     "job.yaml:4: priority: `reserch` is no priority class (did you mean `research`?); write opportunistic, research, "
     "production or serving"},
    {head + "command: [x]\n", "job.yaml:1: run: stands beside `command`; write one of them"},
    {"kind: batch\nname: a\ncommand: x y\n",
     "job.yaml:3: command: a command is a list of words; write `[python3, train.py]`, or `run:` for a shell"},
    {"kind: batch\nname: a\ncommand: []\n", "job.yaml:3: command: an empty command; write what to run"},
    {"kind: batch\nname: a\ncommand: [[x]]\n",
     "job.yaml:3: command: a command is a list of words; write `[python3, train.py]`"},
    {head + "image: ubuntu\n",
     "job.yaml:4: image: containers are not run by this version yet; leave it out and use `mounts` and `env`"},
    {"kind: batch\nname: a\nrun: []\n", "job.yaml:3: run: an empty command; write what to run"},
    {"kind: batch\nname: a\nrun: {x: y}\n",
     "job.yaml:3: run: a group of fields stands where one value belongs; write `run: VALUE`"},
    {"kind: batch\nname: a\nrun: [[x]]\n",
     "job.yaml:3: run: a command is a list of words; write `[python3, train.py]`"},
    {"kind: batch\nname: a b\nrun: x\n",
     "job.yaml:2: name: not a name that commands can take; use 1 to 63 letters, digits, `.`, `_` and `-`, the first a "
     "letter or digit"},
    {"kind: batch\nname: 123\nrun: x\n", "job.yaml:2: name: `123` would be taken for a job's id; put a letter in"},
    {"kind: batch\nname: -a\nrun: x\n",
     "job.yaml:2: name: not a name that commands can take; use 1 to 63 letters, digits, `.`, `_` and `-`, the first a "
     "letter or digit"},
    {"kind: batch\nname: " + std::string(64, 'a') + "\nrun: x\n",
     "job.yaml:2: name: a name of 64 letters; use 1 to 63 letters, digits, `.`, `_` and `-`, the first a letter or "
     "digit"},
    {"kind: batch\nname: \"a\\u0007\"\nrun: x\n",
     "job.yaml:2: name: not a name that commands can take; use 1 to 63 letters, digits, `.`, `_` and `-`, the first a "
     "letter or digit"},
    {"kind: batch\nname: \"\\0\"\nrun: x\n", "job.yaml:2: name: a NUL character; remove it"},
    {head + "env: {A: \"\\0\"}\n", "job.yaml:4: env.A: a NUL character; remove it"},
    {"a: &x [1]\nb: *x\n", "job.yaml:2: b: aliases (*name) are not taken; write the value out"},
    {"a: !!python/object x\n", "job.yaml:1: a: tags (tag:yaml.org,2002:python/object) are not taken; leave it out"},
    {"a: !t [x]\n", "job.yaml:1: a: tags (!t) are not taken; leave it out"},
    {head + "---\n" + head, "job.yaml:4: file: more than one document; write one job a file"},
    {deep(17), "job.yaml:1: a: nested deeper than 16 levels; no job file needs that"},
    {deep(100000), "job.yaml:1: a: nested deeper than 16 levels; no job file needs that"},
    {std::string(300000, 'x'), "job.yaml:1: file: larger than 256 KiB; no job file needs that"},
    {"kind: batch\nname: \xff\n", "job.yaml:2: file: not UTF-8; save the file as UTF-8"},
    {"kind: batch\nname: \xed\xa0\x80\n", "job.yaml:2: file: not UTF-8; save the file as UTF-8"},
    {"kind: batch\nname: a\x07\n", "job.yaml:2: file: a control character; remove it"},
    {std::string("kind: batch\n\0", 13), "job.yaml:2: file: a control character; remove it"},
    {"kind: batch\n\tname: a\n", "job.yaml:2: file: not YAML: a tab stands where spaces belong; indent with spaces"},
    {"kind: [batch\n",
     "job.yaml:1: file: not YAML: did not find expected ',' or ']' while parsing a flow sequence; check indentation, "
     "colons and quotes"},
    {"{a: b",
     "job.yaml:1: file: not YAML: did not find expected ',' or '}' while parsing a flow mapping; check indentation, "
     "colons and quotes"},
    {"kind: batch\nname: a\nrun: 'true\ncount: 1\n",
     "job.yaml:3: file: not YAML: found unexpected end of stream while scanning a quoted scalar; check indentation, "
     "colons and quotes"},
    {"? [a]\n: b\n", "job.yaml:1: file: a key must be a plain word; write `name: value`"},
    {many(30000), "job.yaml:1: a: more than 20000 values; no job file needs that many"},
    {"%TAG ! tag:x,2000:\n---\na: b\n", "job.yaml:3: kind: is missing; write `kind: training` or `kind: batch`"},
};

INSTANTIATE_TEST_SUITE_P(All, BadJobFile, testing::ValuesIn(bad));

}  // namespace
}  // namespace stargate::api
