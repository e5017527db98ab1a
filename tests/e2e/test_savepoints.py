"""Savepoints and retained checkpoints: taken, resumed at other parallelisms and by changed programs, refused with reasons."""

import json
import os
import re
import shutil

from .clicks import Generator, check_results, results
from .cluster import BUILD
from .records import (PROGRAM, event, exceptions, log_text, numbers, produce, records_args, run_records, wait_next_checkpoint, wait_rows)
from .test_click_count import job_args

SUMS = ("--job", "sums", "--checkpointing", "100", "--exactly-once")


def path_of(done):
    return re.search(r"Savepoint completed\. Path: (file:\S+)", done.stdout).group(1)


def files_of(path):
    return path.removeprefix("file:")


def savepoint_dir(cluster):
    return os.path.join(cluster.directory, "savepoints")


def keys_and_sums(kafka, topic):
    """{key: the greatest running sum that was written}"""
    found = {}
    for _, _, text in kafka.read(topic):
        row = json.loads(text)
        found[row["key"]] = max(found.get(row["key"], 0), row["n"])
    return found


def some_events(first, count):
    return [event(1, key=f"k{n % 7}") for n in range(first, first + count)]


def expected_sums(count):
    return {f"k{k}": len(range(k, count, 7)) for k in range(min(7, count))}


def test_rescaled(env):
    """Keyed state goes 1 -> 3 -> 2 subtasks, by savepoints of stopped jobs; no row is lost or counted twice."""
    kafka, cluster = env.kafka(), env.cluster(1, slots=3)
    produce(kafka, env.topic("in"), some_events(0, 700))
    args = ["--topics", env.topic("in"), *SUMS]
    job = run_records(cluster, kafka, *args, output=env.topic("out"))
    total = 700
    for parallelism in ("3", "2"):
        wait_rows(cluster, kafka, env.topic("out"), total)
        path = path_of(cluster.flink("stop", "--savepointPath", savepoint_dir(cluster), job))
        assert os.path.exists(os.path.join(files_of(path), "_metadata"))
        cluster.wait_state(job, "FINISHED")
        produce(kafka, env.topic("in"), some_events(total, 350))
        total += 350
        job = run_records(cluster, kafka, *args, output=env.topic("out"), flink=("-p", parallelism, "-s", path))
    rows = wait_rows(cluster, kafka, env.topic("out"), total)
    assert len(rows) == total, f"{len(rows)} rows, expected {total}"
    assert keys_and_sums(kafka, env.topic("out")) == expected_sums(total)
    details = wait_next_checkpoint(cluster, job)
    assert details["booksBalance"], details.get("booksFaults")
    cluster.flink("cancel", job)


def test_reused_and_disposed(env):
    """A savepoint is taken while records flow, resumed twice, and gone when it is disposed of; the job never noticed."""
    kafka, cluster = env.kafka(), env.cluster(1, slots=3)
    produce(kafka, env.topic("in"), some_events(0, 700))
    args = ["--topics", env.topic("in"), *SUMS]
    job = run_records(cluster, kafka, *args, output=env.topic("out"))
    cluster.wait_running(job)
    done = cluster.flink("savepoint", job, savepoint_dir(cluster))
    path = path_of(done)
    assert done.stdout.splitlines() == [f"Triggering savepoint for job {job}.", "Waiting for response...", f"Savepoint completed. Path: {path}",
                                        "You can resume your program from this savepoint with the run command."], done.stdout
    wait_rows(cluster, kafka, env.topic("out"), 700)
    cluster.flink("cancel", job)
    for again in ("first", "second"):
        # The output of a resumed job continues the savepoint's; a topic of its own shows only what came after it.
        job = run_records(cluster, kafka, *args, output=env.topic(again), flink=("-s", path))
        cluster.wait_running(job)
        restored = cluster.checkpoints(job)["latest"]["restored"]
        assert restored["is_savepoint"] and restored["external_path"] == path, restored
        produce(kafka, env.topic("in"), [event(1, key=again)])
        cluster.wait(lambda: again in keys_and_sums(kafka, env.topic(again)), 20, "the resumed job's output")
        sums = keys_and_sums(kafka, env.topic(again))
        assert {k: v for k, v in sums.items() if k.startswith("k")}.items() <= expected_sums(700).items(), sums
        cluster.flink("cancel", job)
    done = cluster.flink("savepoint", "-d", path)
    assert f"Savepoint '{path}' disposed." in done.stdout, done.stdout
    assert not os.path.exists(files_of(path))
    done = cluster.flink("savepoint", "-d", path, check=False)
    assert done.returncode == 1 and f"Failed to dispose the savepoint '{path}'" in done.stderr, done.stdout + done.stderr
    done = cluster.flink("run", "-d", "-s", path, PROGRAM, *records_args(kafka, *args, output=env.topic("first")), check=False)
    assert done.returncode == 1 and files_of(path) in done.stderr, done.stderr


