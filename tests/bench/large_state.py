"""make bench-large-state: one job with much keyed state (tests/programs/large_state.c: 5 million keys, generated rows, no Kafka), with a
checkpoint every two seconds and without any, in turn. State is filled first; then the rate over a window, the pauses of the task
thread (snapshots, and single batches while a snapshot is being written: page copies), checkpoint durations and sizes, and the
runner's memory. At the end a recovery from the last checkpoint, and a window of a million keys that fires under barriers.
Prints a table and writes $BUILD/bench/large-state.json.
   python3 -m tests.bench.large_state [--keys N] [--rounds N] [--seconds S] [--interval MS] [--job counters|aggregates]"""

import argparse
import json
import os
import statistics
import tempfile
import threading
import time

from tests.bench.click_count import memory_mib
from tests.e2e.cluster import BUILD, Cluster

PROGRAM = os.path.join(BUILD, "tests", "programs", "large_state.so")
PAUSES = ["median", "p95", "p99", "p999", "max"]


class Job:
    """A running job; the vertex that holds the state is the one with inputs."""

    def __init__(self, cluster, *args):
        self.cluster = cluster
        self.id = cluster.run("-p", "1", PROGRAM, *args)
        cluster.wait_running(self.id)
        self.vertex = next(v["id"] for v in cluster.job(self.id)["vertices"] if "State" in v["name"] and "Source" not in v["name"])

    def metrics(self, *names):
        got = self.cluster.get(f"/jobs/{self.id}/vertices/{self.vertex}/subtasks/metrics?get={','.join(names)}&agg=max") or []
        return {m["id"]: m["max"] for m in got}

    def rows(self):
        return self.metrics("numRecordsIn").get("numRecordsIn", 0)

    def cpu_seconds(self):
        """CPU time of the thread that holds the state: unlike the rate it does not depend on what else the machine does."""
        for pid in self.cluster.runners():
            for thread in os.listdir(f"/proc/{pid}/task"):
                with open(f"/proc/{pid}/task/{thread}/comm") as comm, open(f"/proc/{pid}/task/{thread}/schedstat") as schedstat:
                    if comm.read().startswith("State"):
                        return int(schedstat.read().split()[0]) / 1e9
        raise AssertionError("no thread of the runner holds the state")

    def next_report(self):
        """(seconds, rows) at the moment of the next metrics report."""
        before = self.rows()
        while True:
            now = self.rows()
            if now != before:
                return time.monotonic(), now
            time.sleep(0.005)

    def wait_rows(self, rows, timeout=600):
        self.cluster.wait(lambda: self.rows() >= rows, timeout, f"{rows} rows")

    def cancel(self):
        self.cluster.flink("cancel", self.id)
        self.cluster.wait_state(self.id, "CANCELED", 60)


class MemoryWatch(threading.Thread):
    """The most resident memory of a process, MiB, sampled."""

    def __init__(self, pid):
        super().__init__(daemon=True)
        self.pid, self.most, self.stopped = pid, 0.0, threading.Event()
        self.start()

    def run(self):
        while not self.stopped.wait(0.05):
            self.most = max(self.most, memory_mib(self.pid, "VmRSS"))

    def stop(self):
        self.stopped.set()
        self.join()
        return self.most


def pauses(job, name):
    values = job.metrics(*[f"{name}_{p}" for p in PAUSES], f"{name}_count")
    return {p: round(values.get(f"{name}_{p}", 0) / 1000, 3) for p in PAUSES} | {"count": int(values.get(f"{name}_count", 0))}


def checkpoint_figures(cluster, job):
    done = [c for c in cluster.checkpoints(job.id)["history"] if c["status"] == "COMPLETED"]
    durations = [c["end_to_end_duration"] for c in done]
    return {"completed": cluster.checkpoints(job.id)["counts"]["completed"], "failed": cluster.checkpoints(job.id)["counts"]["failed"],
            "duration_ms_median": statistics.median(durations) if durations else 0, "duration_ms_max": max(durations, default=0),
            "state_mib": round(done[0]["state_size"] / 2**20, 1) if done else 0}


def measure(cluster, options, interval):
    """One run: fills, then counts for the window."""
    job = Job(cluster, "--keys", str(options.keys), "--checkpoint-interval", str(interval), "--job", options.job)
    runner = cluster.runners()[0]
    started = time.monotonic()
    job.wait_rows(options.keys * 6)  # all but one key in four hundred
    filled = time.monotonic() - started
    watch = MemoryWatch(runner)
    t0, rows0 = job.next_report()
    cpu0 = job.cpu_seconds()
    while time.monotonic() - t0 < options.seconds:
        time.sleep(0.05)
    t1, rows1 = job.next_report()
    figures = {"interval_ms": interval, "fill_seconds": round(filled, 2), "rate": (rows1 - rows0) / (t1 - t0), "rss_max_mib": round(watch.stop(), 1),
               "ns_per_row": (job.cpu_seconds() - cpu0) * 1e9 / (rows1 - rows0),
               "batches_ms": pauses(job, "batchTimeUs")}
    if interval > 0:
        figures |= {"snapshots_ms": pauses(job, "checkpointSyncTimeUs"), "batches_during_snapshot_ms": pauses(job, "batchTimeDuringSnapshotUs"),
                    "checkpoints": checkpoint_figures(cluster, job)}
    return job, figures


