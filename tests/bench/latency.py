"""make bench-latency: how fast the cluster reacts. Start of the jobmanager to its first REST answer, `flink list`, `flink run -d`
until all tasks run, loss of a taskmanager by kill -9 until it is noticed and until all tasks run again, and memory. Every
figure is measured several times; minimum, median and maximum are printed and written to $BUILD/bench/latency.json.
   python3 -m tests.bench.latency [--rounds N]"""

import argparse
import http.client
import json
import os
import statistics
import subprocess
import tempfile
import time

from tests.bench.click_count import memory_mib
from tests.e2e.clicks import Generator
from tests.e2e.cluster import BIN, BUILD, Cluster


class MockKafka:
    """librdkafka's mock cluster: what is measured here does not depend on the broker."""

    def __init__(self):
        self.process = subprocess.Popen([os.path.join(BIN, "kafka-mock-broker"), "--topic", "input:2", "--topic", "output:1"],
                                        stdout=subprocess.PIPE, text=True)
        self.bootstrap = self.process.stdout.readline().strip()

    def stop(self):
        self.process.terminate()
        self.process.wait()


def get_fast(cluster, path):
    """One GET on a fresh connection without urllib's overhead; None when nobody answers."""
    connection = http.client.HTTPConnection("127.0.0.1", cluster.rest_port, timeout=5)
    try:
        connection.request("GET", path)
        return json.loads(connection.getresponse().read())
    except OSError:
        return None
    finally:
        connection.close()


def until(condition, timeout=30):
    """Milliseconds until the condition holds, polled every half millisecond."""
    started = time.monotonic()
    while not condition():
        if time.monotonic() - started > timeout:
            raise AssertionError(f"waited {timeout} s in vain")
        time.sleep(0.0005)
    return (time.monotonic() - started) * 1000


def start_ms(directory):
    cluster = Cluster(directory)
    cluster.jobmanager = cluster._spawn("jobmanager", "jobmanager")
    took = until(lambda: get_fast(cluster, "/overview") is not None)
    idle = memory_mib(cluster.jobmanager.pid, "VmRSS")
    cluster.stop()
    return took, idle


def all_running(cluster, job):
    answer = get_fast(cluster, f"/jobs/{job}")
    return answer is not None and answer["state"] == "RUNNING" and answer["status-counts"]["RUNNING"] == sum(answer["status-counts"].values())


def recovery(figures, root, rounds):
    kafka = MockKafka()
    generator = Generator(kafka, "input", 1000)
    cluster = Cluster(os.path.join(root, "cluster"), slots=1,
                      config={"restart-strategy.fixed-delay.delay": "0 s", "web.refresh-interval": "100"}).start(2)
    try:
        for i in range(rounds):
            started = time.monotonic()
            cluster.flink("list")
            figures["flink_list_ms"].append((time.monotonic() - started) * 1000)
            started = time.monotonic()
            job = cluster.run("-p", "1", os.path.join(BIN, "ClickCountJob.so"), "--bootstrap.servers", kafka.bootstrap, "--checkpointing",
                              "--event-time")
            until(lambda: all_running(cluster, job))
            figures["run_until_running_ms"].append((time.monotonic() - started) * 1000)
            cluster.wait_checkpoint(job, 2)
            figures["jobmanager_with_job_mib"].append(memory_mib(cluster.jobmanager.pid, "VmRSS"))
            victim = next(t for t in cluster.taskmanagers if t.poll() is None and cluster.runners(t))
            figures["taskmanager_mib"].append(memory_mib(victim.pid, "VmRSS"))
            figures["task_runner_mib"].append(memory_mib(cluster.runners(victim)[0], "VmRSS"))
            victim.kill()
            noticed = until(lambda: get_fast(cluster, "/overview")["taskmanagers"] == 1)
            figures["loss_noticed_ms"].append(noticed)
            figures["running_again_ms"].append(noticed + until(lambda: all_running(cluster, job)))
            victim.wait()
            cluster.flink("cancel", job)
            cluster.wait_state(job, "CANCELED")
            cluster.add_taskmanager()
            cluster.wait(lambda: cluster.get("/overview")["slots-available"] == 2, 10, "2 free slots")
        cluster.stop()
    finally:
        generator.stop()
        cluster.destroy()
        kafka.stop()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    names = ["jobmanager_start_ms", "flink_list_ms", "run_until_running_ms", "loss_noticed_ms", "running_again_ms", "jobmanager_idle_mib",
             "jobmanager_with_job_mib", "taskmanager_mib", "task_runner_mib"]
    figures = {name: [] for name in names}
    with tempfile.TemporaryDirectory(prefix="millrace-bench-") as root:
        for i in range(options.rounds):
            took, idle = start_ms(os.path.join(root, f"start-{i}"))
            figures["jobmanager_start_ms"].append(took)
            figures["jobmanager_idle_mib"].append(idle)
        recovery(figures, root, options.rounds)
    result = {name: {"min": round(min(v), 1), "median": round(statistics.median(v), 1), "max": round(max(v), 1)} for name, v in figures.items()}
    os.makedirs(os.path.join(BUILD, "bench"), exist_ok=True)
    with open(os.path.join(BUILD, "bench", "latency.json"), "w") as f:
        json.dump(result, f, indent=1)
        f.write("\n")
    print(f"{'':28}{'min':>9}{'median':>9}{'max':>9}")
    for name, row in result.items():
        print(f"{name:28}{row['min']:>9}{row['median']:>9}{row['max']:>9}")


if __name__ == "__main__":
    main()
