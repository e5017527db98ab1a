"""What the tools look at: a broker, a generator of clicks, a cluster that serves the dashboard, and jobs in all states."""
import os
import re
import time

from ..e2e.clicks import Generator
from ..e2e.cluster import BIN, BUILD, Cluster
from ..e2e.kafka import Kafka


class Stage:
    """Everything lives below directory; close() leaves no process behind."""

    def __init__(self, directory, web):
        self.directory = directory
        self.kafka = self.generator = self.cluster = None
        try:
            self._start(web)
        except BaseException:
            self.close()
            raise

    def _start(self, web):
        self.kafka = Kafka(os.path.join(self.directory, "kafka")).start()
        self.kafka.create_topic("input", 2)
        self.kafka.create_topic("output", 2)
        self.generator = Generator(self.kafka, "input", 200)
        logs = os.path.join(self.directory, "log")
        os.makedirs(logs)
        self.cluster = Cluster(os.path.join(self.directory, "cluster"), slots=8, config={
            "web.ui.dir": web, "env.log.dir": logs, "rest.flamegraph.enabled": "true", "rest.profiling.enabled": "true",
            "metrics.report.interval": "500 ms", "metrics.reporter.prom.port": "0"}).start(1)

    def get(self, path):
        return self.cluster.get(path)

    def url(self, path=""):
        return f"http://127.0.0.1:{self.cluster.rest_port}/{path}"

    def program(self, name="ClickCountJob.so"):
        return os.path.join(BIN, name)

    def test_program(self, name):
        return os.path.join(BUILD, "tests", "programs", name)

    def clicks(self, *extra, parallelism=1):
        """A running Click Event Count; its id."""
        job = self.cluster.run("-p", str(parallelism), self.program(), "--bootstrap.servers", self.kafka.bootstrap, "--checkpointing",
                               "--event-time", *extra)
        self.cluster.wait_running(job)
        return job

    def slow(self):
        """A job whose map is far slower than its source; its id."""
        job = self.cluster.run("-p", "1", self.test_program("slow_map.so"), "--sleep-us", "500", "--rate", "20000")
        self.cluster.wait_running(job)
        return job

    def failed(self):
        """A job that failed with the message of a user function; its id."""
        done = self.cluster.flink("run", "-d", "-Drestart-strategy.type=none", self.test_program("misbehave.so"), "--how", "fail")
        job = re.search(r"JobID ([0-9a-f]{32})", done.stdout).group(1)
        self.cluster.wait_state(job, "FAILED")
        return job

    def wait(self, condition, timeout, what):
        self.cluster.wait(condition, timeout, what)

    def vertex(self, job, word):
        return next(v for v in self.cluster.job(job)["vertices"] if word in v["name"])

    def check_alive(self):
        assert all(daemon.poll() is None for daemon in (self.cluster.jobmanager, *self.cluster.taskmanagers)), "a daemon has ended"

    def close(self):
        problem = None
        if self.generator is not None:
            self.generator.stop()
        if self.cluster is not None:
            try:
                self.cluster.stop()
            except AssertionError as err:
                problem = err
            self.cluster.destroy()
        if self.kafka is not None:
            self.kafka.stop()
        return problem


def eventually(condition, timeout, what):
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout} s in vain for {what}")
        time.sleep(0.1)
