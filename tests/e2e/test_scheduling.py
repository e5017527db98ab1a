"""Slots that are missing, restart strategies, and daemons that die: what happens, in which order, in which words."""

import json
import os
import re
import signal
import time

from .cluster import BUILD
from .records import event, exceptions, log_text, produce, run_records, wait_rows

MISBEHAVE = os.path.join(BUILD, "tests", "programs", "misbehave.so")
NO_RESOURCE = "NoResourceAvailableException: Could not acquire the minimum required resources."


def messages(log):
    """(level, logger, text) of each line of a log; lines without a head belong to the one before."""
    found = []
    for line in log.splitlines():
        match = re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} (\w+) +(\S+) +\[\S*\] - (.*)", line)
        if match:
            found.append(list(match.groups()))
        elif found:
            found[-1][2] += "\n" + line
    return found


def test_no_slots(env):
    """The same lines as Flink's."""
    cluster = env.cluster(0, config={"restart-strategy.type": "none", "slot.request.timeout": "300 ms",
                                     "resourcemanager.standalone.start-up-time": "300 ms"})
    job = cluster.run("-p", "2", MISBEHAVE, "--how", "none")
    cluster.wait_state(job, "FAILED")
    assert NO_RESOURCE in exceptions(cluster, job)
    lines = messages(log_text(cluster))
    texts = [text for _, _, text in lines]
    first = next(i for i, text in enumerate(texts) if text.startswith("Matching resource requirements against available "
                                                                      "resources.\nMissing resources:\n"))
    assert f"\n\t Job {job}\n\t\tResourceRequirement{{resourceProfile=ResourceProfile{{UNKNOWN}}, numberOfRequiredSlots=2}}\n"\
           f"Current resources:\n\t(none)" \
        in texts[first], texts[first]
    after = iter(lines[first + 1:])
    for level, logger, pattern in (
            ("WARN", "FineGrainedSlotManager", rf"Could not fulfill resource requirements of job {job}\."),
            ("WARN", "DeclarativeSlotPoolBridge", r"Could not acquire the minimum required resources, failing slot requests\. Acquired: "
                                                  r"\[\]\. Current slot pool "
             r"status: Registered TMs: 0, registered slots: 0 free slots: 0"),
            ("INFO", "ExecutionGraph", r"Source: events.* \(1/2\) \([0-9a-f]{32}_[0-9a-f]{32}_0_0\) switched from SCHEDULED to FAILED on "
                                       r"\[unassigned "
             r"resource\]\.\n(\S+\.)?NoResourceAvailableException: Could not acquire the minimum required resources\.")):
        assert any(l[0] == level and l[1].endswith("." + logger) and re.match(pattern, l[2]) for l in after), \
            f"no {level} {logger} {pattern} in order in\n" + "\n".join(map(str, lines[first:]))


def test_waits_for_slots(env):
    """Too few slots at first; the job runs as soon as the second taskmanager is there, and all of it or nothing is deployed."""
    cluster = env.cluster(1, slots=1, config={"restart-strategy.type": "none", "resourcemanager.standalone.start-up-time": "60 s"})
    job = cluster.run("-p", "2", MISBEHAVE, "--how", "none")
    time.sleep(0.5)
    answer = cluster.job(job)
    assert answer["state"] == "RUNNING" and {v["status"] for v in answer["vertices"]} <= {"CREATED", "SCHEDULED"}, answer["vertices"]
    assert cluster.get("/overview")["slots-available"] == 1 and cluster.runners() == []
    cluster.add_taskmanager()
    cluster.wait_running(job)
    assert cluster.get("/overview")["slots-available"] == 0
    cluster.flink("cancel", job)
    cluster.wait(lambda: cluster.get("/overview")["slots-available"] == 2, 5, "the slots to be free again")


def test_restart_strategies(env):
    """none: FAILED at the first failure; fixed-delay: after its attempts; failure-rate: at the failure beyond the rate."""
    cluster = env.cluster(1, slots=1)
    cases = {
        "none": (["restart-strategy.type=none"], 0, "NoRestartBackoffTimeStrategy"),
        "fixed": (["restart-strategy.type=fixed-delay", "restart-strategy.fixed-delay.attempts=2", "restart-strategy.fixed-delay.delay=50 ms"], 2,
                  "FixedDelayRestartBackoffTimeStrategy(maxNumberRestartAttempts=2, backoffTimeMS=50)"),
        "rate": (["restart-strategy.type=failure-rate", "restart-strategy.failure-rate.max-failures-per-interval=3",
                  "restart-strategy.failure-rate.failure-rate-interval=1 min", "restart-strategy.failure-rate.delay=20 ms"], 3,
                 "FailureRateRestartBackoffTimeStrategy("),
    }
    for name, (settings, restarts, words) in cases.items():
        options = [word for setting in settings for word in ("-D", setting)]
        job = cluster.run(*options, MISBEHAVE, "--how", "fail", "--restart")
        cluster.wait_state(job, "FAILED")
        log = log_text(cluster)
        count = len(re.findall(rf"\({job}\) switched from state RUNNING to RESTARTING", log))
        assert count == restarts, f"{name}: {count} restarts, expected {restarts}"
        said = exceptions(cluster, job)
        assert f"Recovery is suppressed by {words}" in said, f"{name}: {said}"
        assert "TroubleMaker" in said and json.loads(said)["root-exception"].startswith("org.apache.flink.runtime.JobException: Recovery is"), said
        assert cluster.get("/overview")["slots-available"] == 1


