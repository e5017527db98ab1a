"""User code that goes wrong: the error says what happened and in which function, no daemon dies, another job loses nothing."""

import json
import os
import random
import signal
import subprocess
import time

from .clicks import Generator, check_results
from .cluster import BIN, BUILD
from .test_click_count import job_args, results_expected, wait_windows

PROGRAMS = os.path.join(BUILD, "tests", "programs")

# how it fails -> words that the job's exceptions must have, beside the function's name
FAILURES = {
    "null": ["SIGSEGV"],
    "divide": ["SIGFPE"],
    "abort": ["SIGABRT"],
    "exit": ["exit"],
    "loop": ["task.function.timeout"],
    "allocate": ["memory"],
    "fail": ["not to my taste"],
}


def test_functions(env):
    kafka = env.kafka()
    generator = env.closing(Generator(kafka, env.topic("in"), 12000))
    cluster = env.cluster(1, slots=2, config={"task.function.timeout": "2 s", "taskmanager.task.memory-limit": "256m"})
    good = cluster.run(env.program("ClickCountJob.so"), *job_args(env, kafka, "--exactly-once"))
    cluster.wait_running(good)
    for how, words in FAILURES.items():
        job = cluster.run(os.path.join(PROGRAMS, "misbehave.so"), "--how", how)
        cluster.wait_state(job, "FAILED", 30)
        text = json.dumps(cluster.get(f"/jobs/{job}/exceptions"))
        for word in ["TroubleMaker", *words]:
            assert word in text, f"--how {how}: {word!r} is not in {text}"
    assert cluster.taskmanagers[0].poll() is None
    job = cluster.run(os.path.join(PROGRAMS, "misbehave.so"), "--how", "none")
    cluster.wait_running(job)
    cluster.flink("cancel", job)
    assert cluster.job(good)["state"] == "RUNNING"
    assert "NoResource" not in json.dumps(cluster.get(f"/jobs/{good}/exceptions"))
    assert cluster.get(f"/jobs/{good}/exceptions")["exceptionHistory"]["entries"] == []
    generator.stop()
    expected = results_expected(kafka, env.topic("in"))
    check_results(wait_windows(env, kafka, expected), expected, exactly_once=True)
    cluster.flink("cancel", good)


test_functions.crashes_on_purpose = True


def test_programs(env):
    """What `flink run` says of programs that are none."""
    cluster = env.cluster(0, config={"program.compile.timeout": "2 s"})
    bad_main = os.path.join(PROGRAMS, "bad_main.so")
    garbage = os.path.join(env.directory, "garbage.so")
    with open(garbage, "wb") as f:
        f.write(random.Random(1).randbytes(20000))
    cases = [
        (["-c", "crashes", bad_main], ["SIGSEGV"]),
        (["-c", "loops", bad_main], ["2000 ms", "2 s"]),
        (["-c", "prints_garbage", bad_main], []),
        (["-c", "executes_nothing", bad_main], ["mr_execute"]),
        (["-c", "exits", bad_main], ["I have had enough"]),
        (["-c", "names_a_missing_field", bad_main], ["pagee"]),
        (["-c", "no_such_entry", bad_main], ["no_such_entry"]),
        ([garbage], ["garbage.so"]),
        ([os.path.join(env.directory, "not-there.so")], ["not-there.so"]),
    ]
    for args, words in cases:
        done = cluster.flink("run", "-d", *args, check=False)
        said = done.stdout + done.stderr
        assert done.returncode == 1, f"{args}: exit code {done.returncode}\n{said}"
        assert not words or any(word in said for word in words), f"{args}: none of {words} in\n{said}"
        assert cluster.get("/overview") is not None, f"{args}: the jobmanager does not answer any more"
    assert cluster.get("/jobs")["jobs"] == []
    assert cluster.get("/jars")["files"] == []


test_programs.crashes_on_purpose = True


def test_taskmanager_as_process_1(env):
    """As in a container without an init process: its task runners are children of process 1, and yet have a parent."""
    unshare = ["unshare", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"]), "--pid", "--fork", "--kill-child", "--mount-proc"]
    if subprocess.run([*unshare, "true"], capture_output=True).returncode != 0:
        print("this machine makes no process namespaces: nothing is tested")
        return
    cluster = env.cluster(0)
    with open(os.path.join(env.directory, "taskmanager.log"), "ab") as log:
        outer = subprocess.Popen([*unshare, os.path.join(BIN, "taskmanager"), "--config", cluster.conf], stdout=log, stderr=log,
                                 cwd=env.directory)
    try:
        cluster.wait(lambda: cluster.get("/overview")["taskmanagers"] == 1, 20, "the taskmanager to register")
        job = cluster.run(os.path.join(PROGRAMS, "misbehave.so"), "--how", "none")
        cluster.wait_running(job)
        cluster.flink("cancel", job)
        with open(f"/proc/{outer.pid}/task/{outer.pid}/children") as children:
            os.kill(int(children.read()), signal.SIGTERM)
        assert outer.wait(15) == 0, outer.returncode
    finally:
        if outer.poll() is None:
            outer.kill()
            outer.wait()


def test_submission_is_idempotent(env):
    cluster = env.cluster(1, slots=2)
    program = os.path.join(PROGRAMS, "misbehave.so")
    with open(program, "rb") as f:
        content = f.read()
    import http.client

    boundary = "xxmillracexx"
    body = (f'--{boundary}\r\nContent-Disposition: form-data; name="jarfile"; filename="misbehave.so"\r\n'
            "Content-Type: application/x-java-archive\r\n\r\n").encode() + content + f"\r\n--{boundary}--\r\n".encode()
    connection = http.client.HTTPConnection("127.0.0.1", cluster.rest_port)
    connection.request("POST", "/v1/jars/upload", body, {"content-type": f"multipart/form-data; boundary={boundary}"})
    uploaded = json.loads(connection.getresponse().read())
    jar = os.path.basename(uploaded["filename"])
    wanted = "0123456789abcdef0123456789abcdef"
    for _ in range(3):
        answer = cluster.request("POST", f"/v1/jars/{jar}/run", {"jobId": wanted, "programArgs": "--how none"})
        assert answer == {"jobid": wanted}, answer
    cluster.wait_running(wanted)
    time.sleep(0.5)
    assert [job["id"] for job in cluster.get("/jobs")["jobs"]] == [wanted]
    cluster.flink("cancel", wanted)
