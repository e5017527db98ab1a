"""Slow user functions: back pressure shows where it is, checkpoints go through, and cancel and stop do not wait for a whole batch."""

import os
import time

from .cluster import BUILD


def start(env, *args, parallelism="1"):
    cluster = env.cluster(1, slots=int(parallelism), config={"metrics.report.interval": "200 ms", "task.function.timeout": "300 ms"})
    job = cluster.run("-p", parallelism, os.path.join(BUILD, "tests", "programs", "slow_map.so"), *args)
    cluster.wait_running(job)
    return cluster, job


def vertex(cluster, job, word):
    return next(v["id"] for v in cluster.job(job)["vertices"] if word in v["name"])


def back_pressure(cluster, job, word):
    """(level, ratio, busy ratio) of the first subtask."""
    answer = cluster.get(f"/jobs/{job}/vertices/{vertex(cluster, job, word)}/backpressure")
    first = (answer.get("subtasks") or [{}])[0]
    return answer.get("backpressure-level"), first.get("ratio", 0), first.get("busyRatio", 0)


def rows_of(cluster, job, word):
    metrics = next(v["metrics"] for v in cluster.job(job)["vertices"] if word in v["name"])
    return metrics["read-records"], metrics["write-records"]


def check_cancel(cluster, job, limit_s):
    started = time.monotonic()
    cluster.flink("cancel", job)
    cluster.wait_state(job, "CANCELED", 10)
    spent = time.monotonic() - started
    assert spent < limit_s, f"the cancel took {spent:.2f} s"


def test_shows_where_it_is(env):
    cluster, job = start(env, "--sleep-us", "500", "--rate", "20000")
    cluster.wait(lambda: back_pressure(cluster, job, "Rows")[1] > 0.5 and back_pressure(cluster, job, "Slow")[2] > 0.9, 20,
                 "back pressure at the source")
    level, ratio, _ = back_pressure(cluster, job, "Rows")
    assert level == "high" and ratio > 0.5, (level, ratio)
    level, ratio, busy = back_pressure(cluster, job, "Slow")
    assert level == "ok" and ratio <= 0.1 and busy > 0.9, (level, ratio, busy)
    before = cluster.checkpoints(job)["counts"]["completed"]
    cluster.wait(lambda: cluster.checkpoints(job)["counts"]["completed"] >= before + 2, 60, "two checkpoints under back pressure")
    check_cancel(cluster, job, 1)


def test_cancel_inside_a_slow_batch(env):
    """Rows turn slow (100 ms each) in the midst of a batch: 2048 of them would take minutes."""
    for chain in ([], ["--chain"]):
        cluster, job = start(env, "--sleep-us", "100000", "--after", "1000", "--interval", "100000", *chain)
        name = "Slow"
        cluster.wait(lambda: rows_of(cluster, job, name)[0] + rows_of(cluster, job, name)[1] >= (1000 if not chain else 0), 10, "the first rows")
        time.sleep(2.5)
        if not chain:
            first = rows_of(cluster, job, "Slow")[1]
            cluster.wait(lambda: rows_of(cluster, job, "Slow")[1] > first, 3, "single rows to show in the metrics")
        check_cancel(cluster, job, 1)


def test_stop_and_counts(env):
    """A stop with a savepoint inside slow rows: everything before its barrier is in, nothing twice."""
    for chain in ([], ["--chain"]):
        cluster, job = start(env, "--sleep-us", "2000", "--rate", "300", *chain)
        cluster.wait_checkpoint(job, 2)
        done = cluster.flink("stop", "--savepointPath", os.path.join(cluster.directory, "savepoints"), job)
        assert "Savepoint completed. Path: file:" in done.stdout, done.stdout
        cluster.wait_state(job, "FINISHED")
        if not chain:
            read, written = rows_of(cluster, job, "Slow")
            sent = rows_of(cluster, job, "Rows")[1]
            assert read == written == sent > 0, (sent, read, written)
        finished = cluster.run("-p", "1", os.path.join(BUILD, "tests", "programs", "slow_map.so"), "--sleep-us", "2000", "--rows", "1500",
                               "--rate", "0", *chain)
        cluster.wait_state(finished, "FINISHED", 60)
        if not chain:
            assert rows_of(cluster, finished, "Slow") == (1500, 1500), rows_of(cluster, finished, "Slow")


def test_function_time_limit_counts_single_calls(env):
    """Many calls that take 2 ms each are fine under a limit of 300 ms; only one call that takes longer is not."""
    cluster, job = start(env, "--spin", "--sleep-us", "2000", "--rows", "1000", "--rate", "0")
    cluster.wait_state(job, "FINISHED", 60)
