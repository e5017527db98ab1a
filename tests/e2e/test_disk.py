"""The checkpoint directory cannot be written, or is full: checkpoints fail with a reason, the job does as it is configured, and when
there is room again everything is as before, with no half files."""

import json
import os
import subprocess

from .records import event, exceptions, log_text, produce, run_records, wait_next_checkpoint, wait_rows

SUMS = ("--job", "sums", "--checkpointing", "100", "--exactly-once")


class Blocked:
    """A directory that can be blocked by a file in its place: not even root can write below that."""

    def __init__(self, path):
        self.path = path

    def block(self):
        os.rename(self.path, self.path + ".away")
        open(self.path, "w").close()

    def free(self):
        os.unlink(self.path)
        os.rename(self.path + ".away", self.path)


class SmallDisk:
    """A file system of a megabyte. None where the machine does not let us mount one."""

    def __init__(self, path):
        self.path = path

    @staticmethod
    def make(path):
        os.makedirs(path)
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", path], capture_output=True)
        return SmallDisk(path) if done.returncode == 0 else None

    def fill(self):
        """Takes what is free now. A checkpoint that is deleted afterwards frees space again: fill until it shows."""
        with open(os.path.join(self.path, "filler"), "ab", buffering=0) as f:
            try:
                while f.write(bytes(4096)):
                    pass
            except OSError:
                pass

    def free(self):
        os.unlink(os.path.join(self.path, "filler"))

    def stop(self):
        subprocess.run(["umount", "-l", self.path], capture_output=True)


def failures(cluster, job):
    return cluster.checkpoints(job)["counts"]["failed"]


def folders(path):
    return [os.path.join(path, name) for name in os.listdir(path) if name.startswith("chk-")]


def check_nothing_half(cluster, job, path):
    """Only whole checkpoints are in the job's directory, but for the one that is being written."""
    def is_tidy():
        halves = [f for f in folders(path) if not os.path.exists(os.path.join(f, "_metadata"))]
        return len(halves) <= 1 and not any(".tmp" in name or "part" in name for f in folders(path) for name in os.listdir(f) if f not in halves)
    cluster.wait(is_tidy, 5, f"half checkpoints of {job} to be gone from {path}")


def test_blocked_and_tolerated(env):
    """A number of failures is tolerated: the job goes on, and so do its checkpoints later; rows are committed then, once."""
    kafka = env.kafka()
    cluster = env.cluster(1, config={"execution.checkpointing.tolerable-failed-checkpoints": 1000})
    produce(kafka, env.topic("in"), [event(1) for _ in range(5)])
    job = run_records(cluster, kafka, "--topics", env.topic("in"), *SUMS, output=env.topic("out"))
    wait_rows(cluster, kafka, env.topic("out"), 5)
    place = Blocked(os.path.join(cluster.directory, "checkpoints"))
    place.block()
    produce(kafka, env.topic("in"), [event(1) for _ in range(5)])
    before = failures(cluster, job)
    cluster.wait(lambda: failures(cluster, job) >= before + 3, 10, "checkpoints to fail")
    failed = cluster.checkpoints(job)["latest"]["failed"]
    assert "Not a directory" in failed["failure_message"] and "checkpoints" in failed["failure_message"], failed
    assert cluster.is_running(job)
    assert "Not a directory" in log_text(cluster)
    assert len(kafka.read(env.topic("out"))) == 5
    place.free()
    rows = wait_rows(cluster, kafka, env.topic("out"), 10)
    assert [json.loads(r)["n"] for r in rows] == list(range(1, 11)), rows
    details = wait_next_checkpoint(cluster, job)
    assert details["booksBalance"], details.get("booksFaults")
    assert cluster.get(f"/jobs/{job}/exceptions")["exceptionHistory"]["entries"] == []
    check_nothing_half(cluster, job, os.path.join(place.path, job))
    cluster.flink("cancel", job)


def test_blocked_and_not_tolerated(env):
    """None is tolerated (the default): the job fails with the reason, restarts from what it has as often as its strategy lets it."""
    kafka = env.kafka()
    cluster = env.cluster(1)
    produce(kafka, env.topic("in"), [event(1) for _ in range(5)])
    job = run_records(cluster, kafka, "--topics", env.topic("in"), *SUMS, output=env.topic("out"))
    wait_rows(cluster, kafka, env.topic("out"), 5)
    place = Blocked(os.path.join(cluster.directory, "checkpoints"))
    place.block()
    cluster.wait(lambda: "Exceeded checkpoint tolerable failure threshold." in exceptions(cluster, job), 10, "the job to fail for its checkpoints")
    assert "Not a directory" in exceptions(cluster, job)
    place.free()
    produce(kafka, env.topic("in"), [event(1) for _ in range(5)])
    rows = wait_rows(cluster, kafka, env.topic("out"), 10)
    assert [json.loads(r)["n"] for r in rows] == list(range(1, 11)), rows
    cluster.wait_running(job)
    check_nothing_half(cluster, job, os.path.join(place.path, job))
    cluster.flink("cancel", job)


