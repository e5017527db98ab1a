// The selected job: its title and buttons, the answer to "why is nothing coming out?", one vertex in detail, exceptions.
import { badge, isEnded } from "./cluster.js";
import { h } from "./dom.js";
import { bytes, clock, count, duration, percent, watermark } from "./format.js";

/* ---- title and buttons ---- */

function button(action, text, reason, extra) {
  return h("button", { type: "button", class: extra, "data-action": action, disabled: reason !== null, title: reason }, text);
}

/** job: /jobs/:id. canCancel: the feature web-cancel of /config. */
export function titleView(job, now_ms, canCancel) {
  const ended = isEnded(job.state);
  const length_ms = ended ? job["end-time"] - job["start-time"] : now_ms - job["start-time"];
  const notNow = ended ? `The job has ended: ${job.state}` : job.state === "CANCELLING" ? "The job is being cancelled" : null;
  const notHere = canCancel ? null : "The configuration forbids it here (web.cancel.enable: false)";
  return h("div", { class: "title" },
    h("div", null,
      h("h1", null, h("span", { class: "called", title: job.name }, job.name), " ", badge(job.state)),
      h("p", { class: "quiet" }, ended ? `ran for ${duration(length_ms)}, ended ${clock(job["end-time"])}`
        : `for ${duration(length_ms)}, since ${clock(job["start-time"])}`, " · ", h("span", { class: "id" }, job.jid),
      job.booksBalance === false ? h("strong", { class: "bad" }, " · the row counts of its operators do not add up") : null)),
    ended ? null : h("div", { class: "buttons" },
      button("savepoint", "Savepoint…", notNow),
      button("stop", "Stop…", notNow ?? notHere),
      button("cancel", "Cancel…", notNow ?? notHere, "danger")));
}

/* ---- diagnosis ---- */

const SIGNS = { error: "✕", warning: "!", info: "i" };
const SEVERITIES = { error: "Error", warning: "Warning", info: "Note" };
const severityOf = (finding) => finding.severity in SIGNS ? finding.severity : "info";

/** The worst finding of each vertex, for marks in the graph. */
export function faultsByVertex(diagnosis) {
  const faults = new Map();
  for (const finding of diagnosis?.findings ?? []) {
    const vertex = finding.subject?.vertex;
    if (vertex && !faults.has(vertex)) // worst first
      faults.set(vertex, { severity: severityOf(finding), sentence: finding.sentence });
  }
  return faults;
}

const plain = (value) => typeof value === "object" && value !== null ? JSON.stringify(value) : String(value);

/** What belongs to a finding's sentence: what to do, where, why. */
function particulars(finding, job) {
  const { subject = {}, evidence = {}, hint } = finding;
  const known = Object.entries(evidence ?? {});
  const place = subject?.vertex ? h("a", { href: `#/jobs/${job}/${subject.vertex}` }, `Show ${subject["vertex-name"] ?? "the box"}`) : null;
  return [
    h("p", null, [hint ? `What to do: ${hint}. ` : "", place]),
    known.length > 0 ? h("details", { "data-key": "evidence" }, h("summary", null, "What this is based on"),
      h("dl", { class: "evidence" }, known.map(([name, value]) => [h("dt", null, name), h("dd", null, plain(value))]))) : null];
}

function findingView(finding, job) {
  const { subject = {} } = finding;
  const severity = severityOf(finding);
  return h("li", { class: `finding ${severity}`, "data-key": `${finding.kind} ${subject?.vertex} ${subject?.subtask} ${subject?.split}`,
    "data-kind": finding.kind },
  h("span", { class: "sign", "aria-hidden": "true" }, SIGNS[severity]),
  h("div", null,
    h("p", null, h("span", { class: "hidden" }, `${SEVERITIES[severity]}: `), h("strong", null, finding.sentence)),
    particulars(finding, job)));
}

