"""Records that are not as they should be, and where reading starts and ends."""

import json
import subprocess
import time

from .records import START_MS, event, exceptions, latest_checkpoint, numbers, produce, run_records, wait_next_checkpoint, wait_rows

GARBAGE = [b'{"at": 1, "key"', b"\xff\xfe\x00 not json", b'{"at":1,"key":"a","n":"seven"}']


def test_malformed_fails(env):
    kafka, cluster = env.kafka(), env.cluster(1, config={"restart-strategy.type": "none"})
    produce(kafka, env.topic("in"), [event(0), event(1), GARBAGE[2], event(3)])
    job = run_records(cluster, kafka, "--topics", env.topic("in"), output=env.topic("out"))
    cluster.wait_state(job, "FAILED")
    said = exceptions(cluster, job)
    for word in (f"{env.topic('in')}", "offset 2", "seven"):
        assert word in said, f"{word!r} is not in {said}"
    assert f"{env.topic('in')}-0" in said or "partition 0" in said, said


def test_malformed_skipped(env):
    """Skipped records are counted, and the places of the first ones are in the books; null values are no rows and no errors."""
    kafka, cluster = env.kafka(), env.cluster(1)
    produce(kafka, env.topic("in"), [event(0), GARBAGE[0], event(2), None, GARBAGE[1], event(5), GARBAGE[2]])
    job = run_records(cluster, kafka, "--topics", env.topic("in"), "--on-error", "skip", "--checkpointing", "100", output=env.topic("out"))
    wait_rows(cluster, kafka, env.topic("out"), 3)
    details = wait_next_checkpoint(cluster, job)
    assert details["booksBalance"], details.get("booksFaults")
    counts = next(books for books in details["books"].values() if books["unparsable"])
    assert (counts["rows_read"], counts["rows_out"], counts["unparsable"], counts["filtered"]) == (7, 3, 3, 1), counts
    assert [(sample["split"], sample["offset"]) for sample in counts["samples"]] == [(f"{env.topic('in')}-0", offset) for offset in (1, 4, 6)], counts
    assert numbers(kafka, env.topic("out")) == [0, 2, 5]
    cluster.flink("cancel", job)


def test_malformed_to_dead_letter(env):
    kafka, cluster = env.kafka(), env.cluster(1)
    produce(kafka, env.topic("in"), [GARBAGE[0], event(1), GARBAGE[1], GARBAGE[2], event(4)])
    job = run_records(cluster, kafka, "--topics", env.topic("in"), "--on-error", "dead-letter", "--dead-letter", env.topic("dead"),
                      "--checkpointing", "100", output=env.topic("out"))
    wait_rows(cluster, kafka, env.topic("out"), 2)
    wait_next_checkpoint(cluster, job)
    out = subprocess.run(["kcat", "-b", kafka.bootstrap, "-t", env.topic("dead"), "-C", "-e", "-q", "-o", "beginning"], capture_output=True).stdout
    assert out.split(b"\n")[:-1] == GARBAGE, out
    assert latest_checkpoint(cluster, job)["booksBalance"]
    cluster.flink("cancel", job)


def test_late_records(env):
    """Rows behind the watermark are counted as late, or come out of the side output: every one of them."""
    kafka, cluster = env.kafka(), env.cluster(1, slots=2)
    first = [event(1, at=START_MS + 100), event(2, at=START_MS + 900), event(4, at=START_MS + 5000)]
    produce(kafka, env.topic("in"), first)
    jobs = {}
    for late in (False, True):
        out = env.topic(f"out{late}")
        extra = ("--late", env.topic("late")) if late else ()
        jobs[late] = run_records(cluster, kafka, "--topics", env.topic("in"), "--job", "windows", "--checkpointing", "100", *extra, output=out)
    for late in (False, True):
        wait_rows(cluster, kafka, env.topic(f"out{late}"), 1)
    produce(kafka, env.topic("in"), [event(8, at=START_MS + 200), event(16, at=START_MS + 999), event(32, at=START_MS + 7000)])
    for late in (False, True):
        rows = wait_rows(cluster, kafka, env.topic(f"out{late}"), 2)
        assert [json.loads(r)["sum"] for r in rows] == [3, 4], rows
    late_rows = wait_rows(cluster, kafka, env.topic("late"), 2)
    assert [json.loads(r)["n"] for r in late_rows] == [8, 16], late_rows
    details = wait_next_checkpoint(cluster, jobs[False])
    assert details["booksBalance"], details.get("booksFaults")
    assert sum(books["late"] for books in details["books"].values()) == 2, details["books"]
    details = wait_next_checkpoint(cluster, jobs[True])
    assert details["booksBalance"], details.get("booksFaults")
    for job in jobs.values():
        cluster.flink("cancel", job)


