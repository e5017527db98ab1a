// What the whole cluster shows: the bar at the top, the jobs, the taskmanagers with their slots, the notice that nothing answers.
import { address } from "./api.js";
import { h } from "./dom.js";
import { bytes, clock, count, duration } from "./format.js";

const ENDED = new Set(["FINISHED", "CANCELED", "FAILED"]);
const ENDED_SHOWN = 5;

export const isEnded = (state) => ENDED.has(state);

/** A state in words and colour. */
export function badge(state) {
  return h("span", { class: `badge ${state.toLowerCase()}` }, state);
}

const plural = (value, noun) => `${count(value)} ${noun}${value === 1 ? "" : "s"}`;

function waves() {
  return document.querySelector("#header svg").cloneNode(true);
}

/** view.overview: /overview, or null before its first answer. */
export function headerView({ overview, isReachable, config }) {
  const facts = overview === null ? [] : [
    h("span", { class: "fact" }, plural(overview["jobs-running"], "running job")),
    h("span", { class: "fact" }, plural(overview.taskmanagers, "taskmanager")),
    h("span", { class: overview["slots-available"] === 0 && overview["jobs-running"] > 0 ? "fact scarce" : "fact" },
      `${count(overview["slots-available"])} of ${plural(overview["slots-total"], "slot")} free`),
  ];
  const version = config === null ? null : `speaks Flink ${config["flink-version"]}, build ${config["flink-revision"].split(" ")[0]}`;
  return h("div", { class: "bar" },
    h("a", { class: "brand", href: "#/", title: version }, waves(), "Millrace"),
    h("div", { class: "facts" }, facts),
    h("span", { class: isReachable ? "live" : "live lost" }, isReachable ? "live" : "no connection"));
}

/** The notice for a jobmanager that does not answer, or refuses. trouble: {reason, isAnswer, since_ms, retry_ms}, or null. */
export function troubleView(trouble, hasData, now_ms) {
  if (trouble === null)
    return null;
  const wait_s = Math.max(0, Math.ceil((trouble.retry_ms - now_ms) / 1000));
  return h("div", { class: "notice", "data-key": "trouble" },
    h("strong", null, `The jobmanager at ${address()} ${trouble.isAnswer ? "answers with an error" : "cannot be reached"}`),
    ` (${trouble.reason}) since ${clock(trouble.since_ms)}. `,
    hasData ? "What you see below is what it said last. " : "",
    h("span", { class: "wait", "aria-hidden": "true" }, wait_s > 0 ? `Trying again in ${wait_s} s. ` : "Trying now. "),
    h("button", { type: "button", "data-action": "retry" }, "Try now"));
}

/* ---- jobs ---- */

function jobRow(job, selected, now_ms) {
  const { tasks } = job;
  const isGone = isEnded(job.state);
  const length_ms = (isGone ? job["end-time"] : now_ms) - job["start-time"];
  return h("tr", { "data-key": job.jid, class: job.jid === selected ? "selected" : null },
    h("td", { class: "name" }, h("a", { href: `#/jobs/${job.jid}`, title: job.name, "aria-current": job.jid === selected ? "true" : null }, job.name)),
    h("td", null, badge(job.state)),
    h("td", { class: "wide" }, isGone ? plural(tasks.total, "task") : `${count(tasks.running)} of ${count(tasks.total)} running`),
    h("td", { class: "wide" }, clock(job["start-time"])),
    h("td", { class: "number" }, duration(length_ms)),
    h("td", { class: "wide id" }, job.jid));
}

function group(title, jobs, view, more) {
  return [h("tbody", { "data-key": title },
    h("tr", { class: "group" }, h("th", { scope: "rowgroup", colspan: 6 }, title)),
    jobs.map((job) => jobRow(job, view.selected, view.now_ms)),
    more ? h("tr", { "data-key": "more" }, h("td", { colspan: 6 }, more)) : null)];
}

function command(text) {
  return h("div", { class: "command" }, h("code", null, text),
    h("button", { type: "button", "data-action": "copy", "data-text": text, "aria-label": `Copy: ${text}` }, "Copy"));
}

function noJobs(overview) {
  const where = address();
  return h("div", { class: "card empty" },
    h("h2", null, "No jobs yet"),
    overview.taskmanagers === 0 ? h("p", null, "There is no taskmanager either, so a job would wait for slots. Start one first:") : null,
    overview.taskmanagers === 0 ? command("taskmanager --config config.yaml") : null,
    h("p", null, "Submit a program to this jobmanager with the command line:"),
    command(`flink run -d -m ${where} ClickCountJob.so --bootstrap.servers kafka:9092 --checkpointing --event-time`),
    h("p", null, "In the playground with docker-compose:"),
    command("docker-compose run --no-deps client flink run -d /opt/ClickCountJob.so --bootstrap.servers kafka:9092 --checkpointing --event-time"),
    h("p", null, "Or see everything at once, without Kafka, from the source tree: ", h("code", null, "make demo")));
}

