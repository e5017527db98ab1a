// The checkpoints of a job: figures, a chart of durations and sizes with failures marked, and the same as a table.
import { h, s } from "./dom.js";
import { bytes, clock, count, duration } from "./format.js";

const SHOWN = 40;
const SLOW_MS = 2000; // a checkpoint in progress is worth a figure of its own
const HEIGHT = 74, SIZE_TOP = 98, SIZE_HEIGHT = 42, LEFT = 58;

/** Adds what /jobs/:id/checkpoints tells to what is known (by id): the page remembers more than the jobmanager keeps. */
export function remember(known, checkpoints) {
  for (const checkpoint of checkpoints.history)
    known.set(checkpoint.id, checkpoint);
  for (const id of [...known.keys()].sort((a, b) => a - b).slice(0, -SHOWN))
    known.delete(id);
}

const stateOf = (checkpoint) => checkpoint.status === "FAILED" ? "failed" : checkpoint.status === "COMPLETED" ? "completed" : "pending";
const kindOf = (checkpoint) => checkpoint.is_savepoint ? "Savepoint" : "Checkpoint";

function sentence(checkpoint) {
  const start = `${kindOf(checkpoint)} ${checkpoint.id}, started ${clock(checkpoint.trigger_timestamp)}`;
  const length = duration(checkpoint.end_to_end_duration);
  switch (stateOf(checkpoint)) {
    case "failed": return `${start}, failed after ${length}: ${checkpoint.failure_message ?? "no reason given"}`;
    case "completed": return `${start}: ${length}, ${bytes(checkpoint.state_size)}`;
    default: return `${start}, in progress for ${length}: ${checkpoint.num_acknowledged_subtasks} of ${checkpoint.num_subtasks} subtasks done`;
  }
}

function column(checkpoint, x, width, longest, largest) {
  const state = stateOf(checkpoint);
  const tall = Math.max(2, checkpoint.end_to_end_duration / longest * HEIGHT);
  const size = state === "failed" ? 0 : Math.max(2, checkpoint.state_size / largest * SIZE_HEIGHT);
  return s("g", { class: `column ${state}${checkpoint.is_savepoint ? " savepoint" : ""}`, "data-key": checkpoint.id },
    s("title", null, sentence(checkpoint)),
    s("rect", { class: "reach", x, y: 8, width, height: SIZE_TOP + SIZE_HEIGHT }),
    s("rect", { class: "duration", x: x + 1, y: 12 + HEIGHT - tall, width: width - 2, height: tall, rx: 1.5 }),
    state === "failed" ? s("path", { class: "cross", d: `M${x + width / 2 - 4} 14l8 8m0 -8l-8 8` }) : null,
    checkpoint.is_savepoint ? s("text", { class: "letter", x: x + width / 2, y: 9, "text-anchor": "middle" }, "S") : null,
    size > 0 ? s("rect", { class: "size", x: x + 1, y: SIZE_TOP + SIZE_HEIGHT - size, width: width - 2, height: size, rx: 1.5 }) : null);
}

function chart(history, width_px) {
  const width = Math.max(280, width_px);
  const room = width - LEFT - 4;
  const step = Math.min(26, room / Math.max(history.length, 12));
  const longest = Math.max(1, ...history.map((checkpoint) => checkpoint.end_to_end_duration));
  const largest = Math.max(1, ...history.map((checkpoint) => checkpoint.state_size));
  const failed = history.filter((checkpoint) => stateOf(checkpoint) === "failed").length;
  const label = `The last ${history.length} checkpoints: the longest took ${duration(longest)}, the largest has ${bytes(largest)}, ${failed} failed`;
  const bottom = SIZE_TOP + SIZE_HEIGHT;
  return s("svg", { class: "chart", width, height: bottom + 22, viewBox: `0 0 ${width} ${bottom + 22}`, role: "img", "aria-label": label },
    s("text", { class: "axis", x: LEFT - 6, y: 18, "text-anchor": "end" }, duration(longest)),
    s("text", { class: "axis", x: LEFT - 6, y: 12 + HEIGHT, "text-anchor": "end" }, "time"),
    s("text", { class: "axis", x: LEFT - 6, y: SIZE_TOP + 8, "text-anchor": "end" }, bytes(largest)),
    s("text", { class: "axis", x: LEFT - 6, y: bottom, "text-anchor": "end" }, "size"),
    s("path", { class: "rule", d: `M${LEFT} ${12.5 + HEIGHT}H${width}M${LEFT} ${bottom + 0.5}H${width}` }),
    history.map((checkpoint, i) => column(checkpoint, LEFT + i * step, step, longest, largest)),
    s("text", { class: "axis", x: LEFT, y: bottom + 16 }, clock(history[0].trigger_timestamp)),
    history.length > 4 ? s("text", { class: "axis", x: LEFT + history.length * step, y: bottom + 16, "text-anchor": "end" },
      clock(history.at(-1).trigger_timestamp)) : null);
}