def test_start_and_end(env):
    """Each start mode, bounded at the end of the topic: the job FINISHES, and what it read is committed."""
    kafka, cluster = env.kafka(), env.cluster(1, slots=4)
    topic = env.topic("in")
    produce(kafka, topic, [event(n) for n in range(10)])
    time.sleep(0.02)
    middle_ms = int(time.time() * 1000)
    produce(kafka, topic, [event(n) for n in range(10, 15)])
    group = env.topic("group")
    cases = {
        "earliest": (["--start", "earliest"], 0, 15),
        "timestamp": (["--start", "timestamp", "--start-timestamp", str(middle_ms)], 10, 15),
        "offsets": (["--start", "offsets", "--start-offset", "3"], 3, 15),
        "until": (["--start", "earliest", "--end", "offsets", "--end-offset", "7"], 0, 7),
        "latest": (["--start", "latest"], 15, 15),
    }
    jobs = {}
    for name, (args, _, _) in cases.items():
        end = [] if "--end" in args else ["--end", "latest"]
        jobs[name] = run_records(cluster, kafka, "--topics", topic, "--exactly-once", "--checkpointing", "100", "--group", f"{group}-{name}",
                                 *args, *end, output=env.topic(name))
    for name, (_, first, end) in cases.items():
        cluster.wait_state(jobs[name], "FINISHED")
        assert numbers(kafka, env.topic(name)) == list(range(first, end)), f"{name}: {numbers(kafka, env.topic(name))}"
    # The group has what the checkpoints committed: nothing is left but what comes now.
    produce(kafka, topic, [event(n) for n in range(15, 18)])
    job = run_records(cluster, kafka, "--topics", topic, "--exactly-once", "--checkpointing", "100", "--group", f"{group}-until",
                      "--start", "group", "--end", "latest", output=env.topic("group"))
    cluster.wait_state(job, "FINISHED")
    assert numbers(kafka, env.topic("group")) == list(range(7, 18)), numbers(kafka, env.topic("group"))


def test_bounded_without_checkpoints(env):
    """At-least-once and no checkpoint ever: the rows of a job that FINISHED are there. Exactly-once is refused with a reason."""
    kafka, cluster = env.kafka(), env.cluster(1, slots=2)
    produce(kafka, env.topic("in"), [event(n, key=f"k{n % 3}") for n in range(1000)])
    job = run_records(cluster, kafka, "--topics", env.topic("in"), "--end", "latest", output=env.topic("least"), flink=("-p", "2"))
    cluster.wait_state(job, "FINISHED")
    assert sorted(numbers(kafka, env.topic("least"))) == list(range(1000))
    job = run_records(cluster, kafka, "--topics", env.topic("in"), "--end", "latest", "--exactly-once", output=env.topic("once"))
    cluster.wait_state(job, "FAILED")
    assert "set execution.checkpointing.interval" in exceptions(cluster, job)


def test_latest_survives_restart(env):
    """A job that starts at the latest offset is killed before it has read anything: what came meanwhile is not lost after a
    checkpoint."""
    kafka, cluster = env.kafka(), env.cluster(1)
    produce(kafka, env.topic("in"), [event(0)])
    job = run_records(cluster, kafka, "--topics", env.topic("in"), "--start", "latest", "--exactly-once", "--checkpointing", "100",
                      output=env.topic("out"))
    cluster.wait_running(job)
    cluster.wait_checkpoint(job, 5)
    cluster.taskmanagers[0].kill()
    cluster.taskmanagers[0].wait()
    produce(kafka, env.topic("in"), [event(1), event(2)])
    cluster.add_taskmanager()
    wait_rows(cluster, kafka, env.topic("out"), 2)
    assert numbers(kafka, env.topic("out")) == [1, 2]
    cluster.flink("cancel", job)


def test_pattern_and_new_partitions(env):
    """Topics by pattern; a topic and a partition that come later are found, and read from their beginning."""
    kafka, cluster = env.kafka(), env.cluster(1, slots=2)
    produce(kafka, env.topic("in-a"), [event(0)])
    produce(kafka, env.topic("other"), [event(99)])
    job = run_records(cluster, kafka, "--pattern", env.topic("in-") + "[a-z]", "--discovery", "300", "--start", "latest", "--checkpointing", "200",
                      "--exactly-once", output=env.topic("out"), flink=("-p", "2"))
    cluster.wait_running(job)
    cluster.wait_checkpoint(job, 3)
    produce(kafka, env.topic("in-b"), [event(1)])
    subprocess.run(kafka._java("org.apache.kafka.tools.TopicCommand", "--bootstrap-server", kafka.bootstrap, "--alter", "--topic",
                               env.topic("in-a"), "--partitions", "3"), check=True, capture_output=True)
    for n, partition in ((2, 1), (3, 2), (4, 0)):
        produce(kafka, env.topic("in-a"), [event(n)], partition)
    wait_rows(cluster, kafka, env.topic("out"), 4)
    assert sorted(numbers(kafka, env.topic("out"))) == [1, 2, 3, 4], numbers(kafka, env.topic("out"))
    details = wait_next_checkpoint(cluster, job)
    assert details["booksBalance"], details.get("booksFaults")
    cluster.flink("cancel", job)