def test_restart_on_a_free_slot(env):
    """A killed taskmanager: its job runs on the slot that is free elsewhere, in Flink's order of events, without waiting for anybody."""
    kafka = env.kafka()
    produce(kafka, env.topic("in"), [event(1, key="a") for _ in range(10)])
    cluster = env.cluster(2, slots=1)
    job = run_records(cluster, kafka, "--topics", env.topic("in"), "--job", "sums", "--checkpointing", "100", "--exactly-once",
                      output=env.topic("out"))
    wait_rows(cluster, kafka, env.topic("out"), 10)
    victim = next(t for t in cluster.taskmanagers if cluster.runners(t))
    runner = cluster.runners(victim)[0]
    before = len(messages(log_text(cluster)))
    victim.kill()
    victim.wait()
    cluster.wait(lambda: cluster.checkpoints(job)["counts"]["restored"] == 1, 10, "the job to be restored")
    cluster.wait_running(job, 10)
    cluster.wait(lambda: not os.path.exists(f"/proc/{runner}"), 5, "the orphaned runner to end")
    lines = iter(messages(log_text(cluster))[before:])
    for pattern in (r"no longer reachable", r"switched from RUNNING to FAILED", rf"\({job}\) switched from state RUNNING to RESTARTING",
                    rf"\({job}\) switched from state RESTARTING to RUNNING", r"switched from SCHEDULED to DEPLOYING",
                    r"switched from INITIALIZING to RUNNING"):
        assert any(re.search(pattern, text) for _, _, text in lines), f"no {pattern!r} in order in\n{log_text(cluster)[-6000:]}"
    produce(kafka, env.topic("in"), [event(1, key="a")])
    assert json.loads(wait_rows(cluster, kafka, env.topic("out"), 11)[-1])["n"] == 11
    cluster.flink("cancel", job)


def test_jobmanager_killed(env):
    """kill -9 of the jobmanager: the taskmanagers kill their runners at once and come back when it does, on the same port; jobs are
    submitted anew (from their retained checkpoint) and lose nothing."""
    kafka = env.kafka()
    produce(kafka, env.topic("in"), [event(1, key="a") for _ in range(10)])
    cluster = env.cluster(2, slots=1)
    args = ["--topics", env.topic("in"), "--job", "sums", "--checkpointing", "100", "--exactly-once"]
    job = run_records(cluster, kafka, *args, output=env.topic("out"), flink=("-p", "2"))
    wait_rows(cluster, kafka, env.topic("out"), 10)
    runners = cluster.runners()
    assert len(runners) == 2
    cluster.jobmanager.kill()
    cluster.jobmanager.wait()
    deadline = time.monotonic() + 5
    while cluster.runners() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert cluster.runners() == [], "runners outlive their jobmanager"
    assert all(t.poll() is None for t in cluster.taskmanagers)
    time.sleep(0.5)
    cluster.jobmanager = cluster._spawn("jobmanager", "jobmanager")
    cluster.wait(lambda: (cluster.get("/overview") or {"taskmanagers": 0})["taskmanagers"] == 2, 15, "the taskmanagers to come back")
    overview = cluster.get("/overview")
    assert overview["slots-available"] == 2 and overview["jobs-running"] == 0, overview
    folder = os.path.join(cluster.directory, "checkpoints", job)
    newest = max((d for d in os.listdir(folder) if os.path.exists(os.path.join(folder, d, "_metadata"))), key=lambda d: int(d[4:]))
    produce(kafka, env.topic("in"), [event(1, key="a")])
    job = run_records(cluster, kafka, *args, output=env.topic("out"), flink=("-p", "2", "-s", os.path.join(folder, newest)))
    rows = wait_rows(cluster, kafka, env.topic("out"), 11)
    assert sorted(json.loads(r)["n"] for r in rows) == list(range(1, 12)), rows
    cluster.flink("cancel", job)


def test_taskmanager_stopped_cleanly(env):
    """SIGTERM: the taskmanager says goodbye, the job goes on elsewhere; signals twice do no harm."""
    cluster = env.cluster(2, slots=1)
    kafka = env.kafka()
    produce(kafka, env.topic("in"), [event(1)])
    job = run_records(cluster, kafka, "--topics", env.topic("in"), "--checkpointing", "100", output=env.topic("out"))
    wait_rows(cluster, kafka, env.topic("out"), 1)
    victim = next(t for t in cluster.taskmanagers if cluster.runners(t))
    victim.send_signal(signal.SIGTERM)
    victim.send_signal(signal.SIGTERM)
    assert victim.wait(10) == 0
    cluster.wait(lambda: cluster.get("/overview")["taskmanagers"] == 1, 5, "the taskmanager to be gone")
    cluster.wait_running(job, 10)
    cluster.flink("cancel", job)
