"use strict";
// The page: what the API's reads say, kept fresh by its stream of events. Everything is set as text, never as HTML.

const $ = (id) => document.getElementById(id);
const SHOWN = 200; // rows of a table
const EVENTS_SHOWN = 100;

function element(tag, { text, title, className, ...rest } = {}, ...children) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (title) made.title = title;
  if (className) made.className = className;
  Object.assign(made, rest);
  made.append(...children.filter(Boolean));
  return made;
}

// --- The API ---------------------------------------------------------------------------------------------------------

class Refused extends Error {
  constructor(status, error) {
    super(error ? `${error.message}; ${error.remedy}` : `the control plane answered ${status}`);
    this.status = status;
  }
}

let session = null; // of who is signed in: the token, and what stops all that was asked with it

// `as`: a session that is not begun yet. What an earlier one is still refused says nothing of this one's token.
async function ask(path, { method = "GET", signal, as = session } = {}) {
  const reply = await fetch(path, {
    method, signal: signal ?? as?.stop.signal, cache: "no-store", headers: { Authorization: `Bearer ${as?.token ?? ""}` },
  });
  if (reply.ok) return reply;
  let error;
  try { ({ error } = await reply.json()); } catch { /* not of ours: its status has to do */ }
  const refused = new Refused(reply.status, error);
  if (reply.status === 401 && session && as === session) leave(refused.message);
  throw refused;
}

const read = async (path) => (await ask(path)).json();
const job_path = (id) => `/api/v1/jobs/${encodeURIComponent(id)}`;

// --- Words -----------------------------------------------------------------------------------------------------------

const REASONS = {
  held: "held", dependency: "waits for other jobs", backing_off: "tries again after a failure", tenant_quota: "tenant's quota",
  no_gpus: "no free GPUs", fragmented: "free GPUs are apart", no_cpus: "no free CPUs", no_memory: "no free memory",
  reserved_for_other: "room is reserved for others", claim_pending: "its GPUs are being freed", behind_same: "behind one like it",
  pass_bound: "not looked at yet", node_down: "its node is away", not_needed: "not needed now",
};