def recover(cluster, job, options):
    """Kills the runner: until all tasks run again, state restored."""
    runner = cluster.runners()[0]
    started = time.monotonic()
    os.kill(runner, 9)
    cluster.wait(lambda: cluster.runners() and runner not in cluster.runners() and cluster.is_running(job.id), 120, "the job to run again")
    return round(time.monotonic() - started, 2)


def windows(cluster, interval, keys=1000000, rows_per_window=4000000, seconds=20):
    """A tumbling count over many keys; each pane fires with nearly all of them. How long barriers wait for that."""
    job = Job(cluster, "--keys", str(keys), "--checkpoint-interval", str(interval), "--job", "windows", "--window", str(rows_per_window))
    job.wait_rows(rows_per_window * 2)
    t0, rows0 = job.next_report()
    time.sleep(seconds)
    t1, rows1 = job.next_report()
    figures = {"interval_ms": interval, "rate": (rows1 - rows0) / (t1 - t0), "batches_ms": pauses(job, "batchTimeUs")}
    if interval > 0:
        figures |= {"snapshots_ms": pauses(job, "checkpointSyncTimeUs"), "checkpoints": checkpoint_figures(cluster, job)}
    job.cancel()
    return figures


def show(name, row):
    print(f"{name:34}" + "".join(f"{row[p]:>10.3f}" for p in PAUSES) + f"{row['count']:>10}")


def report(result):
    print(f"{'':34}{'rows/s':>12}{'CPU ns/row':>12}{'fill s':>9}{'RSS MiB':>10}")
    for run in result["runs"]:
        title = f"checkpoints every {run['interval_ms']} ms" if run["interval_ms"] else "no checkpoints"
        print(f"{title:34}{run['rate']:>12.0f}{run['ns_per_row']:>12.1f}"
              f"{run['fill_seconds']:>9}{run['rss_max_mib']:>10}")
    rounds = ", ".join(f"{ratio:.2f}" for ratio in result["ratios"])
    print(f"rate with checkpoints / without: {result['ratio']:.3f} ({rounds}); by the task thread's CPU time a row: {result['cpu_ratio']:.3f}\n")
    print(f"{'pauses in ms':34}" + "".join(f"{p:>10}" for p in PAUSES) + f"{'count':>10}")
    for run in result["runs"]:
        if run["interval_ms"]:
            show("snapshot, on the task thread", run["snapshots_ms"])
            show("one batch during a snapshot", run["batches_during_snapshot_ms"])
            print("  " + json.dumps(run["checkpoints"]))
        else:
            show("one batch, no checkpoints", run["batches_ms"])
    print(f"killed runner until running again, state restored: {result.get('recovery_seconds')} s")
    for run in result["windows"]:
        print(f"windows, interval {run['interval_ms']} ms: {run['rate']:.0f} rows/s {json.dumps(run.get('checkpoints', {}))}")


def order(options, i):
    """Which run of a round comes first changes from round to round: a machine that becomes slower or faster favours neither."""
    return (0, options.interval) if i % 2 == 0 else (options.interval, 0)


def ratios(result, options, figure):
    """With checkpoints to without, round by round: the two runs of a round are neighbours in time."""
    of = {interval: [r[figure] for r in result["runs"] if r["interval_ms"] == interval] for interval in (0, options.interval)}
    return [with_ / without for with_, without in zip(of[options.interval], of[0])]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--keys", type=int, default=5000000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--interval", type=int, default=2000)
    parser.add_argument("--job", default="counters")
    parser.add_argument("--no-windows", action="store_true")
    options = parser.parse_args()
    result = {"keys": options.keys, "interval_ms": options.interval, "job": options.job, "runs": [], "windows": []}
    with tempfile.TemporaryDirectory(prefix="millrace-bench-") as root:
        cluster = Cluster(root, slots=1, config={"state.checkpoints.num-retained": 1}).start(1)
        try:
            for i in range(options.rounds):
                for interval in order(options, i):
                    job, figures = measure(cluster, options, interval)
                    if interval > 0 and i == options.rounds - 1:
                        result["recovery_seconds"] = recover(cluster, job, options)
                    result["runs"].append(figures)
                    job.cancel()
            if not options.no_windows:
                result["windows"] = [windows(cluster, interval) for interval in (0, options.interval)]
            cluster.stop()
        finally:
            cluster.destroy()
    result["ratios"] = ratios(result, options, "rate")
    result["ratio"] = statistics.median(result["ratios"])
    result["cpu_ratio"] = 1 / statistics.median(ratios(result, options, "ns_per_row"))
    os.makedirs(os.path.join(BUILD, "bench"), exist_ok=True)
    with open(os.path.join(BUILD, "bench", "large-state.json"), "w") as f:
        json.dump(result, f, indent=1)
        f.write("\n")
    report(result)


if __name__ == "__main__":
    main()
