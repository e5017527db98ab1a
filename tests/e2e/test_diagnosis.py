"""`flink diagnose` and GET /jobs/:id/diagnosis on jobs that are broken on purpose, with a real Kafka: each trouble is named in one sentence,
with the time since which it lasts; a job without one is healthy from its first moment on."""

import json
import os
import re
import subprocess
import time

from .cluster import BUILD
from .kafka import Kafka
from ..support_py.suite import takes
from .records import START_MS, event, produce, run_records, wait_rows

HEALTHY, FINDINGS = 0, 2
REPORTS = {"metrics.report.interval": "200 ms"}


def diagnose(cluster, job):
    return cluster.get(f"/jobs/{job}/diagnosis")


def wait_finding(cluster, job, kind, *words, severity="error", timeout=30):
    """The first finding of that kind whose sentence holds all words."""
    found = []

    def is_there():
        answer = diagnose(cluster, job)
        found[:] = [f for f in answer["findings"] if f["kind"] == kind and f["severity"] == severity and all(w in f["sentence"] for w in words)]
        return found

    try:
        cluster.wait(is_there, timeout, f"a finding {kind} with {words}")
    except AssertionError as err:
        raise AssertionError(f"{err}; the diagnosis is {json.dumps(diagnose(cluster, job), indent=1)}") from None
    finding = found[0]
    assert finding["sentence"].endswith("."), finding
    return finding


def check_text(cluster, job, finding, code, is_first=True):
    """The command line says the same: the summary (of the first finding), then a line a finding with its hint below."""
    done = cluster.flink("diagnose", job, check=False)
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    lines = done.stdout.splitlines()
    stem = re.split(r" since \d{4}| \d+ ", finding["sentence"])[0]
    assert stem in lines[0] or not is_first, (stem, lines)
    assert any(line.startswith(f"{finding['severity']:7}  ") and stem in line for line in lines[1:]), (stem, lines)
    if finding["hint"]:
        assert f"         {finding['hint']}" in lines, lines


def ticking(cluster, kafka, topic, partition=0, rate=20, seconds=60):
    """A producer that goes on in the background: events a little apart, as long as the test runs."""
    script = "i=0; while [ $i -lt %d ]; do echo '{\"at\":'$((%d + i * 100))',\"key\":\"a\",\"n\":1}'; i=$((i + 1)); sleep %g; done" % (
        rate * seconds, START_MS, 1 / rate)
    command = f"({script}) | kcat -P -b {kafka.bootstrap} -t {topic} -p {partition} -X linger.ms=1 -T > /dev/null"
    return subprocess.Popen(["sh", "-c", command], start_new_session=True)


class Stopped:
    """A process group that ends with the test."""

    def __init__(self, process):
        self.process = process

    def stop(self):
        try:
            os.killpg(self.process.pid, 15)
        except ProcessLookupError:
            pass
        self.process.wait()


def test_healthy(env):
    """From the first moment on, also with a restart in between, a job that works is healthy."""
    kafka, cluster = env.kafka(), env.cluster(1, slots=2, config=REPORTS)
    kafka.create_topic(env.topic("in"), 2)
    for partition in (0, 1):
        env.closing(Stopped(ticking(cluster, kafka, env.topic("in"), partition)))
    job = run_records(cluster, kafka, "--topics", env.topic("in"), "--job", "windows", "--checkpointing", "500", output=env.topic("out"),
                      flink=("-p", "2"))
    started = time.monotonic()
    while time.monotonic() < started + 12:
        answer = diagnose(cluster, job)
        assert answer["healthy"] and not [f for f in answer["findings"] if f["severity"] != "info"], json.dumps(answer, indent=1)
        time.sleep(0.1)
    assert answer["job"] == job and answer["state"] == "RUNNING" and abs(answer["timestamp"] / 1000 - time.time()) < 60, answer
    assert re.match(r"The job is healthy: 4 tasks run, \d+ records read so far, checkpoint \d+ completed in \d+ ms\.$", answer["summary"]), answer
    done = cluster.flink("diagnose", job)
    assert done.stdout.startswith("The job is healthy: 4 tasks run"), done.stdout
    as_json = json.loads(cluster.flink("diagnose", "--json", job).stdout)
    assert as_json["job"] == job and as_json["healthy"] is True, as_json
    cluster.flink("cancel", job)
    cluster.wait_state(job, "CANCELED")
    assert re.match(r"The job was canceled at \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", diagnose(cluster, job)["summary"])