def test_operators_removed_and_added(env):
    kafka, cluster = env.kafka(), env.cluster(1, slots=2)
    produce(kafka, env.topic("in"), some_events(0, 70))
    args = ["--topics", env.topic("in"), *SUMS]
    job = run_records(cluster, kafka, *args, "--tail", output=env.topic("out"))
    wait_rows(cluster, kafka, env.topic("out"), 70)
    path = path_of(cluster.flink("stop", "--savepointPath", savepoint_dir(cluster), job))
    cluster.wait_state(job, "FINISHED")
    # Removed: refused with Flink's words, then accepted.
    shorter = records_args(kafka, *args, output=env.topic("out"))
    done = cluster.flink("run", "-d", "-s", path, PROGRAM, *shorter, check=False)
    words = "Cannot map checkpoint/savepoint state for operator "
    said = done.stderr
    if done.returncode == 0:
        job = re.search(r"JobID ([0-9a-f]{32})", done.stdout).group(1)
        cluster.wait_state(job, "FAILED")
        said = exceptions(cluster, job)
    assert words in said and "--allowNonRestoredState" in said, said
    job = run_records(cluster, kafka, *args, output=env.topic("out"), flink=("-s", path, "--allowNonRestoredState"))
    produce(kafka, env.topic("in"), some_events(70, 7))
    rows = wait_rows(cluster, kafka, env.topic("out"), 77)
    assert [json.loads(r)["n"] for r in rows[70:]] == [11] * 7, rows[70:]
    details = wait_next_checkpoint(cluster, job)
    assert details["booksBalance"], details.get("booksFaults")
    path = path_of(cluster.flink("stop", "--savepointPath", savepoint_dir(cluster), job))
    cluster.wait_state(job, "FINISHED")
    # Added: starts empty, the rest has its state.
    job = run_records(cluster, kafka, *args, "--tail", output=env.topic("out"), flink=("-s", path))
    produce(kafka, env.topic("in"), some_events(77, 14))
    rows = wait_rows(cluster, kafka, env.topic("out"), 91)
    assert [json.loads(r)["n"] for r in rows[77:]] == [12] * 7 + [25] * 7, rows[77:]
    details = wait_next_checkpoint(cluster, job)
    assert details["booksBalance"], details.get("booksFaults")
    cluster.flink("cancel", job)


def test_max_parallelism(env):
    kafka, cluster = env.kafka(), env.cluster(1, slots=5)
    produce(kafka, env.topic("in"), some_events(0, 7))
    args = ["--topics", env.topic("in"), *SUMS]
    job = run_records(cluster, kafka, *args, "--max-parallelism", "4", output=env.topic("out"))
    wait_rows(cluster, kafka, env.topic("out"), 7)
    path = path_of(cluster.flink("stop", "--savepointPath", savepoint_dir(cluster), job))
    cluster.wait_state(job, "FINISHED")
    for flink, extra, words in (
            ((), ("--max-parallelism", "8"), "Max parallelism mismatch between checkpoint/savepoint state and new program."),
            (("-p", "5"), (), "is lower than the configured parallelism (5)")):
        done = cluster.flink("run", "-d", "-s", path, *flink, PROGRAM, *records_args(kafka, *args, *extra, output=env.topic("out")), check=False)
        assert done.returncode == 1 and words in done.stderr, done.stdout + done.stderr
    job = run_records(cluster, kafka, *args, output=env.topic("out"), flink=("-s", path, "-p", "4"))
    cluster.wait_running(job)
    produce(kafka, env.topic("in"), some_events(7, 7))
    wait_rows(cluster, kafka, env.topic("out"), 14)
    assert keys_and_sums(kafka, env.topic("out")) == expected_sums(14)
    cluster.flink("cancel", job)


def test_drained(env):
    """--drain ends time: every window fires, the last, partial one too, and its rows are in the savepoint's transaction."""
    kafka, cluster = env.kafka(), env.cluster(1, slots=2)
    Generator(kafka, env.topic("in"), 0, 6000 + 1500).wait()
    job = cluster.run("-p", "2", env.program("ClickCountJob.so"), *job_args(env, kafka, "--exactly-once"))
    cluster.wait(lambda: len(results(kafka, env.topic("out"))) == 6, 20, "the first window")
    done = cluster.flink("stop", "--drain", "--savepointPath", savepoint_dir(cluster), job)
    assert f'Draining job "{job}" with a CANONICAL savepoint.' in done.stdout, done.stdout
    cluster.wait_state(job, "FINISHED")
    found = results(kafka, env.topic("out"))
    assert sum(counts[0] for counts in found.values()) == 7500, found
    assert all(len(counts) == 1 for counts in found.values()), found
    assert len(found) == 12, sorted(found)