/** view: {jobs: of /jobs/overview, selected, overview, now_ms, isEndedOpen}. */
export function jobsView(view) {
  const { jobs, selected, overview, isEndedOpen } = view;
  if (jobs.length === 0)
    return overview === null ? [] : [noJobs(overview)];
  const newest = [...jobs].sort((a, b) => b["start-time"] - a["start-time"]);
  const running = newest.filter((job) => !isEnded(job.state));
  const ended = newest.filter((job) => isEnded(job.state)).sort((a, b) => b["end-time"] - a["end-time"]);
  const shown = isEndedOpen ? ended : ended.filter((job, i) => i < ENDED_SHOWN || job.jid === selected);
  const more = shown.length === ended.length ? null
    : h("button", { type: "button", class: "plain", "data-action": "all-ended" }, `Show all ${count(ended.length)} ended jobs`);
  const names = [["Job", "name"], ["State", "state"], ["Tasks", "wide"], ["Started", "wide"], ["Duration", "number"], ["Id", "wide"]];
  return [h("div", { class: "card" }, h("table", { class: "jobs" },
    h("thead", null, h("tr", null, names.map(([name, kind]) => h("th", { scope: "col", class: kind }, name)))),
    running.length > 0 ? group("Running", running, view) : null,
    ended.length > 0 ? group("Ended", shown, view, more) : null))];
}

/* ---- taskmanagers ---- */

function slots(taskmanager) {
  const used = taskmanager.slotsNumber - taskmanager.freeSlots;
  const label = `${used} of ${plural(taskmanager.slotsNumber, "slot")} in use`;
  // Beyond that, squares say less than the numbers.
  const squares = taskmanager.slotsNumber > 32 ? [] :
    Array.from({ length: taskmanager.slotsNumber }, (_, i) => h("span", { class: i < used ? "slot used" : "slot" }));
  return h("td", { class: "slots" }, h("span", { class: "squares", "aria-hidden": "true" }, squares), h("span", null, label));
}

function taskmanagerRow(taskmanager, now_ms) {
  const silent_ms = Math.max(0, now_ms - taskmanager.timeSinceLastHeartbeat);
  const { hardware } = taskmanager;
  return h("tr", { "data-key": taskmanager.id },
    h("td", { class: "name" }, taskmanager.id),
    slots(taskmanager),
    h("td", { class: "wide" }, plural(hardware.cpuCores, "core")),
    h("td", { class: "wide" }, `${bytes(hardware.freeMemory)} of ${bytes(hardware.physicalMemory)} memory free`),
    h("td", { class: silent_ms > 30_000 ? "wide late" : "wide" }, `heard of ${duration(silent_ms)} ago`),
    h("td", { class: "number" }, h("button", { type: "button", class: "plain", "data-action": "log", "data-path": `taskmanagers/${taskmanager.id}/log`,
      "data-title": `Log of taskmanager ${taskmanager.id}` }, "Log")));
}

/** taskmanagers: of /taskmanagers, or null before its first answer. hasJobs: otherwise the page says already how to start one. */
export function taskmanagersView(taskmanagers, hasJobs, now_ms) {
  if (taskmanagers === null)
    return [];
  const head = h("div", { class: "head" }, h("h2", null, "Taskmanagers"),
    h("button", { type: "button", class: "plain", "data-action": "log", "data-path": "jobmanager/log", "data-title": "Log of the jobmanager" },
      "Log of the jobmanager"));
  if (taskmanagers.length === 0) {
    return [h("div", { class: "card" }, head,
      h("p", null, hasJobs ? "No taskmanager has registered, so no job can run. Start one that knows this jobmanager's address:"
        : "None has registered yet."),
      hasJobs ? command("taskmanager --config config.yaml") : null)];
  }
  const sorted = [...taskmanagers].sort((a, b) => a.id.localeCompare(b.id, "en", { numeric: true }));
  return [h("div", { class: "card" }, head, h("table", { class: "taskmanagers" },
    h("thead", { class: "hidden" }, h("tr", null, ["Taskmanager", "Slots", "Cores", "Memory", "Last heartbeat", "Log"]
      .map((name) => h("th", { scope: "col" }, name)))),
    h("tbody", null, sorted.map((taskmanager) => taskmanagerRow(taskmanager, now_ms)))))];
}
