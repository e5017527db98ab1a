"""The daemons' logs: Flink's line format and words, on standard output or in rolling files, and over REST."""
import os
import re
import signal
import subprocess
import time
import urllib.request

from .cluster import BIN, BUILD
from .records import log_text
from .test_scheduling import messages

MISBEHAVE = os.path.join(BUILD, "tests", "programs", "misbehave.so")
# log4j's "%d{yyyy-MM-dd HH:mm:ss,SSS} %-5p %-60c %x - %m%n"
HEAD = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} (TRACE|DEBUG|INFO |WARN |ERROR) (\S+) *\[\] - ")
FLINK = "org.apache.flink.runtime."


def text_of(cluster, path):
    with urllib.request.urlopen(f"http://127.0.0.1:{cluster.rest_port}{path}", timeout=10) as answer:
        return answer.read().decode()


def assert_order(log, wanted):
    """Each (level, logger, pattern) has a line, in this order."""
    lines = iter(messages(log))
    for level, logger, pattern in wanted:
        assert any(line[0] == level and line[1] == logger and re.match(pattern, line[2]) for line in lines), \
            f"no {level} {logger} {pattern} at its place in\n{log}"


def test_failover_in_flinks_words(env):
    """A lost taskmanager, no slots, a new taskmanager: the lines of a recorded Flink 1.20 log, those of its Java machinery left out."""
    cluster = env.cluster(1, slots=1, config={"resourcemanager.standalone.start-up-time": "1 ms"})
    job = cluster.run(MISBEHAVE, "--how", "none", "--restart")
    cluster.wait_running(job)
    cluster.wait_checkpoint(job, 1)
    cluster.taskmanagers[0].send_signal(signal.SIGKILL)
    cluster.taskmanagers[0].wait()
    cluster.wait(lambda: "NoResourceAvailableException" in log_text(cluster), 20, "the job to miss its slot")
    cluster.add_taskmanager()
    cluster.wait_running(job)
    cluster.wait_checkpoint(job, 2)
    attempt = r"[0-9a-f]{32}_[0-9a-f]{32}_0_"
    graph, master = FLINK + "executiongraph.ExecutionGraph", FLINK + "jobmaster.JobMaster"
    manager, checkpoints = FLINK + "resourcemanager.slotmanager.FineGrainedSlotManager", FLINK + "checkpoint.CheckpointCoordinator"
    assert_order(log_text(cluster), [
        ("INFO", graph, rf"Job .* \({job}\) switched from state CREATED to RUNNING\."),
        ("INFO", graph, rf"Source: \S+.* \(1/1\) \({attempt}0\) switched from CREATED to SCHEDULED\."),
        ("INFO", manager, rf"Received resource requirements from job {job}: \[ResourceRequirement{{"
                         r"resourceProfile=ResourceProfile{UNKNOWN}, numberOfRequiredSlots=1}\]"),
        ("INFO", graph, rf"Source: \S+.* \(1/1\) \({attempt}0\) switched from DEPLOYING to INITIALIZING\."),
        ("INFO", checkpoints, r"Triggering checkpoint 1 \(type=CheckpointType{name='Checkpoint', sharingFilesStrategy=FORWARD_BACKWARD}\) "
                              rf"@ \d+ for job {job}\."),
        ("INFO", checkpoints, rf"Completed checkpoint 1 for job {job} \(\d+ bytes, checkpointDuration=\d+ ms, finalizationTime=\d+ ms\)\."),
        ("INFO", master, r"TaskManager with id \S+ is no longer reachable\."),
        ("INFO", graph, rf"Source: \S+.* \(1/1\) \({attempt}0\) switched from RUNNING to FAILED on \S+ @ \S+ \(dataPort=\d+\)\.\n"
                        r"org\.apache\.flink\.runtime\.jobmaster\.JobMasterException: TaskManager with id \S+ is no longer reachable\."),
        ("INFO", graph, rf"Discarding the results produced by task execution {attempt}0\."),
        ("INFO", master, rf"\d+ tasks will be restarted to recover the failed task {attempt}0\."),
        ("INFO", graph, rf"Job .* \({job}\) switched from state RUNNING to RESTARTING\."),
        ("WARN", manager, rf"Could not fulfill resource requirements of job {job}\."),
        ("WARN", FLINK + "jobmaster.slotpool.DeclarativeSlotPoolBridge",
         r"Could not acquire the minimum required resources, failing slot requests\."),
        ("INFO", graph, rf"Source: \S+.* \(1/1\) \({attempt}\d+\) switched from SCHEDULED to FAILED on \[unassigned resource\]\."),
        ("INFO", checkpoints, rf"Restoring job {job} from Checkpoint \d+ @ \d+ for {job} located at \S+\."),
        ("INFO", graph, rf"Source: \S+.* \(1/1\) \({attempt}\d+\) switched from INITIALIZING to RUNNING\.")])
    task = FLINK + "taskmanager.Task"
    assert_order(log_text(cluster, "taskmanager-1"), [
        ("INFO", FLINK + "taskexecutor.TaskExecutor", "Successful registration at resource manager "),
        ("INFO", task, rf"Source: \S+.* \(1/1\)#\d+ \({attempt}\d+\) switched from CREATED to DEPLOYING\."),
        ("INFO", task, rf"Source: \S+.* \(1/1\)#\d+ \({attempt}\d+\) switched from DEPLOYING to INITIALIZING\."),
        ("INFO", task, rf"Source: \S+.* \(1/1\)#\d+ \({attempt}\d+\) switched from INITIALIZING to RUNNING\.")])
    cluster.flink("cancel", job)


