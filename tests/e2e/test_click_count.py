"""Click Event Count on real processes and a real Kafka: every 15-second window counts exactly 1000 clicks per page, whatever
is killed, stopped, cut off or rescaled meanwhile."""

import json
import os
import signal
import time

from .clicks import Generator, check_results, complete_windows, results
from .kafka import Kafka
from .proxy import Proxy
from ..support_py.suite import takes

KILLS = int(os.environ.get("KILLS", "6"))


def job_args(env, kafka, *extra, chaining=False):
    bootstrap = kafka if isinstance(kafka, str) else kafka.bootstrap
    return ["--bootstrap.servers", bootstrap, "--input-topic", env.topic("in"), "--output-topic", env.topic("out"),
            "--checkpointing", "--event-time", *(["--chaining"] if chaining else []), *extra]


def wait_windows(env, kafka, count, isolation="read_committed", timeout=60):
    """Waits until the output has `count` complete windows; gives the results."""
    deadline = time.monotonic() + timeout
    while True:
        found = results(kafka, env.topic("out"), isolation)
        if len(complete_windows(found)) >= count:
            return found
        if time.monotonic() > deadline:
            check_results(found, count)
        time.sleep(0.5)


def test_counts_1000(env):
    kafka = env.kafka()
    Generator(kafka, env.topic("in"), 0, 6000 * 10 + 600).wait()
    cluster = env.cluster(1, slots=2)
    job = cluster.run("-p", "2", env.program("ClickCountJob.so"), *job_args(env, kafka))
    cluster.wait_running(job)
    names = [v["name"] for v in cluster.job(job)["vertices"]]
    assert names == ["Source: ClickEvent Source", "ClickEvent Counter", "ClickEventStatistics Sink: Writer",
                     "ClickEventStatistics Sink: Committer"], names
    listed = cluster.flink("list").stdout
    assert f" : {job} : Click Event Count (RUNNING)" in listed, listed
    check_results(wait_windows(env, kafka, 10), 10, exactly_once=True)
    cluster.wait_checkpoint(job, 3)
    cluster.flink("cancel", job)
    cluster.wait_state(job, "CANCELED")


def test_more_subtasks_than_partitions(env):
    """Two of the four source subtasks have no partition; they must not hold time back."""
    kafka = env.kafka()
    Generator(kafka, env.topic("in"), 0, 6000 * 4 + 600).wait()
    cluster = env.cluster(2, slots=2)
    job = cluster.run("-p", "4", env.program("ClickCountJob.so"), *job_args(env, kafka, chaining=True))
    check_results(wait_windows(env, kafka, 4), 4, exactly_once=True)
    cluster.flink("cancel", job)


def test_stop_with_savepoint_and_rescale(env):
    kafka = env.kafka()
    generator = env.closing(Generator(kafka, env.topic("in"), 12000, out_of_orderness=150))
    cluster = env.cluster(2, slots=2)
    job = cluster.run("-p", "1", env.program("ClickCountJob.so"), *job_args(env, kafka))
    for parallelism in ("3", "2"):
        cluster.wait_running(job)
        time.sleep(2)
        done = cluster.flink("stop", "--savepointPath", os.path.join(cluster.directory, "savepoints"), job)
        path = done.stdout.strip().splitlines()[-1].removeprefix("Savepoint completed. Path: ")
        assert path.startswith("file:"), done.stdout
        cluster.wait_state(job, "FINISHED")
        job = cluster.run("-p", parallelism, "-s", path, env.program("ClickCountJob.so"), *job_args(env, kafka))
    found = wait_windows(env, kafka, 8)  # however long the generator takes to write them
    generator.stop()
    check_results(found, 8, exactly_once=True)
    cluster.flink("cancel", job)


def kill_something(env, cluster):
    """kill -9 of a taskmanager (which then returns) or of a task runner, at a random moment."""
    alive = [t for t in cluster.taskmanagers if t.poll() is None]
    victim = env.random.choice(alive)
    runners = cluster.runners(victim)
    if runners and env.random.random() < 0.5:
        os.kill(env.random.choice(runners), signal.SIGKILL)
    else:
        victim.kill()
        victim.wait()
        cluster.add_taskmanager()


