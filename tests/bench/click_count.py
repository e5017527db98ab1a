"""make bench: the Click Event Count job on a real Kafka topic, side by side with a bare librdkafka consumer that only counts
messages, and the engine alone. Each is measured three times in turn; medians are reported. Prints a table and writes
$BUILD/bench/click-count.json.   python3 -m tests.bench.click_count [--records N] [--parallelism N]"""

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time

from tests.e2e.clicks import Generator
from tests.e2e.cluster import BIN, BUILD, Cluster
from tests.e2e.kafka import Kafka

TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            fields = f.read().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / TICKS


def memory_mib(pid, field="VmHWM"):
    try:
        with open(f"/proc/{pid}/status") as f:
            for line in f:
                if line.startswith(field):
                    return int(line.split()[1]) / 1024
    except OSError:
        pass
    return 0.0


def bare_run(kafka, topic, records):
    done = subprocess.run([os.path.join(BUILD, "bench", "bare_consumer"), "--bootstrap.servers", kafka.bootstrap, "--topic", topic,
                           "--count", str(records)], capture_output=True, text=True, check=True)
    figures = json.loads(done.stdout.strip().splitlines()[-1])
    return {"rate": figures["messages"] / figures["seconds"], "cpu": figures["cpu_seconds"], "seconds": figures["seconds"]}


def last_result_ms(kafka, topic):
    """Number of results and Kafka's timestamp of the last one."""
    out = subprocess.run(["kcat", "-b", kafka.bootstrap, "-t", topic, "-C", "-e", "-q", "-o", "beginning", "-f", "%T %s\n"],
                         capture_output=True, text=True).stdout.splitlines()
    return len(out), max((int(line.split(" ", 1)[0]) for line in out), default=0)


def job_run(kafka, topic, output, records, parallelism, directory):
    """Rate from the moment all tasks run to the result of the last complete window; CPU of all of Millrace's processes."""
    cluster = Cluster(directory, slots=parallelism).start(1)
    try:
        taskmanager = cluster.taskmanagers[0]
        job = cluster.run("-p", str(parallelism), os.path.join(BIN, "ClickCountJob.so"), "--bootstrap.servers", kafka.bootstrap,
                          "--input-topic", topic, "--output-topic", output, "--checkpointing", "--event-time", "--chaining")
        cluster.wait_running(job)
        runner = cluster.runners()[0]
        source = cluster.job(job)["vertices"][0]["id"]

        def consumed():
            got = cluster.get(f"/jobs/{job}/vertices/{source}/subtasks/metrics?get=numRecordsOut") or []
            return bool(got) and got[0]["sum"] >= records

        deadline = time.monotonic() + 300
        while not consumed():
            if time.monotonic() > deadline:
                raise AssertionError("the job did not read the topic within 300 s")
            time.sleep(0.1)
        pids = [cluster.jobmanager.pid, taskmanager.pid, runner]
        cpu = sum(cpu_seconds(pid) for pid in pids)
        time.sleep(1.5)
        windows = (records // 6 * 15 - 215) // 15000
        count, end_ms = last_result_ms(kafka, output)
        if count != windows * 6:
            raise AssertionError(f"{count} results, expected {windows * 6}")
        start_ms = max(v["start-time"] for v in cluster.job(job)["vertices"])
        timestamps = cluster.job(job)["timestamps"]
        figures = {"rate": (windows * 6000 + 86) / ((end_ms - start_ms) / 1000), "cpu": cpu, "seconds": (end_ms - start_ms) / 1000,
                   "start_ms": start_ms - timestamps["CREATED"],
                   "jobmanager_mib": memory_mib(pids[0]), "taskmanager_mib": memory_mib(pids[1]), "runner_mib": memory_mib(pids[2])}
        cluster.flink("cancel", job)
        cluster.stop()
        return figures
    finally:
        cluster.destroy()


def engine_run(root):
    path = os.path.join(root, "engine.json")
    subprocess.run([os.path.join(BUILD, "bench", "bench_engine"), "--json", path], check=True, stdout=subprocess.DEVNULL)
    with open(path) as f:
        return json.load(f)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--records", type=int, default=10_000_000)
    parser.add_argument("--parallelism", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    if options.records < 60_000:
        parser.error("--records must be at least 60000: ten windows")
    bare, job, engine = [], [], []
    with tempfile.TemporaryDirectory(prefix="millrace-bench-") as root:
        kafka = Kafka(os.path.join(root, "kafka"), heap="768m").start()
        try:
            print(f"writing {options.records} click events", flush=True)
            Generator(kafka, "clicks", 0, options.records, partitions=options.parallelism).wait(600)
            bare_run(kafka, "clicks", options.records)  # the page cache is warm for everyone
            for i in range(options.rounds):
                bare.append(bare_run(kafka, "clicks", options.records))
                job.append(job_run(kafka, "clicks", f"counts-{i}", options.records, options.parallelism, os.path.join(root, f"cluster-{i}")))
                engine.append(engine_run(root)["engine_rate_per_core"])
                print(f"round {i + 1}: bare {bare[-1]['rate'] / 1e6:.2f} M/s, job {job[-1]['rate'] / 1e6:.2f} M/s, "
                      f"engine alone {engine[-1] / 1e6:.1f} M/s and core", flush=True)
        finally:
            kafka.stop()

    def median(rows, key):
        return statistics.median(row[key] for row in rows)

    result = {
        "records": options.records, "parallelism": options.parallelism, "rounds": options.rounds,
        "rate_per_second": round(median(job, "rate")), "bare_rate_per_second": round(median(bare, "rate")),
        "rate_ratio": round(statistics.median(j["rate"] / b["rate"] for j, b in zip(job, bare)), 3),
        "cpu_seconds": round(median(job, "cpu"), 2), "bare_cpu_seconds": round(median(bare, "cpu"), 2),
        "cpu_ratio": round(statistics.median(j["cpu"] / b["cpu"] for j, b in zip(job, bare)), 3),
        "engine_rate_per_core": round(statistics.median(engine)),
        "jobmanager_mib": round(median(job, "jobmanager_mib"), 1), "taskmanager_mib": round(median(job, "taskmanager_mib"), 1),
        "runner_mib": round(median(job, "runner_mib"), 1),
    }
    os.makedirs(os.path.join(BUILD, "bench"), exist_ok=True)
    with open(os.path.join(BUILD, "bench", "click-count.json"), "w") as f:
        json.dump(result, f, indent=1)
        f.write("\n")
    print(f"\n{'':24}{'records/s':>14}{'CPU s':>10}\n{'bare consumer':24}{result['bare_rate_per_second']:>14}{result['bare_cpu_seconds']:>10}\n"
          f"{'Click Event Count':24}{result['rate_per_second']:>14}{result['cpu_seconds']:>10}\n"
          f"{'ratio':24}{result['rate_ratio']:>14}{result['cpu_ratio']:>10}\n"
          f"{'engine alone, per core':24}{result['engine_rate_per_core']:>14}\n\n"
          f"peak memory: jobmanager {result['jobmanager_mib']} MiB, taskmanager {result['taskmanager_mib']} MiB, "
          f"task runner {result['runner_mib']} MiB (librdkafka's queue included)")


if __name__ == "__main__":
    main()