function table(history) {
  const head = ["Id", "Kind", "State", "Started", "Duration", "Size", "Subtasks", "Where, or why not"];
  return h("details", { "data-key": "table" }, h("summary", null, "As a table"),
    h("div", { class: "scroll" }, h("table", { class: "history" },
      h("thead", null, h("tr", null, head.map((name) => h("th", { scope: "col" }, name)))),
      h("tbody", null, [...history].reverse().map((checkpoint) => h("tr", { "data-key": checkpoint.id, class: stateOf(checkpoint) },
        [checkpoint.id, kindOf(checkpoint), checkpoint.status, clock(checkpoint.trigger_timestamp), duration(checkpoint.end_to_end_duration),
          bytes(checkpoint.state_size), `${checkpoint.num_acknowledged_subtasks} of ${checkpoint.num_subtasks}`,
          checkpoint.failure_message ?? checkpoint.external_path ?? ""].map((text) => h("td", null, String(text)))))))));
}

const NEVER_MS = 2 ** 62; // without periodic checkpoints Flink's API shows the largest long

function manner(config) {
  if (!config)
    return "";
  const every = config.interval < NEVER_MS ? `every ${duration(config.interval)}` : "only on request";
  return `${every}, ${config.mode === "exactly_once" ? "exactly once" : "at least once"}${config.unaligned_checkpoints ? ", unaligned" : ""}`;
}

function figure(name, value, extra) {
  return h("div", { class: `figure${extra ?? ""}`, "data-key": name }, h("dt", null, name), h("dd", null, value));
}

/** checkpoints: /jobs/:id/checkpoints or null; config: …/checkpoints/config or null; known: see remember. */
export function checkpointsView(checkpoints, config, known, isEnded, width_px) {
  const head = h("div", { class: "head" }, h("h2", null, "Checkpoints"), h("span", { class: "quiet" }, manner(config)));
  if (checkpoints === null)
    return [head];
  const { counts, latest } = checkpoints;
  const history = [...known.values()].sort((a, b) => a.id - b.id);
  const last = latest.completed;
  const slow = history.find((checkpoint) => stateOf(checkpoint) === "pending" && checkpoint.end_to_end_duration > SLOW_MS);
  return [head,
    h("dl", { class: "figures" },
      figure("completed", count(counts.completed)),
      figure("failed", count(counts.failed), counts.failed > 0 ? " bad" : ""),
      figure("last took", last ? duration(last.end_to_end_duration) : "–"),
      figure("last size", last ? bytes(last.state_size) : "–"),
      slow ? figure("in progress for", duration(slow.end_to_end_duration)) : null,
      latest.restored ? figure(latest.restored.is_savepoint ? "restored from savepoint" : "restored from", `number ${latest.restored.id}`) : null),
    history.length > 0 ? chart(history, width_px) : h("p", { class: "quiet" }, config && config.interval >= NEVER_MS
      ? "This job takes no periodic checkpoints: after a failure it starts from its beginning."
      : isEnded ? "No checkpoint was taken." : "No checkpoint yet."),
    history.length > 0 ? table(history) : null];
}
