// Numbers, sizes, durations and times as people read them.

const THIN = "\u202f"; // a narrow space that does not break between a number and its unit

const scaled = (value) => (value < 100 ? value.toFixed(1) : value.toFixed(0)).replace(/\.0$/, "");

function short(value) {
  const [limit, unit] = [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]].find(([least]) => Math.abs(value) >= least) ?? [1, ""];
  return scaled(value / limit) + (unit ? THIN + unit : "");
}

/** 5559 -> "5,559", 12345678 -> "12.3 M": as long as it can be read in whole, one sees it grow. */
export function count(value) {
  if (!Number.isFinite(value))
    return "–";
  return Math.abs(value) < 10_000_000 ? Math.round(value).toLocaleString("en-US") : short(value);
}

/** Rows per second: small rates keep a decimal. */
export function rate(value) {
  if (value === null || !Number.isFinite(value))
    return "–";
  if (value >= 100_000)
    return short(value);
  return value > 0 && value < 10 ? value.toFixed(1).replace(/^0\.0$/, "<0.1").replace(/\.0$/, "") : count(value);
}

export function bytes(value) {
  if (!Number.isFinite(value) || value < 0)
    return "–";
  for (const [limit, unit] of [[2 ** 40, "TiB"], [2 ** 30, "GiB"], [2 ** 20, "MiB"], [2 ** 10, "KiB"]]) {
    if (value >= limit)
      return scaled(value / limit) + THIN + unit;
  }
  return `${value}${THIN}B`;
}

/** 7 -> "7 ms", 3200 -> "3.2 s", 125000 -> "2 min 5 s". */
export function duration(ms) {
  if (!Number.isFinite(ms) || ms < 0)
    return "–";
  if (ms < 1000)
    return `${Math.round(ms)}${THIN}ms`;
  if (ms < 10_000)
    return `${(ms / 1000).toFixed(1).replace(/\.0$/, "")}${THIN}s`;
  const s = Math.floor(ms / 1000);
  const parts = [[Math.floor(s / 86400), "d"], [Math.floor(s / 3600) % 24, "h"], [Math.floor(s / 60) % 60, "min"], [s % 60, "s"]];
  const first = parts.findIndex(([value]) => value > 0);
  return parts.slice(first, first + 2).filter(([value]) => value > 0).map(([value, unit]) => value + THIN + unit).join(" ");
}

/** A share of 0 to 1 as "12 %". */
export function percent(share) {
  if (!Number.isFinite(share))
    return "–";
  return `${share > 0 && share < 0.01 ? "<1" : Math.round(Math.min(1, Math.max(0, share)) * 100)}${THIN}%`;
}

const two = (value) => String(value).padStart(2, "0");

/** Wall-clock time in the reader's zone; the day only when it is not today. */
export function clock(ms) {
  if (!Number.isFinite(ms) || ms < 0)
    return "–";
  const at = new Date(ms);
  const time = `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
  return at.toDateString() === new Date().toDateString() ? time : `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ${time}`;
}

/** Event time, in UTC, as windows are aligned. */
export function eventTime(ms) {
  return new Date(ms).toISOString().replace("T", " ").replace(/\.\d+Z$/, "");
}

// Flink's smallest and largest long: no watermark yet, and the end of all data.
const MIN_WATERMARK = -9e18;
const MAX_WATERMARK = 9e18;
export const isNoWatermark = (value) => value <= MIN_WATERMARK;
export const isLastWatermark = (value) => value >= MAX_WATERMARK;

const DAY = 86_400_000;

/** What to say of a watermark: how far it is behind the clock when event time is about now; otherwise (a replay, invented
 * dates) its own time, and how fast it moves. pace: event-time ms per ms, null when not known; still_ms: how long it has
 * not moved. Returns {text, detail, isStill}. */
export function watermark(value, now_ms, pace, still_ms) {
  if (value === undefined)
    return { text: "no watermark", detail: "", isStill: false };
  if (isNoWatermark(value))
    return { text: "no watermark yet", detail: "", isStill: false };
  if (isLastWatermark(value))
    return { text: "watermark: end of data", detail: "", isStill: false };
  const isStill = still_ms >= 5000;
  const lag = now_ms - value;
  const moves = isStill ? `stands still for ${duration(still_ms)}` : pace === null ? "" : `advances ${scaled(Math.max(0, pace))}${THIN}s per second`;
  if (Math.abs(lag) < DAY) {
    const text = lag >= 0 ? `watermark lag ${duration(lag)}` : `watermark ${duration(-lag)} ahead`;
    return { text, detail: isStill ? moves : "", isStill };
  }
  return { text: `watermark ${eventTime(value)}`, detail: moves, isStill };
}