/** diagnosis: /jobs/:id/diagnosis; null before its first answer. */
export function diagnosisView(diagnosis, job) {
  if (diagnosis === null)
    return [];
  const findings = diagnosis.findings ?? [];
  const worst = diagnosis.healthy ? "healthy" : findings.length > 0 ? severityOf(findings[0]) : "info";
  // The summary is mostly the worst finding's own sentence: not twice.
  const isFirst = findings.length > 0 && findings[0].sentence === diagnosis.summary;
  const rest = isFirst ? findings.slice(1) : findings;
  return [h("div", { class: `card diagnosis ${worst}` },
    h("h2", null, "Why is nothing coming out?"),
    h("div", { class: "summary", "data-kind": isFirst ? findings[0].kind : null },
      h("span", { class: "sign", "aria-hidden": "true" }, diagnosis.healthy ? "✓" : SIGNS[worst]),
      h("div", null, h("p", null, h("strong", null, diagnosis.summary)), isFirst ? particulars(findings[0], job) : null)),
    rest.length > 0 ? h("ul", { class: "findings" }, rest.map((finding) => findingView(finding, job))) : null)];
}

/* ---- one vertex ---- */

function subtaskRow(subtask, detail, now_ms) {
  const ratios = detail.backpressure?.subtasks?.find((entry) => entry.subtask === subtask.subtask);
  const mark = detail.watermarks?.find((entry) => entry.id === `${subtask.subtask}.currentInputWatermark`);
  const { metrics } = subtask;
  const cells = [
    String(subtask.subtask), badge(subtask.status), String(subtask.attempt), subtask["taskmanager-id"] ?? subtask.host,
    count(metrics["read-records"]), count(metrics["write-records"]), bytes(metrics["write-bytes"]),
    ratios ? percent(ratios.busyRatio) : "–", ratios ? percent(ratios.ratio) : "–", ratios ? percent(ratios.idleRatio) : "–",
    mark ? watermark(Number(mark.value), now_ms, null, 0).text.replace(/^watermark /, "") : "–"];
  return h("tr", { "data-key": subtask.subtask }, cells.map((cell) => h("td", null, cell)));
}

/** detail: {vertex: /jobs/:id/vertices/:id, backpressure, watermarks} or null while it is fetched. */
export function vertexView(detail, job, now_ms) {
  if (detail === null)
    return [];
  const { vertex } = detail;
  const head = ["Subtask", "State", "Attempt", "Taskmanager", "Rows in", "Rows out", "Sent", "Busy", "Back-pressured", "Idle", "Watermark in"];
  return [h("div", { class: "card vertex", "data-key": vertex.id },
    h("div", { class: "head" }, h("h2", null, vertex.name),
      h("a", { class: "close", href: `#/jobs/${job}`, "aria-label": `Close the subtasks of ${vertex.name}` }, "Close")),
    h("div", { class: "scroll" }, h("table", { class: "subtasks" },
      h("thead", null, h("tr", null, head.map((name) => h("th", { scope: "col" }, name)))),
      h("tbody", null, vertex.subtasks.map((subtask) => subtaskRow(subtask, detail, now_ms))))))];
}

/* ---- exceptions ---- */

// Storeys that only say that the job was not restarted, or that a call had a result.
const WRAPPERS = /Recovery is suppressed|CompletionException/;

/** What went wrong in one line: the outermost storey that says something, without the packages of its class. */
function reason(text) {
  const storeys = text.split("\n").filter((line, i) => i === 0 || line.startsWith("Caused by: "));
  const first = storeys.find((line) => !WRAPPERS.test(line)) ?? storeys[0];
  return first.replace(/^Caused by: /, "").replace(/^(?:[a-z]\w*\.)+(?=[A-Z])/, "");
}

function exceptionView(entry, index) {
  const where = [entry.taskName, entry.location].filter(Boolean).join(" on ");
  return h("li", { "data-key": `${entry.timestamp} ${entry.taskName ?? ""}` },
    h("details", { open: index === 0 },
      h("summary", null, h("time", null, clock(entry.timestamp)), " ", h("strong", null, reason(entry.stacktrace))),
      where ? h("p", { class: "quiet" }, where) : null,
      h("pre", { tabindex: "0" }, entry.stacktrace.trimEnd())));
}

/** exceptions: /jobs/:id/exceptions or null. */
export function exceptionsView(exceptions) {
  const entries = exceptions?.exceptionHistory?.entries ?? [];
  return [
    h("div", { class: "head" }, h("h2", null, "Exceptions"), entries.length > 0 ? h("span", { class: "quiet" }, "newest first") : null),
    exceptions === null ? null : entries.length === 0 ? h("p", { class: "quiet" }, "None.")
      : h("ul", { class: "exceptions" }, entries.map(exceptionView)),
    exceptions?.exceptionHistory?.truncated ? h("p", { class: "quiet" }, "There are more, which are older.") : null];
}