def test_standard_output_and_rest(env):
    """Without a log directory: all lines on standard output, none on standard error, and REST shows the same text, also the warning of a
    mistyped configuration key."""
    cluster = env.cluster(1, slots=1, config={"heartbeat.intervall": "1 s"})
    warning = "Did you mean heartbeat.interval?"
    console = os.path.join(cluster.directory, "console")
    with open(console + ".out", "wb") as out, open(console + ".err", "wb") as err:
        extra = subprocess.Popen([os.path.join(BIN, "taskmanager"), "--config", cluster.conf], stdout=out, stderr=err)
    try:
        cluster.wait(lambda: cluster.get("/overview")["taskmanagers"] == 2, 20, "the second taskmanager")
        with open(console + ".out") as f:
            said = f.read()
        assert said and all(HEAD.match(line) for line in said.splitlines()), said
        assert os.path.getsize(console + ".err") == 0
        ids = [t["id"] for t in cluster.get("/taskmanagers")["taskmanagers"]]
        shown = [text_of(cluster, f"/taskmanagers/{id}/log") for id in ids]
        # The file begins once the working directory is there; from then on it is the same.
        assert any(said.endswith(text) and "Successful registration" in text for text in shown), (said, shown)
        assert all(text.count(warning) == 1 for text in shown), shown
    finally:
        extra.terminate()
        extra.wait()
    log = text_of(cluster, "/jobmanager/log")
    assert "Rest endpoint listening at" in log and log in log_text(cluster)
    assert log.count(warning) == 1, log
    names = [entry["name"] for entry in cluster.get("/jobmanager/logs")["logs"]]
    assert names == ["jobmanager.log"], names
    assert text_of(cluster, "/jobmanager/logs/jobmanager.log").startswith(log)


def test_rolling_files(env):
    """With a log directory: files of bounded size and number; each is listed and shown; no line is torn or lost between two of them."""
    cluster = env.cluster(0)
    directory = os.path.join(cluster.directory, "logs")
    config = ["-D", f"env.log.dir={directory}", "-D", "env.log.max-bytes=64k", "-D", "env.log.max=3", "-D", "heartbeat.interval=50 ms"]
    log = open(os.path.join(cluster.directory, "rolling.log"), "wb")
    taskmanager = subprocess.Popen([os.path.join(BIN, "taskmanager"), "--config", cluster.conf, *config], stdout=log, stderr=log)
    try:
        cluster.wait(lambda: cluster.get("/overview")["taskmanagers"] == 1, 20, "the taskmanager")
        id = cluster.get("/taskmanagers")["taskmanagers"][0]["id"]
        # A print sink is no log; what fills it are tasks that come and go.
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and len([name for name in os.listdir(directory) if ".log" in name]) < 3:
            cluster.flink("cancel", cluster.run(MISBEHAVE, "--how", "none"))
        entries = {entry["name"]: entry["size"] for entry in cluster.get(f"/taskmanagers/{id}/logs")["logs"] if ".log" in entry["name"]}
        assert 3 <= len(entries) <= 4 and all(size <= 64 << 10 for size in entries.values()), entries
        whole = "".join(text_of(cluster, f"/taskmanagers/{id}/logs/{name}") for name in sorted(entries, reverse=True))
        assert all(HEAD.match(line) for line in whole.splitlines()), whole
        assert os.path.getsize(log.name) == 0, "the console is quiet when there is a log directory"
    finally:
        taskmanager.terminate()
        taskmanager.wait()
        log.close()


def test_secrets_are_not_shown(env):
    """A password on the command line: neither the configuration, the environment nor the log shows it."""
    cluster = env.cluster(0)
    console = os.path.join(cluster.directory, "secret")
    with open(console, "wb") as out:
        jobmanager = subprocess.Popen([os.path.join(BIN, "jobmanager"), "-D", "rest.bind-address=127.0.0.1", "-D", "rest.port=0", "-D",
                                       "jobmanager.rpc.port=0", "-D", "db.password=hunter2", "-Ddb.secret=hunter2", "-Dmy.own=shown"], stdout=out)
    try:
        def address():
            with open(console) as f:
                return re.search(r"Rest endpoint listening at \S*:(\d+)", f.read())
        cluster.wait(address, 20, "the jobmanager")
        base = f"http://127.0.0.1:{address().group(1)}"
        answers = [urllib.request.urlopen(base + path, timeout=10).read().decode() for path in
                   ("/jobmanager/environment", "/jobmanager/config", "/jobmanager/log")]
        assert '"db.password=******","-Ddb.secret=******","-Dmy.own=shown"' in answers[0], answers[0]
        assert "db.password" in answers[1]
        assert not any("hunter2" in answer for answer in answers), answers
    finally:
        jobmanager.terminate()
        jobmanager.wait()
