// What the boxes of the graph show, made from metrics: throughput, shares of time, and how the watermark moves.
import { isLastWatermark, isNoWatermark } from "./format.js";

const TASK_METRICS = ["numRecordsInPerSecond", "numRecordsOutPerSecond", "busyTimeMsPerSecond", "backPressuredTimeMsPerSecond",
  "currentInputWatermark", "currentOutputWatermark"];
// What happens at the ends of a chain, which no edge shows: rows read from outside, rows handed to the outside.
const END_METRICS = /^Source__.*\.numRecordsOut(PerSecond)?$|\.numRecordsSend(PerSecond)?$/;

/** The metrics to ask a vertex for, of those that it has, as a query. names: an answer of /vertices/:id/subtasks/metrics. */
export function wantedMetrics(names) {
  return names.map(({ id }) => id).filter((id) => TASK_METRICS.includes(id) || END_METRICS.test(id)).map(encodeURIComponent).join(",");
}

const PACE_OVER_MS = 10_000;

function share(metric) {
  const ok = metric !== undefined && Number.isFinite(metric.max);
  return { max: ok ? metric.max / 1000 : 0, average: ok ? metric.avg / 1000 : 0 };
}

/** The sum of all metrics whose name fits; null when there is none. */
function sum(metrics, pattern) {
  const found = metrics.filter((metric) => pattern.test(metric.id));
  return found.length > 0 ? found.reduce((total, metric) => total + metric.sum, 0) : null;
}

/** How fast a number grows, per ms, over the last seconds (a watermark: event-time ms per ms); and for how long it has not moved. */
class Track {
  points = [];
  moved_ms = null;

  add(value, now_ms) {
    const last = this.points.at(-1);
    if (last === undefined || last.value !== value)
      this.moved_ms = now_ms;
    if (last !== undefined && value < last.value) // a restart
      this.points = [];
    this.points.push({ value, now_ms });
    while (this.points.length > 2 && now_ms - this.points[0].now_ms > PACE_OVER_MS)
      this.points.shift();
  }

  view(now_ms) {
    const first = this.points[0], last = this.points.at(-1);
    const isOpen = isNoWatermark(first.value) || isLastWatermark(last.value);
    const span_ms = last.now_ms - first.now_ms;
    return { value: last.value, pace: isOpen || span_ms < 2000 ? null : (last.value - first.value) / span_ms, still_ms: now_ms - this.moved_ms };
  }
}

/** Of one job. flows: vertex id -> {in, out: rows a second over edges, read, readRate, sent, sentRate: from and to the outside (null: no such
 * thing here, or not known), busy, pressed: {max, average} over subtasks}; watermarks: vertex id -> {value, pace, still_ms}. */
export class Flows {
  flows = new Map();
  watermarks = new Map();
  #tracks = new Map();

  /** metrics: an answer of /vertices/:id/subtasks/metrics?get=… */
  add(vertex, metrics, now_ms) {
    const byName = new Map(metrics.map((metric) => [metric.id, metric]));
    if (byName.size === 0)
      return;
    const sent = sum(metrics, /\.numRecordsSend$/);
    this.flows.set(vertex.id, {
      in: byName.get("numRecordsInPerSecond")?.sum ?? 0,
      out: byName.get("numRecordsOutPerSecond")?.sum ?? 0,
      read: sum(metrics, /^Source__.*\.numRecordsOut$/),
      readRate: sum(metrics, /^Source__.*\.numRecordsOutPerSecond$/),
      sent,
      sentRate: sum(metrics, /\.numRecordsSendPerSecond$/) ?? this.#pace(`${vertex.id} sent`, sent, now_ms),
      busy: share(byName.get("busyTimeMsPerSecond")),
      pressed: share(byName.get("backPressuredTimeMsPerSecond")),
    });
    // Sources have no input watermark. The slowest subtask holds what follows back, but not one that is idle and has none yet.
    const mark = byName.get("currentInputWatermark") ?? byName.get("currentOutputWatermark");
    if (mark === undefined)
      return;
    const value = isNoWatermark(mark.min) && !byName.has("currentInputWatermark") ? mark.max : mark.min;
    this.watermarks.set(vertex.id, this.#track(vertex.id, value, now_ms));
  }

  #track(name, value, now_ms) {
    const track = this.#tracks.get(name) ?? new Track();
    this.#tracks.set(name, track);
    track.add(value, now_ms);
    return track.view(now_ms);
  }

  /** Per second; null when it is not known (yet). */
  #pace(name, value, now_ms) {
    const pace = value === null ? null : this.#track(name, value, now_ms).pace;
    return pace === null ? null : pace * 1000;
  }
}
