// The page: what is selected, what the jobmanager said last, and when it is asked again. Everything that is shown is made
// from `view` by draw(), so that any answer may come at any time.
import { ApiError, Unreachable, connect, get, hasToken, isBaseUncertain, setToken } from "./api.js";
import { checkpointsView, remember } from "./checkpoints.js";
import { headerView, isEnded, jobsView, taskmanagersView, troubleView } from "./cluster.js";
import { h, show } from "./dom.js";
import { Flows, wantedMetrics } from "./flows.js";
import { graphView } from "./graph.js";
import { diagnosisView, exceptionsView, faultsByVertex, titleView, vertexView } from "./job.js";
import * as operations from "./operations.js";

const POLL_MS = 1000, POLL_LARGE_MS = 2000, POLL_HIDDEN_MS = 15_000, POLL_ENDED_MS = 3000;
const RETRY_MS_MAX = 15_000;
const NAMES_MS = 5000;
const LARGE_GRAPH = 12; // boxes: each is a request of its own

const place = (id) => document.getElementById(id);

const view = {
  config: null, overview: null, jobs: null, taskmanagers: null,
  clock_offset_ms: 0,       // the jobmanager's clock minus this one's
  trouble: null,            // {reason, since_ms, retry_ms}
  tokenError: null,         // a token is wanted: why
  isEndedOpen: false,
  selected: null,           // job id
  isGone: false,            // the selected job is not known (any more)
  vertexId: null,
  job: newJob(),
};

function newJob() {
  return { id: null, answer: null, checkpoints: null, checkpointConfig: null, known: new Map(), exceptions: null, diagnosis: null, metricNames: new Map(),
    flows: new Flows(), detail: null };
}

const now = () => Date.now() + view.clock_offset_ms;

/* ---- drawing ---- */

/** What a card's content has, by page.css. Read before anything is changed: later it would cost a layout of its own. */
function content_px() {
  const main_px = place("main").clientWidth;
  return main_px - (main_px <= 640 ? 2 * 12 : 2 * 20) - 34;
}

function jobSection(width_px) {
  const { answer, checkpoints, checkpointConfig, known, exceptions, diagnosis, flows, detail } = view.job;
  if (view.isGone)
    return [h("div", { class: "card empty" }, h("h2", null, "This jobmanager knows no such job"), h("p", { class: "id" }, view.selected),
      h("p", null, "It forgets jobs that ended long ago, and all jobs when it is started anew."))];
  if (answer === null)
    return [];
  const now_ms = now();
  const context = { flows: flows.flows, watermarks: flows.watermarks, faults: faultsByVertex(diagnosis), now_ms, selected: view.vertexId,
    width_px };
  const half_px = width_px < 900 ? width_px : (width_px - 50) / 2;
  return [
    titleView(answer, now_ms, view.config?.features["web-cancel"] !== false),
    h("div", { class: "operations", "data-key": "operations" }, operations.operationsView(answer.jid)),
    h("div", { "data-key": "diagnosis" }, diagnosisView(diagnosis, answer.jid)),
    h("div", { class: "card graphs", "data-key": "graph" }, answer.vertices.length > 0 ? graphView(answer, context)
      : h("p", { class: "quiet" }, "This job has not been deployed.")),
    h("div", { "data-key": "vertex" }, vertexView(detail, answer.jid, now_ms)),
    h("div", { class: "pair", "data-key": "pair" },
      h("div", { class: "card" }, checkpointsView(checkpoints, checkpointConfig, known, isEnded(answer.state), half_px)),
      h("div", { class: "card" }, exceptionsView(exceptions)))];
}

function tokenForm() {
  return h("form", { class: "card", "data-key": "token" },
    h("h2", null, "This jobmanager wants a token"),
    h("p", null, "Its configuration (security.rest.token-file) names the file that holds it. It is kept in this tab only."),
    h("label", { for: "token-input" }, "Token"),
    h("div", { class: "line" }, h("input", { id: "token-input", name: "token", type: "password", autocomplete: "off", required: true }),
      h("button", { type: "submit", class: "primary" }, "Go on")),
    view.tokenError ? h("p", { class: "bad", role: "alert" }, view.tokenError) : null);
}

