"""Books: what checkpoints count, over kills and rescaling, against what is in Kafka."""

import json
import os
import signal

from .clicks import Generator, complete_windows, results
from .records import latest_checkpoint, log_text
from .test_click_count import job_args
from .test_savepoints import path_of, savepoint_dir


def books_by_name(cluster, job, details):
    """{operator name: books}, by the vertices of the job (without chaining each has one operator)."""
    names = [v["name"] for v in cluster.job(job)["vertices"]]
    ids = [v["id"] for v in cluster.job(job)["vertices"]]
    found = {name: details["books"][vertex] for name, vertex in zip(names, ids) if vertex in details["books"]}
    assert len(found) == len(names), f"{names} {ids} {list(details['books'])}"
    return found


def check_balance(cluster, job):
    """The newest completed checkpoint balances by its own flag, and by the same sums made here."""
    details = latest_checkpoint(cluster, job)
    assert details["booksBalance"], details.get("booksFaults")
    books = books_by_name(cluster, job, details)
    source, counter, writer, committer = (books[name] for name in (
        "Source: ClickEvent Source", "ClickEvent Counter", "ClickEventStatistics Sink: Writer", "ClickEventStatistics Sink: Committer"))
    assert source["rows_read"] == source["rows_out"] == sum(split["records"] for split in source["splits"].values()), source
    assert counter["rows_in"][0] == source["rows_out"] and counter["late"] == 0, counter
    assert writer["rows_in"][0] == counter["rows_out"]
    assert committer["rows_in"][0] == writer["rows_out"]
    return source, counter, committer


def wait_consumed(cluster, kafka, job, topic_in, topic_out):
    """Until a checkpoint has read everything; its books."""
    events = len(kafka.read(topic_in))

    def is_consumed():
        newest = cluster.checkpoints(job)["latest"]["completed"]
        if newest is None or not cluster.is_running(job):
            return False
        books = cluster.get(f"/jobs/{job}/checkpoints/details/{newest['id']}")["books"]
        rows = len(kafka.read(topic_out))
        return max(b["rows_read"] for b in books.values()) >= events and max(b["rows_committed"] for b in books.values()) >= rows > 0

    cluster.wait(is_consumed, 40, f"{events} events in the books")
    return events


def test_exact_over_kills_and_rescaling(env):
    """kill -9 of taskmanager and runner, 1 -> 3 subtasks: source records = events, committed rows = rows in the topic, digests equal."""
    kafka = env.kafka()
    generator = env.closing(Generator(kafka, env.topic("in"), 20000, out_of_orderness=150))
    cluster = env.cluster(2, slots=2)
    args = job_args(env, kafka, "--exactly-once")
    interval = ("-D", "execution.checkpointing.interval=200 ms")
    job = cluster.run(*interval, "-p", "1", env.program("ClickCountJob.so"), *args)
    cluster.wait_checkpoint(job, 2)
    check_balance(cluster, job)
    os.kill(env.random.choice(cluster.runners()), signal.SIGKILL)
    cluster.wait(lambda: (cluster.checkpoints(job)["counts"]["restored"]) >= 1, 10, "a restore")
    cluster.wait_running(job)
    path = path_of(cluster.flink("stop", "--savepointPath", savepoint_dir(cluster), job))
    cluster.wait_state(job, "FINISHED")
    check_balance(cluster, job)
    job = cluster.run(*interval, "-s", path, "-p", "3", env.program("ClickCountJob.so"), *args)
    cluster.wait_running(job)
    cluster.wait_checkpoint(job, 2)
    victim = next(t for t in cluster.taskmanagers if cluster.runners(t))
    victim.kill()
    victim.wait()
    cluster.add_taskmanager()
    cluster.wait(lambda: (cluster.checkpoints(job)["counts"]["restored"]) >= 2, 20, "a restore")
    generator.stop()
    events = wait_consumed(cluster, kafka, job, env.topic("in"), env.topic("out"))
    source, counter, committer = check_balance(cluster, job)
    assert source["rows_read"] == events, f"{source['rows_read']} records in the books, {events} in Kafka"
    rows = kafka.read(env.topic("out"))
    assert committer["rows_committed"] == len(rows), f"{committer['rows_committed']} rows committed by the books, {len(rows)} in Kafka"
    assert committer["rows_committed"] == committer["rows_written"] and committer["digest_committed"] == committer["digest"], committer
    assert len(complete_windows(results(kafka, env.topic("out")))) >= 1
    assert "do not balance" not in log_text(cluster)
    cluster.flink("cancel", job)


def test_digest_is_independent_of_order(env):
    """The same input at parallelism 1 and 3, chained and not: the same digest of the committed rows."""
    kafka, cluster = env.kafka(), env.cluster(1, slots=3)
    Generator(kafka, env.topic("in"), 0, 6000 * 4).wait()
    digests = set()
    for parallelism, chaining in (("1", False), ("3", True)):
        out = env.topic(f"out{parallelism}")
        args = ["--bootstrap.servers", kafka.bootstrap, "--input-topic", env.topic("in"), "--output-topic", out, "--checkpointing", "--event-time",
                "--exactly-once", *(["--chaining"] if chaining else [])]
        job = cluster.run("-p", parallelism, env.program("ClickCountJob.so"), *args)
        cluster.wait(lambda: len(kafka.read(out)) >= 18, 20, "three windows")
        path_of(cluster.flink("stop", "--drain", "--savepointPath", savepoint_dir(cluster), job))
        cluster.wait_state(job, "FINISHED")
        books = [b for b in latest_checkpoint(cluster, job)["books"].values() if b["rows_written"]]
        rows = kafka.read(out)
        assert len(rows) == 24 and [b["rows_written"] for b in books] == [24], (len(rows), books)
        digests.add(books[0]["digest"])
        assert len({json.loads(text)["windowStart"] for _, _, text in rows}) == 4
    assert len(digests) == 1, digests
