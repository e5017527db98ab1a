"""Flink's Java command line against our jobmanager: what it prints, and what it does."""
import os
import re
import time

UNKNOWN = "f" * 32
NO_JOB = f"org.apache.flink.runtime.messages.FlinkJobNotFoundException: Could not find Flink job ({UNKNOWN})"


class Context:
    def __init__(self, stage, client):
        self.stage = stage
        self.client = client
        self.job = stage.clicks()

    def has_checkpoint_command(self):
        return tuple(int(part) for part in self.client.version.split(".")[:2]) >= (1, 19)


def expect(context, *args, code=0, out=(), err=()):
    """Runs the client; every text must be in what it printed. Gives its standard output."""
    status, stdout, stderr = context.client.run(*args)
    shown = f"flink {' '.join(args)} ended with {status}\n{stdout}\n{stderr}"
    assert status == code, shown
    for text in out:
        assert text in stdout, f"{text!r} is missing: {shown}"
    for text in err:
        assert text in stderr, f"{text!r} is missing: {shown}"
    return stdout


def saved_in(text):
    path = re.search(r"file:(\S+/savepoint-[0-9a-f]{6}-[0-9a-f]{12})", text).group(1)
    assert os.path.exists(os.path.join(path, "_metadata")), f"there is no savepoint in {path}"
    return path


def test_list(context):
    out = expect(context, "list", out=["------------------ Running/Restarting Jobs -------------------", "No scheduled jobs."])
    assert re.search(rf"\d\d\.\d\d\.\d{{4}} \d\d:\d\d:\d\d : {context.job} : Click Event Count \(RUNNING\)", out), out
    # Up to 1.18 a client understands the second answer only, three seconds later.
    assert context.client.last_time_s < 50, f"flink list took {context.client.last_time_s:.1f} s"


def test_list_all_and_again(context):
    ended = context.stage.clicks("--output-topic", "other")
    context.stage.cluster.flink("cancel", ended)
    context.stage.cluster.wait_state(ended, "CANCELED")
    expect(context, "list", "-a", out=[f"{context.job} : Click Event Count (RUNNING)",
                                       "---------------------- Terminated Jobs -----------------------",
                                       f"{ended} : Click Event Count (CANCELED)"])
    expect(context, "list", "-r", out=[f"{context.job} : Click Event Count (RUNNING)"])
    expect(context, "list", "-s", out=["No scheduled jobs."])


def test_savepoint(context):
    out = expect(context, "savepoint", context.job, out=[f"Triggering savepoint for job {context.job}.", "Savepoint completed. Path: file:",
                                                         "You can resume your program from this savepoint with the run command."])
    path = saved_in(out)
    expect(context, "savepoint", "-d", f"file:{path}", out=[f"Savepoint 'file:{path}' disposed."])
    assert not os.path.exists(path), f"{path} is still there"


def test_savepoint_directory(context):
    target = os.path.join(context.stage.directory, "elsewhere")
    path = saved_in(expect(context, "savepoint", "-type", "native", context.job, target))
    assert path.startswith(target + "/"), path
    out = expect(context, "savepoint", "-detached", context.job, target, out=["Successfully trigger manual savepoint, triggerId: "]) \
        if context.has_checkpoint_command() else "triggerId: -"
    assert re.search("triggerId: [0-9a-f-]+", out), out


def test_failed_savepoint_says_why(context):
    expect(context, "savepoint", UNKNOWN, code=1, err=["Caused by: java.util.concurrent.CompletionException: " + NO_JOB, "Caused by: " + NO_JOB])
    expect(context, "savepoint", context.job, "/proc/no/such", code=1,
           err=["Caused by: java.io.IOException: Failed to create savepoint directory at /proc/no/such"])
    expect(context, "savepoint", "-d", "/no/such/savepoint", code=1,
           err=["Caused by: java.io.FileNotFoundException: Cannot find checkpoint or savepoint file/directory '/no/such/savepoint'"])


def test_checkpoint(context):
    if not context.has_checkpoint_command():
        expect(context, "checkpoint", context.job, code=1, out=['"checkpoint" is not a valid action.'])
        return
    out = expect(context, "checkpoint", context.job, out=["You can resume your program from this checkpoint with the run command."])
    assert re.search(rf"Checkpoint \d+ for job {context.job} completed\.", out), out
    expect(context, "checkpoint", "--full", context.job, out=["Checkpoint(FULL) "])
    expect(context, "checkpoint", UNKNOWN, code=1, err=["Caused by: " + NO_JOB])


def test_stop(context):
    job = context.stage.clicks("--output-topic", "other")
    saved_in(expect(context, "stop", job, out=[f'Suspending job "{job}" with a CANONICAL savepoint.', "Savepoint completed. Path: file:"]))
    context.stage.cluster.wait_state(job, "FINISHED")
    assert context.stage.cluster.state(context.job) == "RUNNING"
    expect(context, "stop", UNKNOWN, code=1, err=[f'Could not stop with a savepoint job "{UNKNOWN}".', "Caused by: " + NO_JOB])
    expect(context, "stop", job, code=1, err=[f"Could not find Flink job ({job})"])


def test_stop_and_drain(context):
    job = context.stage.clicks("--output-topic", "other")
    saved_in(expect(context, "stop", "--drain", job, out=[f'Draining job "{job}" with a CANONICAL savepoint.']))
    context.stage.cluster.wait_state(job, "FINISHED")


def test_cancel(context):
    job = context.stage.clicks("--output-topic", "other")
    expect(context, "cancel", job, out=[f"Cancelled job {job}."])
    context.stage.cluster.wait_state(job, "CANCELED")
    expect(context, "cancel", UNKNOWN, code=1, err=["Could not find Flink job"])
    job = context.stage.clicks("--output-topic", "other")
    saved_in(expect(context, "cancel", "-s", job, out=[f"Cancelled job {job}. Savepoint stored in file:"]))
    context.stage.cluster.wait_state(job, "CANCELED")


def test_run_is_refused_with_an_explanation(context):
    jar = context.client.program()
    if jar is None:
        raise AssertionError("there is no javac: mk/install-deps.sh tools installs it")
    started = time.monotonic()
    expect(context, "run", "-d", jar, code=1, err=["Serialized Java job graphs cannot run here", "flink run"])
    assert time.monotonic() - started < 30, "the refusal is not told at once"
    context.stage.check_alive()


def test_afterwards_the_job_still_runs(context):
    assert context.stage.cluster.is_running(context.job)
    before = context.stage.cluster.checkpoints(context.job)["counts"]["completed"]
    context.stage.cluster.wait_checkpoint(context.job, before + 2)
    expect(context, "cancel", context.job, out=[f"Cancelled job {context.job}."])
    context.stage.cluster.wait_state(context.job, "CANCELED")
