"""What the tests with the records job (tests/programs/records.c) share: writing records, running the job, reading its answers."""

import json
import os
import subprocess

from .cluster import BUILD

PROGRAM = os.path.join(BUILD, "tests", "programs", "records.so")
START_MS = 1_600_000_000_000


def event(n, key="a", at=None):
    return json.dumps({"at": START_MS + n if at is None else at, "key": key, "n": n}, separators=(",", ":"))


def produce(kafka, topic, values, partition=0):
    """Writes values (text or bytes without line feeds; None is a null value) to one partition; the topic appears by itself."""
    lines = b"".join(b"\x01" + (b"" if v is None else v if isinstance(v, bytes) else v.encode()) + b"\n" for v in values)
    done = subprocess.run(["kcat", "-P", "-b", kafka.bootstrap, "-t", topic, "-p", str(partition), "-Z", "-K", "\x01"], input=lines,
                          capture_output=True, timeout=60)
    if done.returncode != 0:
        raise AssertionError(f"kcat could not write to {topic}: {done.stderr.decode()}")


def records_args(kafka, *args, output):
    return ["--bootstrap.servers", kafka.bootstrap, "--output", output, *args]


def run_records(cluster, kafka, *args, output, flink=()):
    """Starts the job; its id."""
    return cluster.run(*flink, PROGRAM, *records_args(kafka, *args, output=output))


def numbers(kafka, topic, isolation="read_committed"):
    """The n of every row of a topic, in order of partition and offset."""
    return [json.loads(text)["n"] for _, _, text in kafka.read(topic, isolation)]


def wait_rows(cluster, kafka, topic, count, timeout=20):
    """Waits for `count` committed rows in a topic; gives the texts."""
    rows = []

    def arrived():
        rows[:] = [text for _, _, text in kafka.read(topic)]
        return len(rows) >= count

    cluster.wait(arrived, timeout, f"{count} rows in {topic}")
    return rows


def exceptions(cluster, job):
    return json.dumps(cluster.get(f"/jobs/{job}/exceptions"))


def latest_checkpoint(cluster, job):
    """Details, with books, of the newest completed checkpoint or savepoint."""
    latest = cluster.checkpoints(job)["latest"]
    newest = max(filter(None, (latest["completed"], latest["savepoint"])), key=lambda checkpoint: checkpoint["id"])
    return cluster.get(f"/jobs/{job}/checkpoints/details/{newest['id']}")


def wait_next_checkpoint(cluster, job):
    """A checkpoint that was triggered after this call; its details."""
    highest = max([c["id"] for c in cluster.checkpoints(job)["history"]], default=0)
    cluster.wait(lambda: (cluster.checkpoints(job)["latest"]["completed"] or {"id": 0})["id"] > highest, 20, f"a checkpoint of {job} after {highest}")
    return latest_checkpoint(cluster, job)


def log_text(cluster, name="jobmanager"):
    with open(os.path.join(cluster.directory, f"{name}.log"), errors="replace") as f:
        return f.read()
