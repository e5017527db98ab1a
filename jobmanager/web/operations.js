// What a person asks a job for: savepoint, stop, cancel. Asks back first, then follows the request until the jobmanager tells
// its end; what becomes of it stays on the page, also when that is loaded again.
import { ApiError, address, get, send, text } from "./api.js";
import { h } from "./dom.js";
import { duration } from "./format.js";

const STORE = "millrace-operations";
const POLL_MS = 400;
const LOG_CHARACTERS = 100_000;
const dialog = document.getElementById("dialog");

let operations = JSON.parse(sessionStorage.getItem(STORE) ?? "[]");
let changed = () => {};
let timer = 0;

function save() {
  operations = operations.slice(-30);
  sessionStorage.setItem(STORE, JSON.stringify(operations));
  changed();
}

const VERBS = { savepoint: "Savepoint", stop: "Stop with savepoint", drain: "Drain and stop with savepoint", cancel: "Cancel" };

/* ---- following ---- */

function finish(operation, state, members) {
  Object.assign(operation, { state, finished_ms: Date.now() }, members);
  save();
}

async function look(operation) {
  try {
    if (operation.kind === "cancel") {
      const { status } = await get(`jobs/${operation.job}/status`);
      if (status === "CANCELED")
        finish(operation, "done", {});
      else if (status === "FINISHED" || status === "FAILED")
        finish(operation, "failed", { error: `The job ended before it could be cancelled: ${status}` });
      return;
    }
    const answer = await get(`jobs/${operation.job}/savepoints/${operation.request}`);
    if (answer.status.id !== "COMPLETED")
      return;
    const failure = answer.operation["failure-cause"];
    if (failure)
      finish(operation, "failed", { error: failure["stack-trace"] || failure.class });
    else
      finish(operation, "done", { location: answer.operation.location });
  } catch (err) {
    if (err instanceof ApiError && err.status !== 401)
      finish(operation, "failed", { error: err.message });
    // Otherwise there is no answer just now: ask again.
  }
}

async function follow() {
  clearTimeout(timer);
  await Promise.all(operations.filter((operation) => operation.state === "running").map(look));
  changed();
  clearTimeout(timer);
  if (operations.some((operation) => operation.state === "running"))
    timer = setTimeout(follow, POLL_MS);
}

/** on_change is called whenever what operationsView shows has changed. */
export function start(on_change) {
  changed = on_change;
  // A request whose answer was not waited for: nobody knows its id any more.
  operations = operations.filter((operation) => operation.state !== "asking");
  follow();
}

async function ask(job, kind, method, path, body) {
  const operation = { key: `${kind} ${Date.now()}`, job, kind, state: "asking", started_ms: Date.now() };
  operations.push(operation);
  save();
  try {
    const answer = await send(method, path, body);
    Object.assign(operation, { state: "running", request: answer?.["request-id"] });
    save();
    follow();
  } catch (err) {
    finish(operation, "failed", { error: err instanceof ApiError ? err.message : `The jobmanager was not reached: ${err.message}. `
      + "Whether it got the request is not known: see whether the job goes on before you ask again." });
  }
}

/* ---- dialogs ---- */

/** Shows a form in the dialog; on_submit gets its FormData when the user confirms. */
function ask_back(title, confirm, isDanger, on_submit, ...content) {
  const form = h("form", { method: "dialog" },
    h("h2", { id: "dialog-title" }, title), content,
    h("div", { class: "buttons" },
      h("button", { type: "button", "data-action": "close-dialog" }, "Back"),
      h("button", { type: "submit", class: isDanger ? "danger" : "primary", "data-confirm": true }, confirm)));
  form.addEventListener("submit", () => on_submit(new FormData(form)));
  dialog.replaceChildren(form);
  dialog.setAttribute("aria-labelledby", "dialog-title");
  dialog.className = "";
  dialog.showModal();
  return form;
}

export function closeDialog() {
  dialog.close();
}

const DIRECTORY_KEYS = ["execution.checkpointing.savepoint-dir", "state.savepoints.dir"];

/** A field for the savepoint's directory, which names the default when there is one. */
function directoryField() {
  const input = h("input", { name: "directory", id: "directory", type: "text", spellcheck: "false", autocomplete: "off" });
  const note = h("p", { class: "quiet" }, "Empty: the configured directory.");
  get("jobmanager/config").then((entries) => {
    const found = entries.find((entry) => DIRECTORY_KEYS.includes(entry.key) && entry.value);
    if (found)
      input.placeholder = found.value;
    else
      note.textContent = "No directory for savepoints is configured (execution.checkpointing.savepoint-dir): name one.";
  }).catch(() => { /* the note above is right in any case */ });
  return [h("label", { for: "directory" }, "Directory for the savepoint"), input, note];
}

