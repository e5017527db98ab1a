// The live graph of a job: a box per vertex with its throughput, shares of time and watermark; edges with their strategy.
import { s } from "./dom.js";
import { bytes, count, percent, rate, watermark } from "./format.js";
import { BOX_HEIGHT, BOX_WIDTH, layout } from "./graph_layout.js";

const MARGIN = 6;
const SCALE_MIN = 0.72, SCALE_NARROW_MIN = 0.6; // below that, texts are too small: the graph scrolls instead
const NARROW_PX = 640;

/** A name on at most two lines of so many characters. */
function lines(name, width) {
  if (name.length <= width)
    return [name];
  let cut = name.lastIndexOf(" ", width);
  if (cut < width / 2)
    cut = width;
  const rest = name.slice(cut).trim();
  return [name.slice(0, cut), rest.length > width ? `${rest.slice(0, width - 1)}…` : rest];
}

/** How worried to be: by state, then by the busiest or most held-up subtask. The words say it too, not the colour alone. */
export function level(vertex, flow) {
  if (vertex.status === "FAILED" || vertex.status === "CANCELED" || vertex.status === "FINISHED")
    return vertex.status.toLowerCase();
  if (vertex.status !== "RUNNING")
    return "waiting";
  if (!flow)
    return "calm";
  if (flow.pressed.max > 0.5)
    return "pressed";
  return flow.busy.max > 0.8 ? "hot" : flow.busy.max > 0.5 ? "warm" : "calm";
}

const LEVEL_WORDS = {
  calm: "has time to spare", warm: "busy", hot: "very busy", pressed: "held up by what follows it", waiting: "not running",
  failed: "failed", canceled: "canceled", finished: "finished",
};

function pathOf(points, isDown) {
  let path = `M${points[0]}`;
  for (let i = 1; i < points.length; i++) {
    const [ax, ay] = points[i - 1], [bx, by] = points[i];
    if (i % 2 === 0) // through a layer, beside its boxes
      path += `L${bx} ${by}`;
    else if (isDown)
      path += `C${ax} ${(ay + by) / 2} ${bx} ${(ay + by) / 2} ${bx} ${by}`;
    else
      path += `C${(ax + bx) / 2} ${ay} ${(ax + bx) / 2} ${by} ${bx} ${by}`;
  }
  return path;
}

function edgeView(edge, flows, isDown) {
  const d = pathOf(edge.points, isDown);
  const rows_per_second = flows.get(edge.from)?.out ?? 0;
  const pace = rows_per_second <= 0 ? "" : rows_per_second < 100 ? " slow" : rows_per_second < 100_000 ? " medium" : " fast";
  const [[ax, ay], [bx, by]] = edge.points;
  const [x, y] = [(ax + bx) / 2, (ay + by) / 2];
  const width = edge.strategy.length * 6.4 + 12;
  return s("g", { class: "edge", "data-key": `${edge.from}-${edge.to}` },
    s("path", { class: "line", d, "marker-end": "url(#arrow)" }),
    s("path", { class: `flow${pace}`, d }),
    s("rect", { class: "label", x: x - width / 2, y: y - 9, width, height: 18, rx: 9 }),
    s("text", { class: "label", x, y: y + 3.5, "text-anchor": "middle" }, edge.strategy));
}

function bar(flow) {
  const width = BOX_WIDTH - 28;
  const busy = Math.min(1, flow.busy.average), pressed = Math.min(1 - busy, flow.pressed.average);
  return [
    s("rect", { class: "idle", x: 16, y: 125, width, height: 6, rx: 3 }),
    s("rect", { class: "pressed", x: 16, y: 125, width: (width * (busy + pressed)).toFixed(1), height: 6, rx: 3 }),
    s("rect", { class: "busy", x: 16, y: 125, width: (width * busy).toFixed(1), height: 6, rx: 3 }),
  ];
}

/** Whether its rows leave the job here: a sink, or the writer of one whose committer only gets what is to be committed. */
const isSending = (vertex, flow) => flow !== undefined && flow.sent !== null && vertex.metrics["write-records"] === 0;

function throughput(vertex, flow, ends) {
  const shown = [];
  if (!ends.isSource)
    shown.push(`in ${rate(flow.in)}/s`);
  else if (ends.isSink)
    shown.push(`read ${rate(flow.readRate)}/s`);
  if (isSending(vertex, flow) && flow.sentRate !== null)
    shown.push(`sent ${rate(flow.sentRate)}/s`);
  else if (!ends.isSink)
    shown.push(`out ${rate(flow.out)}/s`);
  return shown.join("  →  ");
}

function totals(vertex, flow, ends) {
  const { "read-records": read, "write-records": written, "read-bytes": readBytes, "write-bytes": writtenBytes } = vertex.metrics;
  const sent = isSending(vertex, flow) ? `, ${count(flow.sent)} sent` : "";
  if (ends.isSource && ends.isSink)
    return flow && flow.read !== null ? `${count(flow.read)} rows read${sent}` : "";
  if (ends.isSource)
    return `${count(written)} rows out, ${bytes(writtenBytes)}`;
  return ends.isSink || sent ? `${count(read)} rows in${sent || `, ${bytes(readBytes)}`}` : `${count(read)} rows in, ${count(written)} out`;
}