def test_idle_partition(env):
    """A partition without records holds the watermark back, since the job reads it or since its last record, also after a restart; with
    idleness configured it is set aside."""
    kafka, cluster = env.kafka(), env.cluster(1, slots=2, config=REPORTS)
    topic = env.topic("in")
    kafka.create_topic(topic, 2)
    env.closing(Stopped(ticking(cluster, kafka, topic)))
    args = ("--topics", topic, "--job", "windows", "--checkpointing", "200")
    before = time.time() * 1000
    job = run_records(cluster, kafka, *args, output=env.topic("out"))
    patient = run_records(cluster, kafka, *args, "--idleness", "500", output=env.topic("out2"))
    finding = wait_finding(cluster, job, "idle-split", f"Partition {topic}-1 ", "holds the watermark back", "it is empty")
    assert before <= finding["since"] <= time.time() * 1000 and finding["subject"]["split"] == f"{topic}-1", finding
    check_text(cluster, job, finding, FINDINGS)
    assert diagnose(cluster, job)["summary"].startswith(f"Partition {topic}-1 of "), diagnose(cluster, job)
    set_aside = wait_finding(cluster, patient, "idle-split", f"Partition {topic}-1 ", "the watermark goes on without it", severity="info")
    assert diagnose(cluster, patient)["healthy"] and set_aside["subject"]["split"] == f"{topic}-1"
    # Its one record, and from then on nothing.
    produce(kafka, topic, [event(0, at=START_MS)], partition=1)
    came = time.time() * 1000
    finding = wait_finding(cluster, job, "idle-split", f"Partition {topic}-1 ", "no record has come since then")
    assert abs(finding["since"] - came) < 2000, (finding, came)
    # The time outlives the attempt.
    cluster.wait_checkpoint(job, cluster.checkpoints(job)["counts"]["completed"] + 1)
    cluster.kill_runners()
    cluster.wait(lambda: (cluster.checkpoints(job) or {"counts": {"restored": 0}})["counts"]["restored"] > 0, 20, "the job to be restored")
    again = wait_finding(cluster, job, "idle-split", f"Partition {topic}-1 ", "no record has come since then")
    assert again["since"] == finding["since"], (again, finding)
    for one in (job, patient):
        cluster.flink("cancel", one)


def test_wrong_topic(env):
    """A topic that does not exist is named with the one that was meant; one that exists and is empty, with those that are not."""
    kafka = env.kafka()
    cluster = env.cluster(1, slots=2, config=REPORTS)
    right, wrong, empty = env.topic("input"), env.topic("inptu"), env.topic("inputs")
    produce(kafka, right, [event(1)])
    kafka.create_topic(empty)
    started = time.time() * 1000
    job = run_records(cluster, kafka, "--topics", wrong, "--checkpointing", "500", output=env.topic("out"))
    of_empty = run_records(cluster, kafka, "--topics", empty, output=env.topic("out"))
    finding = wait_finding(cluster, job, "topic-missing", f'"{wrong}"', "does not exist", right)
    assert started <= finding["since"] <= time.time() * 1000, finding
    assert finding["subject"]["vertex-name"].startswith("Source: Records"), finding
    check_text(cluster, job, finding, FINDINGS)
    finding_empty = wait_finding(cluster, of_empty, "no-input", f"topic {empty} is empty ({empty}-0)", right)
    check_text(cluster, of_empty, finding_empty, FINDINGS)
    # The job gives up and tries again: the trouble is as old as the first attempt's.
    cluster.wait(lambda: (cluster.get(f"/jobs/{job}/metrics?get=numRestarts") or [{"value": "0"}])[0]["value"] != "0", 30, "a restart")
    cluster.wait_running(job)
    again = wait_finding(cluster, job, "topic-missing", f'"{wrong}"', right)
    assert again["since"] == finding["since"], (again, finding)
    # And then it is there.
    produce(kafka, wrong, [event(1)])
    produce(kafka, empty, [event(1)])
    cluster.wait(lambda: not [f for f in diagnose(cluster, job)["findings"] if f["severity"] == "error"], 40, "the job to be well")
    cluster.wait(lambda: diagnose(cluster, of_empty)["healthy"], 20, "the other job to be well")
    for one in (job, of_empty):
        cluster.flink("cancel", one)