def test_not_drained(env):
    """Without --drain open windows stay in the savepoint, and fire once when the job goes on."""
    kafka, cluster = env.kafka(), env.cluster(1, slots=2)
    Generator(kafka, env.topic("in"), 0, 6000 + 1500).wait()
    args = job_args(env, kafka, "--exactly-once")
    job = cluster.run("-p", "2", env.program("ClickCountJob.so"), *args)
    cluster.wait(lambda: len(results(kafka, env.topic("out"))) == 6, 20, "the first window")
    path = path_of(cluster.flink("stop", "--savepointPath", savepoint_dir(cluster), job))
    cluster.wait_state(job, "FINISHED")
    assert len(results(kafka, env.topic("out"))) == 6
    job = cluster.run("-p", "1", "-s", path, env.program("ClickCountJob.so"), *args)
    Generator(kafka, env.topic("in"), 0, 6000 + 1500 + 6000, resume=True).wait()
    cluster.wait(lambda: len(results(kafka, env.topic("out"))) >= 12, 20, "the second window")
    check_results(results(kafka, env.topic("out")), 2, exactly_once=True)
    cluster.flink("cancel", job)


def test_cancelled_with_savepoint(env):
    kafka, cluster = env.kafka(), env.cluster(1, slots=2)
    produce(kafka, env.topic("in"), some_events(0, 7))
    args = ["--topics", env.topic("in"), *SUMS]
    job = run_records(cluster, kafka, *args, output=env.topic("out"))
    wait_rows(cluster, kafka, env.topic("out"), 7)
    done = cluster.flink("cancel", "-s", savepoint_dir(cluster), job)
    assert done.stdout.splitlines()[:2] == [
        'DEPRECATION WARNING: Cancelling a job with savepoint is deprecated. Use "stop" instead.',
        f"Cancelling job {job} with CANONICAL savepoint to {savepoint_dir(cluster)}."], done.stdout
    path = re.search(rf"Cancelled job {job}\. Savepoint stored in (file:\S+)\.\n", done.stdout).group(1)
    cluster.wait_state(job, "CANCELED")
    job = run_records(cluster, kafka, *args, output=env.topic("out"), flink=("-s", path))
    produce(kafka, env.topic("in"), some_events(7, 7))
    wait_rows(cluster, kafka, env.topic("out"), 14)
    assert keys_and_sums(kafka, env.topic("out")) == expected_sums(14)
    cluster.flink("cancel", job)


def test_retained_checkpoint(env):
    """RETAIN_ON_CANCELLATION keeps the last checkpoints, whole, and nothing of one that was under way; a job
    resumes from the newest, at another parallelism. Without retention nothing is left."""
    kafka, cluster = env.kafka(), env.cluster(1, slots=2)
    produce(kafka, env.topic("in"), some_events(0, 70))
    args = ["--topics", env.topic("in"), *SUMS]
    retain = ("-D", "execution.checkpointing.externalized-checkpoint-retention=RETAIN_ON_CANCELLATION")
    job = run_records(cluster, kafka, *args, output=env.topic("out"), flink=retain)
    wait_rows(cluster, kafka, env.topic("out"), 70)
    cluster.flink("cancel", job)
    cluster.wait_state(job, "CANCELED")
    folder = os.path.join(cluster.directory, "checkpoints", job)
    kept = [name for name in os.listdir(folder) if name.startswith("chk-")]
    assert kept and all(os.path.exists(os.path.join(folder, name, "_metadata")) for name in kept), f"half a checkpoint is left: {kept}"
    newest = os.path.join(folder, max(kept, key=lambda name: int(name[4:])))
    produce(kafka, env.topic("in"), some_events(70, 70))
    second = run_records(cluster, kafka, *args, output=env.topic("out"), flink=("-p", "2", "-s", newest))
    rows = wait_rows(cluster, kafka, env.topic("out"), 140)
    assert len(rows) == 140 and keys_and_sums(kafka, env.topic("out")) == expected_sums(140)
    cluster.wait_checkpoint(second, 3)
    cluster.flink("cancel", second)
    cluster.wait_state(second, "CANCELED")
    # What another job left is not the new one's to delete (NO_CLAIM); its own are gone.
    assert os.path.exists(os.path.join(newest, "_metadata"))
    cluster.wait(lambda: not os.path.exists(os.path.join(cluster.directory, "checkpoints", second)) or
                 not any(n.startswith("chk-") for n in os.listdir(os.path.join(cluster.directory, "checkpoints", second))), 5,
                 "the second job's checkpoints to be deleted")


