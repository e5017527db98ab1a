"""Slow user functions: back pressure shows where it is, checkpoints go through, and cancel and stop do not wait for a whole batch."""

import os
import time

from .clicks import Generator, check_results, complete_windows, results
from .cluster import BUILD
from ..support_py.suite import alone, takes


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


@alone("measures how busy tasks are")
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


@alone("measures how long a cancel takes")
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


@alone("functions have 300 ms")
def test_function_time_limit_counts_single_calls(env):
    """Many calls that take 2 ms each are fine under a limit of 300 ms; only one call that takes longer is not."""
    cluster, job = start(env, "--spin", "--sleep-us", "2000", "--rows", "1000", "--rate", "0")
    cluster.wait_state(job, "FINISHED", 60)


# ---- the playground's job ----

def wait_even_minute(left_s):
    """Until an even minute with so much of it left: then the map of the playground's job is slow."""
    while True:
        now = time.time()
        if int(now / 60) % 2 == 0 and 60 - now % 60 >= left_s:
            return
        time.sleep(min(60 - now % 60, 1))


@takes(120)
def test_click_count_in_even_minutes(env):
    """Click Event Count with --backpressure on Kafka: 10 clicks a second get through, REST says where it is, checkpoints take less than a second,
    and after a kill in the midst of it every window has its 1000 clicks."""
    kafka = env.kafka()
    generator = env.closing(Generator(kafka, env.topic("in"), 3000))
    cluster = env.cluster(2, slots=1, config={**UNALIGNED, "metrics.report.interval": "500 ms"})
    job = cluster.run("-p", "2", env.program("ClickCountJob.so"), "--bootstrap.servers", kafka.bootstrap, "--input-topic", env.topic("in"),
                      "--output-topic", env.topic("out"), "--checkpointing", "--event-time", "--exactly-once", "--backpressure")
    cluster.wait_running(job)
    wait_even_minute(45)
    cluster.wait(lambda: back_pressure(cluster, job, "Source")[0] == "high" and back_pressure(cluster, job, "Backpressure")[2] > 0.95, 20,
                 "back pressure at the source")
    counted, before = rows_of(cluster, job, "Backpressure")[1], time.monotonic()
    known = {c["id"] for c in cluster.checkpoints(job)["history"]}
    time.sleep(6)
    passed = (rows_of(cluster, job, "Backpressure")[1] - counted) / (time.monotonic() - before)
    assert passed <= 2 * 10 * 1.2, f"{passed:.1f} clicks a second came through two maps"
    taken = [c for c in cluster.checkpoints(job)["history"] if c["id"] not in known and c["status"] == "COMPLETED"]
    durations = [c["end_to_end_duration"] for c in taken]
    assert len(taken) >= 3 and sorted(durations)[len(durations) // 2] < 1000, durations
    assert all(c["persisted_data"] > 0 for c in taken), taken
    victim = cluster.taskmanagers[0]
    victim.kill()
    victim.wait()
    cluster.add_taskmanager()
    cluster.wait(lambda: cluster.checkpoints(job)["counts"]["restored"] >= 1, 30, "the restore")
    cluster.wait_running(job, 60)
    generator.stop()
    windows = max(len(kafka.read(env.topic("in"))) // 6000 - 1, 1)
    cluster.wait(lambda: len(complete_windows(results(kafka, env.topic("out")))) >= windows, 120, f"{windows} windows in the odd minute")
    check_results(results(kafka, env.topic("out")), windows, exactly_once=True)
    check_cancel(cluster, job, 5)


# ---- unaligned checkpoints ----

UNALIGNED = {"execution.checkpointing.unaligned.enabled": "true"}


class SlowJob:
    """A source, a shuffle, a map that sleeps 2 ms a row as long as a file exists, and files as output. It ends after `rows` rows."""

    def __init__(self, env, config, rows, taskmanagers=2, program=()):
        self.rows = rows
        self.program = program
        self.cluster = env.cluster(taskmanagers, slots=3, config={"metrics.report.interval": "200 ms", "execution.checkpointing.timeout": "5 min",
                                                                  "execution.checkpointing.externalized-checkpoint-retention":
                                                                  "RETAIN_ON_CANCELLATION", **config})
        self.output = os.path.join(self.cluster.directory, "output")
        self.brake = os.path.join(self.cluster.directory, "slow")
        open(self.brake, "w").close()
        self.job = self.run("2")

    def run(self, parallelism, *flags):
        job = self.cluster.run("-p", parallelism, *flags, os.path.join(BUILD, "tests", "programs", "slow_map.so"), "--sleep-us", "2000", "--rate",
                               "40000", "--rows", str(self.rows), "--key", "--while", self.brake, "--output", self.output, "--interval", "300",
                               *self.program)
        self.cluster.wait_running(job)
        return job

    def wait_back_pressure(self):
        """The map is busy, and the source waits for it."""
        self.cluster.wait(lambda: back_pressure(self.cluster, self.job, "Rows")[0] == "high" and
                          back_pressure(self.cluster, self.job, "Slow")[2] > 0.9, 30, "back pressure at the source")

    def checkpoints_under_way(self, count):
        """The next `count` checkpoints that complete, triggered from now on. Rows sent = rows that came + rows in flight, on every edge."""
        known = {c["id"] for c in self.cluster.checkpoints(self.job)["history"]}

        def completed():
            return [c for c in self.cluster.checkpoints(self.job)["history"] if c["id"] not in known and c["status"] == "COMPLETED"]
        self.cluster.wait(lambda: len(completed()) >= count, 60, f"{count} checkpoints under back pressure")
        taken = completed()
        for checkpoint in taken:
            details = self.cluster.get(f"/jobs/{self.job}/checkpoints/details/{checkpoint['id']}")
            assert details["booksBalance"], details.get("booksFaults")
        return taken

    def release(self):
        os.unlink(self.brake)

    def check_output(self, timeout=60):
        """Every row is there once."""
        self.cluster.wait_state(self.job, "FINISHED", timeout)
        ids = []
        for name in os.listdir(self.output):
            if not name.startswith("."):
                with open(os.path.join(self.output, name)) as f:
                    ids += [int(line.split(",")[0]) for line in f if line.strip()]
        assert len(ids) == len(set(ids)), f"{len(ids) - len(set(ids))} rows came twice"
        assert set(ids) == set(range(self.rows)), f"{self.rows - len(ids)} of {self.rows} rows are missing"


def subtasks(job, checkpoint):
    """What REST says of each subtask of a checkpoint."""
    found = []
    for v in job.cluster.job(job.job)["vertices"]:
        found += job.cluster.get(f"/jobs/{job.job}/checkpoints/details/{checkpoint['id']}/subtasks/{v['id']}")["subtasks"]
    return found


def test_unaligned_checkpoints_overtake(env):
    """Under the same back pressure aligned checkpoints wait for seconds of rows, unaligned ones do not; a kill in the midst of it loses nothing."""
    job = SlowJob(env, UNALIGNED, 100000)
    config = job.cluster.get(f"/jobs/{job.job}/checkpoints/config")
    assert config["unaligned_checkpoints"] is True and config["aligned_checkpoint_timeout"] == 0, config
    job.wait_back_pressure()
    taken = job.checkpoints_under_way(4)
    fastest = min(c["end_to_end_duration"] for c in taken)
    assert fastest < 1000, taken
    assert all(c["persisted_data"] > 0 and c["checkpoint_type"] == "UNALIGNED_CHECKPOINT" for c in taken), taken
    details = subtasks(job, taken[0])
    assert all(s["unaligned_checkpoint"] for s in details), details
    assert sum(s["alignment"]["persisted"] for s in details) == taken[0]["persisted_data"] > 0, details
    restarts = job.cluster.checkpoints(job.job)["counts"]["restored"]
    for taskmanager in list(job.cluster.taskmanagers):
        taskmanager.kill()
        taskmanager.wait()
        job.cluster.add_taskmanager()
        restarts += 1
        job.cluster.wait(lambda: job.cluster.checkpoints(job.job)["counts"]["restored"] >= restarts, 60, "the restore")
        job.cluster.wait_running(job.job, 60)
        job.wait_back_pressure()
        job.checkpoints_under_way(1)
    job.release()
    job.check_output()


def test_aligned_timeout(env):
    """Barriers wait their turn until the checkpoint is 700 ms old."""
    job = SlowJob(env, {**UNALIGNED, "execution.checkpointing.aligned-checkpoint-timeout": "700 ms"}, 60000)
    assert job.cluster.get(f"/jobs/{job.job}/checkpoints/config")["aligned_checkpoint_timeout"] == 700
    job.wait_back_pressure()
    for checkpoint in job.checkpoints_under_way(2):
        assert checkpoint["end_to_end_duration"] >= 700, checkpoint
        assert any(s["unaligned_checkpoint"] for s in subtasks(job, checkpoint)), checkpoint
    job.release()
    job.check_output()


def test_rescale_from_an_unaligned_checkpoint(env):
    """A retained unaligned checkpoint starts the job at another parallelism: each row in flight goes to the subtask that its key belongs to."""
    job = SlowJob(env, UNALIGNED, 100000)
    job.wait_back_pressure()
    taken = job.checkpoints_under_way(2)
    assert taken[0]["persisted_data"] > 0, taken
    job.cluster.flink("cancel", job.job)
    job.cluster.wait_state(job.job, "CANCELED")
    path = job.cluster.checkpoints(job.job)["latest"]["completed"]["external_path"]
    job.job = job.run("3", "-s", path)
    job.wait_back_pressure()
    job.checkpoints_under_way(1)
    job.release()
    job.check_output()


def test_unaligned_in_one_chain(env):
    """Map, writer and committer in one task: rows that the slow map holds, and what is behind them, go into the checkpoint."""
    job = SlowJob(env, UNALIGNED, 60000, program=["--chain"])
    job.wait_back_pressure()
    taken = job.checkpoints_under_way(2)
    assert min(c["end_to_end_duration"] for c in taken) < 1000, taken
    job.cluster.kill_runners()
    job.cluster.wait(lambda: job.cluster.checkpoints(job.job)["counts"]["restored"] >= 1, 60, "the restore")
    job.cluster.wait_running(job.job, 60)
    job.checkpoints_under_way(1)
    job.release()
    job.check_output()


def test_savepoints_stay_aligned(env):
    """A savepoint under unaligned checkpoints waits for the rows before it and holds none in flight; at-least-once turns unaligned off."""
    job = SlowJob(env, UNALIGNED, 30000)
    job.wait_back_pressure()
    job.release()
    done = job.cluster.flink("savepoint", job.job)
    assert "Savepoint completed. Path: file:" in done.stdout, done.stdout
    savepoint = job.cluster.checkpoints(job.job)["latest"]["savepoint"]
    assert savepoint["persisted_data"] == 0 and savepoint["checkpoint_type"] == "SAVEPOINT", savepoint
    job.check_output()
    cluster = env.cluster(1, slots=1, config={**UNALIGNED, "execution.checkpointing.mode": "AT_LEAST_ONCE"})
    other = cluster.run("-p", "1", os.path.join(BUILD, "tests", "programs", "slow_map.so"), "--sleep-us", "0", "--rate", "1000")
    assert cluster.get(f"/jobs/{other}/checkpoints/config")["unaligned_checkpoints"] is False
    check_cancel(cluster, other, 5)