def kill_test(env, exactly_once):
    kafka = env.kafka()
    generator = env.closing(Generator(kafka, env.topic("in"), 20000, out_of_orderness=150))
    cluster = env.cluster(2, slots=1)
    job = cluster.run("-p", "2", env.program("ClickCountJob.so"), *job_args(env, kafka, *(["--exactly-once"] if exactly_once else [])))
    cluster.wait_running(job)
    for _ in range(KILLS):
        time.sleep(env.random.uniform(0.3, 3.0))
        kill_something(env, cluster)
    cluster.wait_running(job, 60)
    generator.stop()
    expected = results_expected(kafka, env.topic("in"))
    found = wait_windows(env, kafka, expected, timeout=90)
    check_results(found, expected, exactly_once)
    assert cluster.state(job) == "RUNNING"
    cluster.flink("cancel", job)


def results_expected(kafka, topic):
    """Complete windows that the input holds: those before the one that the last event of each partition lies in."""
    count = len(kafka.read(topic))
    return max(count // 6000 - 1, 1)


@takes(20)
def test_kills_at_least_once(env):
    kill_test(env, exactly_once=False)


@takes(20)
def test_kills_exactly_once(env):
    kill_test(env, exactly_once=True)


def test_stopped_taskmanager(env):
    """kill -STOP: silence instead of a closed connection. The task runner of the stopped agent must not live on as a zombie."""
    kafka = env.kafka()
    generator = env.closing(Generator(kafka, env.topic("in"), 12000))
    cluster = env.cluster(2, slots=1, config={"heartbeat.interval": "300 ms", "heartbeat.timeout": "1500 ms"})
    job = cluster.run("-p", "1", env.program("ClickCountJob.so"), *job_args(env, kafka))
    cluster.wait_running(job)
    cluster.wait_checkpoint(job)
    victim = next(t for t in cluster.taskmanagers if cluster.runners(t))
    os.kill(victim.pid, signal.SIGSTOP)
    cluster.wait(lambda: cluster.get("/overview")["taskmanagers"] == 1, 10, "the stopped taskmanager to be lost")
    cluster.wait_running(job)
    cluster.wait(lambda: not cluster.runners(victim), 10, "the runner of the stopped taskmanager to end")
    os.kill(victim.pid, signal.SIGCONT)
    cluster.wait(lambda: cluster.get("/overview")["taskmanagers"] == 2, 10, "the taskmanager to come back")
    time.sleep(2)
    generator.stop()
    expected = results_expected(kafka, env.topic("in"))
    check_results(wait_windows(env, kafka, expected), expected)
    cluster.flink("cancel", job)


@takes(40)
def test_broker_killed_and_stopped(env):
    kafka = env.closing(Kafka(os.path.join(env.directory, "kafka")).start())
    generator = env.closing(Generator(kafka, env.topic("in"), 12000))
    cluster = env.cluster(1, slots=2)
    job = cluster.run("-p", "2", env.program("ClickCountJob.so"), *job_args(env, kafka, "--exactly-once"))
    cluster.wait_running(job)
    cluster.wait_checkpoint(job, 2)
    kafka.kill()
    time.sleep(2)
    kafka.start()
    time.sleep(3)
    kafka.pause()
    time.sleep(3)
    kafka.resume()
    time.sleep(3)
    generator.stop()
    expected = results_expected(kafka, env.topic("in"))
    check_results(wait_windows(env, kafka, expected, timeout=90), expected, exactly_once=True)
    cluster.flink("cancel", job)


def test_network_cut(env):
    """The path to Kafka, then the path between taskmanager and jobmanager, falls silent for a while."""
    kafka = env.kafka()
    generator = env.closing(Generator(kafka, env.topic("in"), 12000))
    cluster = env.cluster(0, slots=1, config={"heartbeat.interval": "300 ms", "heartbeat.timeout": "1500 ms"})
    proxy = env.closing(Proxy(cluster.rpc_port))
    for _ in range(2):
        cluster.add_taskmanager("-D", f"jobmanager.rpc.port={proxy.port}")
    cluster.wait(lambda: cluster.get("/overview")["taskmanagers"] == 2, 10, "2 taskmanagers")
    job = cluster.run("-p", "2", env.program("ClickCountJob.so"), *job_args(env, kafka, "--exactly-once"))
    cluster.wait_running(job)
    cluster.wait_checkpoint(job, 2)
    proxy.cut()
    cluster.wait(lambda: cluster.get("/overview")["taskmanagers"] == 0, 10, "the taskmanagers to be lost")
    proxy.mend()
    cluster.wait_running(job, 30)
    time.sleep(2)
    generator.stop()
    expected = results_expected(kafka, env.topic("in"))
    check_results(wait_windows(env, kafka, expected), expected, exactly_once=True)
    cluster.flink("cancel", job)


def test_damaged_checkpoint(env):
    """The newest checkpoint is damaged on disk: it is named in the log and the one before it is used."""
    kafka = env.kafka()
    generator = env.closing(Generator(kafka, env.topic("in"), 12000))
    cluster = env.cluster(2, slots=1, config={"state.checkpoints.num-retained": 3})
    job = cluster.run("-p", "1", env.program("ClickCountJob.so"), *job_args(env, kafka))
    cluster.wait_checkpoint(job, 4)
    victim = next(t for t in cluster.taskmanagers if cluster.runners(t))
    os.kill(cluster.jobmanager.pid, signal.SIGSTOP)
    folder = os.path.join(cluster.directory, "checkpoints", job)
    newest = max((d for d in os.listdir(folder) if os.path.exists(os.path.join(folder, d, "_metadata"))), key=lambda d: int(d[4:]))
    damaged = [name for name in os.listdir(os.path.join(folder, newest)) if name != "_metadata"]
    for name in damaged:
        path = os.path.join(folder, newest, name)
        with open(path, "r+b") as f:
            f.seek(os.path.getsize(path) // 2)
            byte = f.read(1)
            f.seek(-1, os.SEEK_CUR)
            f.write(bytes([byte[0] ^ 0x40]))
    victim.kill()
    victim.wait()
    os.kill(cluster.jobmanager.pid, signal.SIGCONT)
    cluster.wait(lambda: (cluster.checkpoints(job)["latest"]["restored"] or {}).get("id", 0) > 0, 20, "the job to be restored")
    cluster.wait_running(job, 30)
    restored = cluster.checkpoints(job)["latest"]["restored"]["id"]
    assert restored < int(newest[4:]) or not damaged, f"restored {restored}, damaged {newest}"
    log = open(os.path.join(cluster.directory, "jobmanager.log")).read()
    assert newest in log and "damaged" in log.lower(), "the log does not name the damaged checkpoint"
    time.sleep(2)
    generator.stop()
    expected = results_expected(kafka, env.topic("in"))
    check_results(wait_windows(env, kafka, expected), expected)
    cluster.flink("cancel", job)


def test_no_taskmanager_then_one(env):
    """The walkthrough: without a taskmanager the job waits; when one comes it goes on and nothing is lost."""
    kafka = env.kafka()
    generator = env.closing(Generator(kafka, env.topic("in"), 6000))
    cluster = env.cluster(1, slots=1)
    job = cluster.run(env.program("ClickCountJob.so"), *job_args(env, kafka))
    cluster.wait_running(job)
    cluster.wait_checkpoint(job, 2)
    cluster.taskmanagers[0].kill()
    cluster.taskmanagers[0].wait()
    cluster.wait(lambda: cluster.get("/overview")["taskmanagers"] == 0, 5, "the loss to be noticed")
    time.sleep(1)
    assert not cluster.is_running(job)
    cluster.add_taskmanager()
    cluster.wait_running(job)
    exceptions = cluster.get(f"/jobs/{job}/exceptions")
    assert "no longer reachable" in json.dumps(exceptions), exceptions
    time.sleep(2)
    generator.stop()
    expected = results_expected(kafka, env.topic("in"))
    check_results(wait_windows(env, kafka, expected), expected)
    cluster.flink("cancel", job)