def test_unwritable_directory(env):
    """A file is where the savepoint's directory should be: the trigger's answer says so, and the job goes on, with checkpoints."""
    kafka, cluster = env.kafka(), env.cluster(1, slots=2)
    produce(kafka, env.topic("in"), some_events(0, 7))
    job = run_records(cluster, kafka, "--topics", env.topic("in"), *SUMS, output=env.topic("out"))
    wait_rows(cluster, kafka, env.topic("out"), 7)
    blocked = os.path.join(env.directory, "blocked")
    open(blocked, "w").close()
    for command in (["savepoint", job, blocked], ["stop", "--savepointPath", blocked, job], ["stop", "--drain", "--savepointPath", blocked, job],
                    ["cancel", "-s", blocked, job]):
        done = cluster.flink(*command, check=False)
        assert done.returncode == 1 and "blocked" in done.stderr, f"{command}: {done.stdout}{done.stderr}"
    assert cluster.is_running(job)
    assert cluster.get(f"/jobs/{job}/exceptions")["exceptionHistory"]["entries"] == []
    wait_next_checkpoint(cluster, job)
    produce(kafka, env.topic("in"), some_events(7, 7))
    wait_rows(cluster, kafka, env.topic("out"), 14)
    cluster.flink("cancel", job)


def test_damaged_savepoint(env):
    """A flipped bit in any file of a savepoint: it is named, and nothing runs with half of its state."""
    kafka, cluster = env.kafka(), env.cluster(1, slots=2, config={"restart-strategy.type": "none"})
    produce(kafka, env.topic("in"), some_events(0, 70))
    args = ["--topics", env.topic("in"), *SUMS]
    job = run_records(cluster, kafka, *args, output=env.topic("out"))
    wait_rows(cluster, kafka, env.topic("out"), 70)
    path = path_of(cluster.flink("stop", "--savepointPath", savepoint_dir(cluster), job))
    cluster.wait_state(job, "FINISHED")
    for name in sorted(os.listdir(files_of(path))):
        copy = os.path.join(env.directory, f"damaged-{name}")
        shutil.copytree(files_of(path), copy)
        damaged = os.path.join(copy, name)
        with open(damaged, "r+b") as f:
            f.seek(os.path.getsize(damaged) // 2)
            byte = f.read(1)
            f.seek(-1, os.SEEK_CUR)
            f.write(bytes([byte[0] ^ 0x10]))
        done = cluster.flink("run", "-d", "-s", copy, PROGRAM, *records_args(kafka, *args, output=env.topic("out")), check=False)
        said = done.stderr
        if done.returncode == 0:
            job = re.search(r"JobID ([0-9a-f]{32})", done.stdout).group(1)
            cluster.wait_state(job, "FAILED")
            said = exceptions(cluster, job)
        assert f"damaged-{name}" in said and "damaged" in said.replace(f"damaged-{name}", ""), f"{name}: {said}"
    assert len(numbers(kafka, env.topic("out"))) == 70
    assert "damaged-" in log_text(cluster)


def test_claim_modes(env):
    """no_claim (the default) and legacy leave the savepoint alone; with claim it is the job's, and goes when newer checkpoints subsume it."""
    cluster = env.cluster(1, slots=1)
    program = ["-p", "1", os.path.join(BUILD, "tests", "programs", "slow_map.so"), "--sleep-us", "0", "--rate", "2000", "--interval", "200"]
    job = cluster.run(*program)
    cluster.wait_checkpoint(job)
    path = path_of(cluster.flink("stop", "--savepointPath", savepoint_dir(cluster), job))
    cluster.wait_state(job, "FINISHED")
    for flags in ([], ["-rm", "legacy"], ["-cm", "claim"]):
        assert os.path.exists(os.path.join(files_of(path), "_metadata")), flags
        job = cluster.run("-s", path, *flags, *program)
        cluster.wait_checkpoint(job, 3)
        if "claim" in flags:
            cluster.wait(lambda: not os.path.exists(files_of(path)), 10, "the claimed savepoint to go")
        cluster.flink("cancel", job)
        cluster.wait_state(job, "CANCELED")
    refused = cluster.flink("run", "-d", "-s", path, "-cm", "claim", *program, check=False)
    assert refused.returncode != 0 and "Cannot find checkpoint or savepoint file/directory" in refused.stderr + refused.stdout, refused