function boxView(place, vertex, context) {
  const { flows, watermarks, now_ms, job, selected, faults } = context;
  const flow = flows.get(vertex.id);
  const ends = context.ends(vertex.id);
  const mark = watermark(watermarks.get(vertex.id)?.value, now_ms, watermarks.get(vertex.id)?.pace ?? null,
    watermarks.get(vertex.id)?.still_ms ?? 0);
  const how = level(vertex, flow);
  const isRunning = vertex.status === "RUNNING";
  const name = lines(vertex.name, 23);
  const fault = faults.get(vertex.id);
  const shares = flow ? `busy ${percent(flow.busy.max)}` : "";
  const pressed = flow ? `back-pressured ${percent(flow.pressed.max)}` : "";
  const speed = flow && isRunning ? throughput(vertex, flow, ends) : vertex.status.toLowerCase();
  const label = [vertex.name, `parallelism ${vertex.parallelism}`, LEVEL_WORDS[how], speed, totals(vertex, flow, ends), shares, pressed,
    isRunning ? mark.text : "", fault?.sentence].filter(Boolean).join(", ");
  const isOpen = selected === vertex.id;
  return s("a", { class: `box ${how}${isOpen ? " open" : ""}`, "data-key": vertex.id, "data-vertex": vertex.name,
    "data-rows": Math.max(vertex.metrics["read-records"], vertex.metrics["write-records"], flow?.read ?? 0),
    href: isOpen ? `#/jobs/${job}` : `#/jobs/${job}/${vertex.id}`, "aria-label": label, "aria-expanded": isOpen ? "true" : "false",
    transform: `translate(${place.x} ${place.y})` },
  s("title", null, label),
  s("rect", { class: "frame", width: BOX_WIDTH, height: BOX_HEIGHT, rx: 10 }),
  s("path", { class: "stripe", d: `M10 0.5H6a5.5 5.5 0 0 0 -5.5 5.5V${BOX_HEIGHT - 6}a5.5 5.5 0 0 0 5.5 5.5H10z` }),
  s("text", { class: "name", x: 18, y: 23 }, name[0]),
  name[1] ? s("text", { class: "name", x: 18, y: 39 }, name[1]) : null,
  s("text", { class: "parallelism", x: BOX_WIDTH - 10, y: 23, "text-anchor": "end" }, `×${vertex.parallelism}`),
  fault ? s("g", { class: `fault ${fault.severity}` }, s("circle", { cx: BOX_WIDTH - 2, cy: 2, r: 10 }),
    s("text", { x: BOX_WIDTH - 2, y: 6.5, "text-anchor": "middle" }, fault.severity === "info" ? "i" : "!")) : null,
  s("text", { class: isRunning ? "speed" : "speed state", x: 18, y: 62 }, speed),
  s("text", { class: "totals", x: 18, y: 80 }, totals(vertex, flow, ends)),
  isRunning ? s("text", { class: mark.isStill ? "mark still" : "mark", x: 18, y: 98 }, mark.text,
    mark.detail ? s("tspan", { class: "detail", x: 18, dy: 16 }, mark.detail) : null) : null,
  flow && isRunning ? bar(flow) : null,
  flow && isRunning ? s("text", { class: "shares", x: 18, y: 149 }, shares,
    s("tspan", { class: "pressed", x: BOX_WIDTH - 12, "text-anchor": "end" }, pressed)) : null);
}

/** job: an answer of /jobs/:id. context: {flows, watermarks, faults: Map by vertex id, now_ms, selected, width_px: what there is}. */
export function graphView(job, context) {
  const nodes = job.plan?.nodes ?? [];
  const vertices = new Map(job.vertices.map((vertex) => [vertex.id, vertex]));
  const isDown = context.width_px < NARROW_PX;
  const { width, height, boxes, edges } = layout(nodes, isDown);
  const targets = new Set(nodes.flatMap((node) => (node.inputs ?? []).map((input) => input.id)));
  const sources = new Set(nodes.filter((node) => !node.inputs?.length).map((node) => node.id));
  const full = { ...context, job: job.jid, ends: (id) => ({ isSource: sources.has(id), isSink: !targets.has(id) }) };
  const [outer, tall] = [width + 2 * MARGIN + 6, height + 2 * MARGIN + 6];
  const scale = Math.min(1, Math.max(isDown ? SCALE_NARROW_MIN : SCALE_MIN, context.width_px / outer));
  return s("svg", { class: "graph", viewBox: `${-MARGIN} ${-MARGIN - 6} ${outer} ${tall}`, width: Math.round(outer * scale),
    height: Math.round(tall * scale), role: "group", "aria-label": `Graph of ${job.name}: ${nodes.length} boxes` },
  s("defs", null, s("marker", { id: "arrow", viewBox: "0 0 8 8", refX: 7.5, refY: 4, markerWidth: 10, markerHeight: 10, markerUnits: "userSpaceOnUse", orient: "auto" },
    s("path", { class: "arrow", d: "M0 0L8 4L0 8z" }))),
  edges.map((edge) => edgeView(edge, context.flows, isDown)),
  // In the order of the flow, which is the order of the tab key.
  boxes.filter((place) => vertices.has(place.id)).map((place) => boxView(place, vertices.get(place.id), full)));
}