function span(microseconds) {
  const seconds = Math.max(0, Math.round(microseconds / 1e6));
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ${Math.floor(seconds / 60) % 60} min`;
  return `${Math.floor(seconds / 86400)} d ${Math.floor(seconds / 3600) % 24} h`;
}

const ago = (instant) => (instant === null ? "" : span(Date.now() * 1000 - instant));
const clock = (instant) => new Date(instant / 1000).toLocaleTimeString([], { hour12: false });
const several = (count, word) => `${count} ${word}${count === 1 ? "" : "s"}`;
const state_of = (job) => element("span", { className: `state ${job.state}`, text: job.state });

// --- Tables ----------------------------------------------------------------------------------------------------------

// `columns`: [head, cell(row), class]. Nothing is touched while the rows are as they were.
const drawn = new Map();
function draw_table(id, columns, rows) {
  const now = JSON.stringify([columns.map(([head]) => head), rows]);
  if (drawn.get(id) === now) return;
  drawn.set(id, now);
  const table = $(id);
  const head = element("tr", {}, ...columns.map(([text, , className]) => element("th", { text, className })));
  table.tHead.replaceChildren(...(rows.length ? [head] : []));
  table.tBodies[0].replaceChildren(...rows.map((row) => element("tr", {}, ...columns.map(([, cell, className]) => {
    const made = cell(row);
    return made instanceof Node ? element("td", { className }, made) : element("td", { className, text: made ?? "" });
  }))));
}

const NAME = ["name", (job) => element("button", { text: job.name, title: `job ${job.id}`, onclick: () => open_job(job.id) })];
const TENANT = ["tenant", (job) => job.tenant, "wide"];
const GPUS = ["GPUs", (job) => job.gpus, "number"];
const STATE = ["state", state_of];
const VIEWS = {
  waiting: {
    query: "state=waiting", none: "Nothing waits.",
    columns: [NAME, ["reason", (job) => REASONS[job.reason] ?? job.reason], GPUS, TENANT, ["class", (job) => job.priority, "wide"],
      ["waits", (job) => ago(job.submitted_at), "number"]],
  },
  running: {
    query: "active=1", keep: (job) => job.state !== "waiting", none: "Nothing runs.",
    columns: [NAME, STATE, GPUS, TENANT, ["step", (job) => (job.step < 0 ? "" : job.step), "number wide"],
      ["runs", (job) => ago(job.started_at), "number"]],
  },
  ended: {
    query: "", keep: (job) => job.ended_at !== null, none: "Nothing has ended yet.",
    columns: [NAME, STATE, ["how", (job) => job.detail || `exit ${job.exit_status}`, "wide"], GPUS, TENANT,
      ["ended", (job) => `${ago(job.ended_at)} ago`, "number"]],
  },
  mine: {
    query: "mine=1", none: "You have handed in nothing yet: stargate submit FILE.",
    columns: [NAME, STATE, ["reason", (job) => REASONS[job.reason] ?? job.reason ?? job.detail, "wide"], GPUS,
      ["handed in", (job) => `${ago(job.submitted_at)} ago`, "number"]],
  },
};
let view = "waiting";

async function draw_jobs(of) {
  if (of !== view) return;
  const { query, keep, none, columns } = VIEWS[of];
  const all = await read(`/api/v1/jobs?limit=${keep ? 5 * SHOWN : SHOWN}${query && "&" + query}`);
  if (of !== view) return; // another was chosen meanwhile
  const rows = (keep ? all.filter(keep) : all).slice(0, SHOWN);
  draw_table("jobs", columns, rows);
  $("jobs-none").textContent = rows.length ? (rows.length === SHOWN ? `The newest ${SHOWN}.` : "") : none;
}

async function draw_sums() {
  const text = await (await ask("/metrics")).text();
  const value = (name) => Number(text.match(new RegExp(`^${name.replace(/[{}]/g, "\\$&")} (\\S+)$`, "m"))?.[1] ?? 0);
  const jobs = (state) => value(`stargate_jobs{state="${state}"}`);
  $("jobs-sum").textContent = `${jobs("waiting")} waiting, ${jobs("running")} running`;
}

// --- Fleet, services, events -----------------------------------------------------------------------------------------

async function draw_fleet() {
  const nodes = await read("/api/v1/fleet");
  const now = JSON.stringify(nodes);
  if (drawn.get("fleet") === now) return;
  drawn.set("fleet", now);
  const named = nodes.length <= 40;
  const total = { gpus: 0, free: 0 };
  $("fleet").replaceChildren(...nodes.map((node) => {
    total.gpus += node.gpus;
    total.free += node.gpus_free;
    const parts = [["training", node.gpus_leased - node.gpus_claimed], ["claimed", node.gpus_claimed], ["foreign", node.gpus_foreign]];
    const bar = element("b", {}, ...parts.map(([className, gpus]) => {
      const piece = element("i", { className });
      piece.style.width = node.gpus > 0 ? `${(100 * Math.max(gpus, 0)) / node.gpus}%` : "0";
      return piece;
    }));
    const words = `${node.name}: ${node.gpus_free} of ${several(node.gpus, "GPU")} free` +
      (node.state === "up" ? "" : `, ${node.state}`) + (node.reason ? ` (${node.reason})` : "");
    const label = named && element("span", { text: `${words}; type ${node.gpu_type}, ${several(node.jobs.length, "job")}` });
    return element("div", { className: `node${named ? " named" : ""}${node.state === "up" ? "" : " away"}`, title: words }, bar, label);
  }));
  $("fleet-sum").textContent = `${several(nodes.length, "node")}, ${total.free} of ${several(total.gpus, "GPU")} free`;
}

async function draw_services() {
  const services = await read("/api/v1/services");
  $("services-none").hidden = services.length > 0;
  draw_table("services", [
    ["name", (row) => element("button", { text: row.name, onclick: () => open_job(row.id) })],
    ["serving", (row) => `${row.serving} of ${row.wanted}`, "number"],
    ["range", (row) => `${row.min} to ${row.max}`, "number wide"],
    ["asleep", (row) => row.asleep, "number"],
    ["demand", (row) => row.demand ?? "unknown", "number"],
    ["GPUs on loan", (row) => row.lent_gpus, "number"],
    ["", (row) => (row.trouble ? row.trouble : row.over_limit ? "waits too long" : ""), ""],
  ], services);
}

const EVENTS = {
  submitted: (e) => `${e.spec.name} handed in (job ${e.first}${e.count > 1 ? ` to ${e.first + e.count - 1}` : ""})`,
  started: (e) => `job ${e.job} starts`,
  running: (e) => `attempt ${e.attempt} runs`,
  warned: (e) => `attempt ${e.attempt} is warned: ${e.ending.cause}`,
  resized: (e) => `attempt ${e.attempt} has ${e.gpus} GPUs, ${e.gpus_before} before`,
  progressed: (e) => `attempt ${e.attempt} has come to step ${e.step}`,
  ended: (e) => `job ${e.job} ${e.outcome}`,
  requeued: (e) => `job ${e.job} waits again`,
  lent: (e) => `job ${e.lender} lends ${several(e.gpus, "GPU")} to replica ${e.borrower}`,
  returned: (e) => `replica ${e.borrower} gives ${several(e.gpus, "GPU")} back to job ${e.lender}`,
  scaled: (e) => `service ${e.service} is to have ${several(e.awake, "replica")} awake (${e.why})`,
  woken: (e) => `replica ${e.job} wakes`,
  ready: (e) => `replica ${e.job} serves`,
  seated: (e) => `replica ${e.job} sleeps`,
};

function show_event(event) {
  const words = EVENTS[event.type]?.(event) ?? [event.type.replaceAll("_", " "), event.job ? `job ${event.job}` : "",
    event.attempt ? `attempt ${event.attempt}` : ""].filter(Boolean).join(", ");
  const time = element("time", { text: clock(event.at) });
  const last = $("events").firstChild; // of steps that come one after another the newest is enough
  if (event.type === "progressed" && last?.dataset.step === String(event.attempt)) last.remove();
  const line = element("li", { title: `${event.type}, by ${event.cause}` }, time, words);
  if (event.type === "progressed") line.dataset.step = event.attempt;
  $("events").prepend(line);
  while ($("events").children.length > EVENTS_SHOWN) $("events").lastChild.remove();
}

// --- One job ---------------------------------------------------------------------------------------------------------

let opened = 0; // the job whose window is open
let output = null; // stops the stream of its output

async function open_job(id) {
  opened = id;
  for (const part of ["job-title", "job-facts", "job-why", "job-acts", "job-said", "job-out"]) $(part).replaceChildren();
  $("job").showModal();
  try {
    await draw_job();
  } catch (error) {
    if (opened === id) $("job-said").textContent = error.message;
    return;
  }
  if (opened === id) follow_output(id); // it may have been closed meanwhile, and another opened
}

async function draw_job() {
  const id = opened;
  const [job, why] = await Promise.all([read(job_path(id)), read(`${job_path(id)}/why`).catch(() => null)]);
  if (id !== opened) return;
  $("job-title").textContent = `${job.name}, job ${job.id}`;
  const facts = [
    ["state", job.state + (job.reason ? `: ${REASONS[job.reason] ?? job.reason}` : "")],
    ["how it ended", job.ended_at === null ? "" : job.detail || `exit status ${job.exit_status}`],
    ["GPUs", `${job.gpus} (asked for ${job.gpus_min === job.gpus_max ? job.gpus_min : `${job.gpus_min} to ${job.gpus_max}`})`],
    ["tenant, class", `${job.tenant}, ${job.priority}`],
    ["on", job.nodes.join(", ")],
    ["attempt", job.attempt ? `${job.attempt}, generation ${job.generation}, ${several(job.failures, "failure")}` : ""],
    ["step", job.step < 0 ? "" : String(job.step)],
    ["handed in", new Date(job.submitted_at / 1000).toLocaleString()],
  ];
  $("job-facts").replaceChildren(...facts.filter(([, text]) => text)
    .flatMap(([name, text]) => [element("dt", { text: name }), element("dd", { text })]));
  const reasons = why?.reasons ?? [];
  $("job-why").replaceChildren(...(reasons.length ? [element("h3", { text: "Why it waits" }), element("ul", {},
    ...reasons.map((reason) => element("li", { text: `${reason.message}; ${reason.remedy}` })))] : []));
  const acts = job.ended_at !== null ? [] : job.state !== "waiting" ? ["cancel"] : job.held ? ["release", "cancel"] : ["hold", "cancel"];
  $("job-acts").replaceChildren(...acts.map((verb) => element("button", {
    text: verb[0].toUpperCase() + verb.slice(1), onclick: () => act(job, verb),
  })));
}

async function act(job, verb) {
  if (verb === "cancel" && !confirm(`End ${job.name} (job ${job.id})?`)) return;
  try {
    await ask(`${job_path(job.id)}/${verb}`, { method: "POST" });
    $("job-said").textContent = "";
  } catch (error) {
    $("job-said").textContent = error.message;
  }
  keep.job();
}

const MOST_OUTPUT = 200_000; // characters kept

async function follow_output(id) {
  output?.abort();
  const stop = (output = new AbortController());
  const out = $("job-out");
  out.textContent = "";
  try {
    const reply = await ask(`${job_path(id)}/logs?follow=1`, { signal: stop.signal });
    for await (const piece of pieces_of(reply)) {
      if (stop.signal.aborted) return;
      const at_end = out.scrollTop + out.clientHeight >= out.scrollHeight - 4;
      out.textContent = (out.textContent + piece).slice(-MOST_OUTPUT);
      if (at_end) out.scrollTop = out.scrollHeight;
    }
  } catch (error) {
    if (!stop.signal.aborted && error instanceof Refused) out.textContent = error.message;
  }
}

async function* pieces_of(reply) {
  const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    yield value;
  }
}

// --- Keeping it fresh ------------------------------------------------------------------------------------------------

const NEVER_MORE_OFTEN = 100; // ms between two looks at the same thing
const CHEAP = 20; // ms that drawing may take for that
const HIDDEN = () => document.visibilityState === "hidden";

// Draws soon after it is told to, and then not before a pause of twice what drawing took: a slow link is not flooded. What
// was not cheap to draw has to wait for `when_dear` ms: the control plane has others to answer.
function keeper(draw, at_least, when_dear = at_least) {
  let stale = false;
  let busy = false;
  return async function again() {
    stale = true;
    if (busy || HIDDEN()) return;
    busy = true;
    while (stale && session) {
      stale = false;
      const begun = performance.now();
      try { await draw(); } catch { /* it is away, or one is signed out: the next time will do */ }
      const took = performance.now() - begun;
      await new Promise((go) => setTimeout(go, Math.max(took < CHEAP ? at_least : when_dear, 2 * took)));
    }
    busy = false;
  };
}

// One for each view, so that a view that is chosen does not wait for the one before. The queue is what has to be fresh.
const keep_view = Object.fromEntries(Object.keys(VIEWS).map((name) =>
  [name, keeper(() => draw_jobs(name), NEVER_MORE_OFTEN, name === "waiting" ? NEVER_MORE_OFTEN : 1000)]));
const keep = {
  jobs: () => keep_view[view](), sums: keeper(draw_sums, 1000), fleet: keeper(draw_fleet, 500),
  services: keeper(draw_services, 500), job: keeper(async () => { if ($("job").open) await draw_job(); }, NEVER_MORE_OFTEN),
};
const all_again = () => Object.values(keep).forEach((again) => again());

async function follow_events(signal) {
  let next = 0; // not known yet
  let pause = 250;
  while (!signal.aborted) {
    try {
      next ||= Math.max(1, (await read("/api/v1/info")).last_fact - EVENTS_SHOWN);
      const reply = await ask(`/api/v1/events?follow=1&format=jsonl&from=${next}`, { signal });
      $("link").textContent = "live";
      $("link").className = "on";
      all_again();
      let rest = "";
      for await (const piece of pieces_of(reply)) {
        pause = 250;
        const lines = (rest + piece).split("\n");
        rest = lines.pop();
        const events = lines.filter((line) => line.trim()).map((line) => JSON.parse(line));
        if (events.length === 0) continue;
        next = events.at(-1).seq + 1;
        all_again();
        events.slice(-EVENTS_SHOWN).forEach(show_event);
      }
    } catch { /* broken off, or never there */ }
    if (signal.aborted) return;
    $("link").textContent = "the control plane is away";
    $("link").className = "off";
    await new Promise((go) => setTimeout(go, pause));
    pause = Math.min(2 * pause, 5000);
  }
}

// The token lies in this tab's storage, and goes with it.
async function enter(token) {
  const as = { token, stop: new AbortController() };
  let caller;
  try {
    caller = await (await ask("/api/v1/whoami", { as })).json();
  } catch (error) {
    if (!session) leave(error.message);
    return;
  }
  if (session) return; // asked twice
  $("who").textContent = `${caller.operator ? "operator" : `uid ${caller.uid}`}${caller.runs_as ? `, jobs run as ${caller.runs_as}` : ""}`;
  session = as;
  sessionStorage.setItem("stargate-token", token);
  $("login").hidden = true;
  $("token").value = "";
  $("all").hidden = $("leave").hidden = false;
  all_again();
  follow_events(as.stop.signal);
}

function leave(why = "") {
  session?.stop.abort();
  session = null;
  output?.abort();
  if ($("job").open) $("job").close();
  sessionStorage.removeItem("stargate-token");
  $("login").hidden = false;
  $("all").hidden = $("leave").hidden = true;
  $("who").textContent = "";
  $("events").replaceChildren();
  $("link").textContent = "not connected";
  $("link").className = "off";
  $("refusal").textContent = why;
  $("token").value = "";
}

$("login").addEventListener("submit", (event) => {
  event.preventDefault();
  enter($("token").value.trim());
});
$("leave").addEventListener("click", () => leave());
$("views").addEventListener("click", ({ target }) => {
  if (!target.dataset.view) return;
  view = target.dataset.view;
  for (const tab of $("views").children) tab.setAttribute("aria-selected", String(tab === target));
  keep.jobs();
});
$("job").addEventListener("close", () => { output?.abort(); opened = 0; });
document.addEventListener("visibilitychange", () => { if (session && !HIDDEN()) all_again(); });
setInterval(() => { if (session) { drawn.delete("jobs"); keep.jobs(); } }, 10_000); // ages go on

const remembered = sessionStorage.getItem("stargate-token");
if (remembered) enter(remembered); else leave();