def test_too_few_slots(env):
    kafka, cluster = env.kafka(), env.cluster(1, slots=2, config=REPORTS)
    produce(kafka, env.topic("in"), [event(1)])
    other = run_records(cluster, kafka, "--topics", env.topic("in"), output=env.topic("out"))
    cluster.wait_running(other)
    started = time.time() * 1000
    job = run_records(cluster, kafka, "--topics", env.topic("in"), output=env.topic("out"), flink=("-p", "3"))
    finding = wait_finding(cluster, job, "missing-slots", "needs 3 slots, 1 of the 2 on 1 taskmanager is free", '1 by job "Records"', "2 are missing")
    assert abs(finding["since"] - started) < 10000 and finding["evidence"]["slots-missing"] == 2, finding
    check_text(cluster, job, finding, FINDINGS)
    cluster.add_taskmanager()
    cluster.wait_running(job)
    assert not [f for f in diagnose(cluster, job)["findings"] if f["kind"] == "missing-slots"]
    for one in (job, other):
        cluster.flink("cancel", one)


@takes(20)
def test_slow_sink(env):
    """The brokers of the sink stand still: every guarantee's sink is named, and the source is not."""
    kafka, cluster = env.kafka(), env.cluster(1, slots=3, config=REPORTS)
    other = env.closing(Kafka(os.path.join(env.directory, "kafka-of-the-sink"))).start()
    other.create_topic("out")
    topic = env.topic("in")
    produce(kafka, topic, [event(i) for i in range(100)])
    args = ("--topics", topic, "--output.servers", other.bootstrap)
    jobs = {"at-least-once": run_records(cluster, kafka, *args, "--checkpointing", "300", output="out"),
            "unchecked": run_records(cluster, kafka, *args, output="out"),
            "exactly-once": run_records(cluster, kafka, *args, "--checkpointing", "300", "--exactly-once", output="out")}
    for job in jobs.values():
        cluster.wait(lambda: cluster.is_running(job) and diagnose(cluster, job)["healthy"], 30, "the job to run well")
    wait_rows(cluster, other, "out", 300)
    other.pause()
    try:
        paused = time.time() * 1000
        produce(kafka, topic, [event(i) for i in range(100)])
        words = {"at-least-once": '"Out: Writer"', "unchecked": "no broker has confirmed a record of topic out",
                 "exactly-once": "cannot commit to Kafka topic out"}
        for name, job in jobs.items():
            finding = wait_finding(cluster, job, "slow-sink", "The sink", words[name])
            assert finding["since"] == -1 or finding["since"] - paused > -1000, (finding, paused)
            check_text(cluster, job, finding, FINDINGS)
            assert not [f for f in diagnose(cluster, job)["findings"] if f["kind"] in ("no-input", "idle-split", "bottleneck")]
    finally:
        other.resume()
    for job in jobs.values():
        cluster.wait(lambda: not [f for f in diagnose(cluster, job)["findings"] if f["kind"] == "slow-sink"], 60, "the sink to be well again")
        cluster.flink("cancel", job)


def test_records_that_do_not_parse(env):
    """Skipped: counted, with one example; else the failure names it."""
    kafka, cluster = env.kafka(), env.cluster(1, slots=2, config=REPORTS)
    topic = env.topic("in")
    produce(kafka, topic, [event(0), event(1), b'{"at":1,"key":"a","n":"seven"}', event(3), event(4)])
    job = run_records(cluster, kafka, "--topics", topic, "--on-error", "skip", "--checkpointing", "500", output=env.topic("out"))
    strict = run_records(cluster, kafka, "--topics", topic, output=env.topic("out"))
    finding = wait_finding(cluster, job, "unparsable-records", "1 of the 5 records", "were skipped", f'{topic}-0@2: "', "seven", severity="warning")
    assert finding["evidence"]["example"]["offset"] == 2 and finding["evidence"]["example"]["split"] == f"{topic}-0", finding
    assert abs(finding["since"] - time.time() * 1000) < 60000, finding
    check_text(cluster, job, finding, HEALTHY)
    produce(kafka, topic, [b"\xff\x00 not json"] * 5)
    wait_finding(cluster, job, "unparsable-records", "6 of the 10 records", f"{topic}-0@2")
    cluster.wait_state(strict, "FAILED")
    finding = wait_finding(cluster, strict, "job-ended", "The job failed at", "offset 2", f"{topic}-0", "seven")
    check_text(cluster, strict, finding, FINDINGS)
    cluster.flink("cancel", job)