const directoryOf = (form) => form.get("directory").trim() || undefined;

export function askSavepoint(job) {
  ask_back(`Savepoint of ${job.name}`, "Take the savepoint", false,
    (form) => ask(job.jid, "savepoint", "POST", `jobs/${job.jid}/savepoints`, { "target-directory": directoryOf(form), "cancel-job": false }),
    h("p", null, "The job goes on. From the savepoint you can start it again later, also with another parallelism."), directoryField());
}

export function askStop(job) {
  const send_stop = (form) => {
    const drain = form.get("drain") !== null;
    ask(job.jid, drain ? "drain" : "stop", "POST", `jobs/${job.jid}/stop`, { targetDirectory: directoryOf(form), drain });
  };
  ask_back(`Stop ${job.name}?`, "Stop the job", true, send_stop,
    h("p", null, "The job takes a savepoint and ends. You can resume it from there without losing or repeating a row."), directoryField(),
    h("label", { class: "check" }, h("input", { type: "checkbox", name: "drain" }), "Drain: fire all windows first, with what they have"),
    h("p", { class: "quiet" }, "Only for a job that will not be resumed: after a drain its open windows are gone."));
}

export function askCancel(job) {
  ask_back(`Cancel ${job.name}?`, "Cancel the job", true, () => ask(job.jid, "cancel", "PATCH", `jobs/${job.jid}?mode=cancel`),
    h("p", null, "The job ends at once, without a savepoint. What it did since its last checkpoint may be lost, or done again when it is started anew."),
    h("p", null, "To go on later, use Stop."));
}

/** The end of a log, in the dialog. */
export async function showLog(title, path) {
  const pre = h("pre", { tabindex: "0" }, "Reading…");
  dialog.replaceChildren(h("div", { class: "head" }, h("h2", { id: "dialog-title" }, title), h("div", { class: "buttons" },
    h("button", { type: "button", "data-action": "log", "data-path": path, "data-title": title }, "Read again"),
    h("button", { type: "button", "data-action": "close-dialog" }, "Close"))), pre);
  dialog.setAttribute("aria-labelledby", "dialog-title");
  dialog.className = "log";
  if (!dialog.open)
    dialog.showModal();
  try {
    const log = await text(path);
    pre.textContent = log.length > LOG_CHARACTERS ? `… the last ${LOG_CHARACTERS} characters:\n${log.slice(-LOG_CHARACTERS)}` : log || "The log is empty.";
  } catch (err) {
    pre.textContent = err.message;
  }
  pre.scrollTop = pre.scrollHeight;
}

/* ---- what became of it ---- */

function copyable(value) {
  return h("div", { class: "command" }, h("code", null, value),
    h("button", { type: "button", "data-action": "copy", "data-text": value, "aria-label": `Copy: ${value}` }, "Copy"));
}

function outcome(operation) {
  const verb = VERBS[operation.kind];
  switch (operation.state) {
    case "done":
      return [h("p", null, h("strong", null, `${verb}: done`), ` in ${duration(operation.finished_ms - operation.started_ms)}`),
        operation.location ? h("p", { class: "location" }, "Savepoint: ", h("code", null, operation.location)) : null,
        operation.location && operation.kind !== "drain"
          ? [h("p", { class: "quiet" }, "To start a job from it:"),
            copyable(`flink run -d -m ${address()} -s ${operation.location} <program> <its arguments>`)] : null];
    case "failed":
      return [h("p", null, h("strong", null, `${verb}: failed`)), h("pre", { tabindex: "0" }, operation.error.trimEnd())];
    default:
      return h("p", null, h("strong", null, `${verb}: in progress`), 
        h("span", { "aria-hidden": "true" }, ` for ${duration(Date.now() - operation.started_ms)}`)); // not read out anew each time
  }
}

/** The requests for this job, newest first. */
export function operationsView(job) {
  return operations.filter((operation) => operation.job === job).reverse().map((operation) =>
    h("div", { class: `operation ${operation.state}`, role: "status", "data-key": operation.key, "data-operation": operation.kind },
      h("div", null, outcome(operation)),
      operation.state === "done" || operation.state === "failed"
        ? h("button", { type: "button", class: "plain", "data-action": "dismiss", "data-operation-key": operation.key,
          "aria-label": `Dismiss: ${VERBS[operation.kind]}` }, "Dismiss") : null));
}

export function dismiss(key) {
  operations = operations.filter((operation) => operation.key !== key);
  save();
}