function draw() {
  const hasData = view.jobs !== null;
  const width_px = content_px();
  document.body.classList.toggle("stale", view.trouble !== null);
  const isTokenWanted = view.tokenError !== null;
  place("token").hidden = !isTokenWanted;
  show(place("token"), isTokenWanted ? tokenForm() : null);
  show(place("header"), headerView({ overview: view.overview, isReachable: view.trouble === null && !isTokenWanted, config: view.config }));
  show(place("notice"), troubleView(view.trouble, hasData, Date.now()));
  for (const id of ["jobs", "job", "taskmanagers"])
    place(id).hidden = isTokenWanted;
  if (!hasData)
    return;
  show(place("jobs"), jobsView({ ...view, now_ms: now() }));
  show(place("job"), jobSection(width_px));
  show(place("taskmanagers"), taskmanagersView(view.taskmanagers, view.jobs.length > 0, now()));
  const { answer } = view.job;
  document.title = view.trouble ? "No connection – Millrace" : answer ? `${answer.name} · ${answer.state} – Millrace` : "Millrace";
  if (performance.getEntriesByName("first-data").length === 0 && (view.jobs.length === 0 || answer !== null))
    performance.mark("first-data");
}

/* ---- asking ---- */

/** The job that the address names, or the one a person most likely means. */
function select() {
  const [, job, vertex] = /^#\/jobs\/([0-9a-f]{32})(?:\/([0-9a-f]{32}))?/.exec(location.hash) ?? [];
  let wanted = job ?? null;
  if (wanted === null && view.jobs !== null) {
    const newest = [...view.jobs].sort((a, b) => isEnded(a.state) - isEnded(b.state) || b["start-time"] - a["start-time"]);
    // What is shown stays, though another job may start meanwhile.
    wanted = view.jobs.some((entry) => entry.jid === view.selected) && !view.isGone ? view.selected : newest[0]?.jid ?? null;
  }
  if (wanted !== view.selected) {
    view.selected = wanted;
    view.job = newJob();
    view.isGone = false;
  }
  view.vertexId = vertex ?? null;
  if (view.vertexId === null)
    view.job.detail = null;
}

/** What only some jobmanagers or states have: a refusal is no trouble. */
async function optional(promise) {
  try {
    return await promise;
  } catch (err) {
    if (err instanceof ApiError && err.status !== 401)
      return null;
    throw err;
  }
}

async function askJob(id) {
  const job = view.job;
  const at = `jobs/${id}`;
  let answer;
  try {
    answer = await get(at);
    view.clock_offset_ms = answer.now - Date.now();
  } catch (err) {
    if (!(err instanceof ApiError) || err.status !== 404)
      throw err;
    view.isGone = view.job === job;
    job.answer = null;
    return;
  }
  view.isGone = false;
  if (job.answer === null) { // the first time, the graph is there while the figures are fetched; later, all change together
    job.answer = answer;
    draw();
  }
  const { vertices } = answer;
  const [checkpoints, checkpointConfig, exceptions, diagnosis, ...metrics] = await Promise.all([
    get(`${at}/checkpoints`), job.checkpointConfig ?? get(`${at}/checkpoints/config`), get(`${at}/exceptions`),
    optional(get(`${at}/diagnosis`)),
    ...vertices.map((vertex) => optional(askMetrics(job, `${at}/vertices/${vertex.id}/subtasks/metrics`)))]);
  Object.assign(job, { answer, checkpoints, checkpointConfig, exceptions, diagnosis });
  remember(job.known, checkpoints);
  vertices.forEach((vertex, i) => job.flows.add(vertex, metrics[i] ?? [], now()));
  await askVertex(job, at);
}

/** The metrics that the graph shows. Which ones there are is asked now and then: operators have names of their own, and a
 * young task has not reported all. */
async function askMetrics(job, path) {
  let known = job.metricNames.get(path);
  if (known === undefined || Date.now() > known.until_ms) {
    const query = wantedMetrics(await get(path));
    known = { query, until_ms: Date.now() + (query === "" ? 0 : NAMES_MS) };
    job.metricNames.set(path, known);
  }
  return known.query === "" ? [] : get(`${path}?get=${known.query}`);
}