def watermark(cluster, job, vertex):
    return max((int(w["value"]) for w in cluster.get(f"/jobs/{job}/vertices/{vertex}/watermarks")), default=-1)


def test_late_records(env):
    kafka, cluster = env.kafka(), env.cluster(1, config=REPORTS)
    topic = env.topic("in")
    produce(kafka, topic, [event(i, at=START_MS + i * 1000) for i in range(10)])
    job = run_records(cluster, kafka, "--topics", topic, "--job", "windows", "--checkpointing", "500", output=env.topic("out"))
    windows = next(v["id"] for v in cluster.job(job)["vertices"] if "Windows" in v["name"])
    cluster.wait(lambda: watermark(cluster, job, windows) >= START_MS + 2000, 20, "the end of the second window")
    produce(kafka, topic, [event(99, at=START_MS + 1500)])
    finding = wait_finding(cluster, job, "late-records", "1 of 11 records was dropped as late", "2020-09-13T12:26:41.500Z", severity="warning")
    assert finding["evidence"]["late"] == 1
    cluster.flink("cancel", job)


def test_bottleneck(env):
    """The slow function is named, whether it is behind a shuffle or in the source's task."""
    cluster = env.cluster(1, slots=2, config=REPORTS)
    program = os.path.join(BUILD, "tests", "programs", "slow_map.so")
    job = cluster.run(program)
    chained = cluster.run(program, "--chain")
    finding = wait_finding(cluster, job, "bottleneck", "Slow (1/1) is the bottleneck", "user code, in the function SlowMap",
                           "back-pressures Source: Rows", severity="warning")
    assert finding["evidence"]["busy-with"] == "user-code" and finding["evidence"]["busy-share"] > 0.5, finding
    wait_finding(cluster, chained, "bottleneck", "is the bottleneck", "user code, in the function SlowMap", severity="warning")
    wait_finding(cluster, job, "slow-checkpoint", "Slow (1/1)", severity="warning")
    for one in (job, chained):
        cluster.flink("cancel", one)


@takes(60)
def test_broker_gone(env):
    cluster = env.cluster(1, slots=2, config=REPORTS)
    kafka = env.closing(Kafka(os.path.join(env.directory, "kafka"))).start()
    produce(kafka, "in", [event(1)])
    job = run_records(cluster, kafka, "--topics", "in", output="out")
    cluster.wait(lambda: cluster.is_running(job) and diagnose(cluster, job)["healthy"], 20, "the job to run well")
    kafka.kill()
    finding = wait_finding(cluster, job, "broker-unreachable", '"Source: Records" does not reach its Kafka brokers at', kafka.bootstrap)
    check_text(cluster, job, finding, FINDINGS, is_first=False)  # the sink's may come first
    wait_finding(cluster, job, "broker-unreachable", '"Out: Writer" does not reach its Kafka brokers at', kafka.bootstrap)
    # A job that starts now cannot even find its partitions.
    late = run_records(cluster, kafka, "--topics", "in", output="out")
    wait_finding(cluster, late, "broker-unreachable", kafka.bootstrap)
    kafka.start()
    for one in (job, late):
        cluster.wait(lambda: not [f for f in diagnose(cluster, one)["findings"] if f["kind"] == "broker-unreachable"], 40, "the broker to be back")
        cluster.flink("cancel", one)


def test_unknown_job(env):
    cluster = env.cluster(0)
    unknown = cluster.flink("diagnose", "f" * 32, check=False)
    assert unknown.returncode == 1 and f"Could not find Flink job ({'f' * 32})" in unknown.stderr, unknown
    for arguments, words in (((), "Missing JobID."), (("no-id",), 'Cannot parse JobID from "no-id".')):
        done = cluster.flink("diagnose", *arguments, check=False)
        assert done.returncode == 1 and words in done.stdout, done