def test_disk_full(env):
    """No space left: the reason is told; when there is room again the same job goes on and the disk holds whole checkpoints only."""
    disk = SmallDisk.make(os.path.join(env.directory, "disk"))
    if disk is None:
        print("(not run: only root can mount a small file system)")
        return
    env.closing(disk)
    kafka = env.kafka()
    cluster = env.cluster(1, config={"state.checkpoints.dir": f"file://{disk.path}/checkpoints",
                                     "state.savepoints.dir": f"file://{disk.path}/savepoints",
                                     "execution.checkpointing.tolerable-failed-checkpoints": 1000})
    produce(kafka, env.topic("in"), [event(1, key=f"key-{n}") for n in range(1000)])
    job = run_records(cluster, kafka, "--topics", env.topic("in"), *SUMS, output=env.topic("out"))
    wait_rows(cluster, kafka, env.topic("out"), 1000)
    before = failures(cluster, job)
    cluster.wait(lambda: disk.fill() or failures(cluster, job) >= before + 3, 10, "checkpoints to fail")
    assert "No space left on device" in cluster.checkpoints(job)["latest"]["failed"]["failure_message"]
    assert "No space left on device" in log_text(cluster)
    done = cluster.flink("savepoint", job, check=False)
    assert done.returncode == 1 and "No space left on device" in done.stderr, done.stderr
    assert cluster.is_running(job)
    produce(kafka, env.topic("in"), [event(1, key="key-1")])
    disk.free()
    rows = wait_rows(cluster, kafka, env.topic("out"), 1001)
    assert json.loads(rows[-1])["n"] == 2, rows[-1]
    check_nothing_half(cluster, job, os.path.join(disk.path, "checkpoints", job))
    assert not os.path.exists(os.path.join(disk.path, "savepoints")) or os.listdir(os.path.join(disk.path, "savepoints")) == []
    cluster.flink("cancel", job)
    cluster.wait_state(job, "CANCELED")
    cluster.wait(lambda: not os.path.exists(os.path.join(disk.path, "checkpoints", job)), 5, "the cancelled job's checkpoints to be deleted")


def test_all_checkpoints_vanish(env):
    """Somebody deletes the files of all of a running job's checkpoints: at the next failure they are named, and the job ends in FAILED.
    It does not start from scratch as if it had never counted."""
    kafka = env.kafka()
    cluster = env.cluster(1)
    produce(kafka, env.topic("in"), [event(1) for _ in range(5)])
    job = run_records(cluster, kafka, "--topics", env.topic("in"), "--job", "sums", "--checkpointing", "3600000", output=env.topic("out"))
    wait_rows(cluster, kafka, env.topic("out"), 5)
    cluster.flink("checkpoint", job)
    cluster.wait_checkpoint(job, 1)
    for folder in folders(os.path.join(cluster.directory, "checkpoints", job)):
        for name in os.listdir(folder):
            if name != "_metadata":
                os.unlink(os.path.join(folder, name))
    cluster.taskmanagers[0].kill()
    cluster.taskmanagers[0].wait()
    cluster.add_taskmanager()
    cluster.wait_state(job, "FAILED")
    assert "no intact checkpoint is left" in exceptions(cluster, job) and "chk-1" in exceptions(cluster, job), exceptions(cluster, job)
    assert "will not be used again" in log_text(cluster)
    assert [json.loads(text)["n"] for _, _, text in kafka.read(env.topic("out"))] == [1, 2, 3, 4, 5]


def test_place_of_checkpoints_is_away(env):
    """The file system of the checkpoints is not there when the job restarts: that is said, no checkpoint counts as damaged, and when the
    file system is back the job goes on from where it was."""
    kafka = env.kafka()
    cluster = env.cluster(1)
    produce(kafka, env.topic("in"), [event(1) for _ in range(5)])
    job = run_records(cluster, kafka, "--topics", env.topic("in"), "--job", "sums", "--checkpointing", "3600000", output=env.topic("out"))
    wait_rows(cluster, kafka, env.topic("out"), 5)
    cluster.flink("checkpoint", job)
    cluster.wait_checkpoint(job, 1)
    place = os.path.join(cluster.directory, "checkpoints")
    os.rename(place, place + ".away")
    cluster.taskmanagers[0].kill()
    cluster.taskmanagers[0].wait()
    cluster.add_taskmanager()
    cluster.wait(lambda: f"{place}/{job} does not exist on this machine" in exceptions(cluster, job), 20, "the restore to fail")
    os.rename(place + ".away", place)
    produce(kafka, env.topic("in"), [event(1) for _ in range(5)])
    rows = wait_rows(cluster, kafka, env.topic("out"), 10)
    assert [json.loads(r)["n"] for r in rows] == list(range(1, 11)), rows
    assert "will not be used again" not in log_text(cluster)
    cluster.flink("cancel", job)