async function askVertex(job, at) {
  const id = view.vertexId;
  if (id === null || !job.answer.vertices.some((vertex) => vertex.id === id))
    return;
  const [vertex, backpressure, watermarks] = await Promise.all([get(`${at}/vertices/${id}`),
    optional(get(`${at}/vertices/${id}/backpressure`)), optional(get(`${at}/vertices/${id}/watermarks`))]);
  if (view.vertexId === id)
    job.detail = { vertex, backpressure, watermarks };
}

let timer = 0, isAsking = false, isAskedAgain = false, failures = 0;

async function askAll() {
  const config = view.config === null ? connect() : Promise.resolve(view.config);
  if (isBaseUncertain)
    await config;
  const jobs = get("jobs/overview");
  const cluster = Promise.all([config, get("overview"), jobs, get("taskmanagers")]).then(([config_, overview, { jobs: list }, { taskmanagers }]) => {
    Object.assign(view, { config: config_, overview, jobs: list, taskmanagers });
  });
  // The first time, the job to ask for is not known before the list is there.
  select();
  const job = view.selected !== null ? askJob(view.selected) : jobs.then(({ jobs: list }) => {
    view.jobs = list;
    select();
    return view.selected !== null ? askJob(view.selected) : null;
  });
  await Promise.all([cluster, job]);
  select();
}

function note(err) {
  if (err instanceof ApiError && err.status === 401) {
    view.tokenError = hasToken() ? `The jobmanager refused it: ${err.message}` : "";
    setToken(null);
    return;
  }
  if (!(err instanceof Unreachable) && !(err instanceof ApiError))
    throw err;
  failures++;
  const wait_ms = Math.min(RETRY_MS_MAX, 500 * 2 ** failures);
  view.trouble = { reason: err.message.split("\n")[0], isAnswer: err instanceof ApiError, since_ms: view.trouble?.since_ms ?? Date.now(), retry_ms: Date.now() + wait_ms };
}

function pause_ms() {
  if (view.trouble)
    return Math.max(0, view.trouble.retry_ms - Date.now());
  if (document.hidden)
    return POLL_HIDDEN_MS;
  const { answer } = view.job;
  if (answer === null || isEnded(answer.state))
    return POLL_ENDED_MS;
  return answer.vertices.length > LARGE_GRAPH ? POLL_LARGE_MS : POLL_MS;
}

/** Asks everything now, and again after a pause. Asked for meanwhile: once more right after. */
async function ask() {
  isAskedAgain = isAsking;
  if (isAsking)
    return;
  clearTimeout(timer);
  isAsking = true;
  try {
    await askAll();
    failures = 0;
    Object.assign(view, { trouble: null, tokenError: null });
  } catch (err) {
    note(err);
  } finally {
    isAsking = false;
    draw();
    if (isAskedAgain)
      ask();
    else if (view.tokenError === null)
      timer = setTimeout(ask, pause_ms());
  }
}

/* ---- what people do ---- */

async function copy(button) {
  try {
    await navigator.clipboard.writeText(button.dataset.text);
    button.textContent = "Copied";
  } catch { // plain http from another machine has no clipboard: let the user press Ctrl-C
    getSelection().selectAllChildren(button.previousElementSibling);
    button.textContent = "Selected";
  }
}

const actions = {
  retry: () => ask(),
  copy,
  savepoint: () => operations.askSavepoint(view.job.answer),
  stop: () => operations.askStop(view.job.answer),
  cancel: () => operations.askCancel(view.job.answer),
  dismiss: (button) => operations.dismiss(button.dataset.operationKey),
  log: (button) => operations.showLog(button.dataset.title, button.dataset.path),
  "close-dialog": () => operations.closeDialog(),
  "all-ended": () => { view.isEndedOpen = true; draw(); },
};

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-action]");
  if (button)
    actions[button.dataset.action](button);
});

place("token").addEventListener("submit", (event) => {
  event.preventDefault();
  setToken(new FormData(event.target).get("token").trim());
  ask();
});

window.addEventListener("hashchange", () => { select(); draw(); ask(); });
window.addEventListener("resize", draw);
document.addEventListener("visibilitychange", () => { if (!document.hidden) ask(); });
// Durations and the wait for the next try go on between answers.
setInterval(() => { if (view.trouble && !document.hidden) draw(); }, 1000);

operations.start(draw);
ask();
