"""A Millrace cluster of real processes for tests: a jobmanager and taskmanagers on loopback and free ports, each stopped by
pid. Standard library only."""

import json
import os
import re
import signal
import subprocess
import time
import urllib.error
import urllib.request

from ..support_py.ports import free_port

BUILD = os.path.abspath(os.environ.get("BUILD", "build"))
BIN = os.path.join(BUILD, "bin")


class RestError(Exception):
    def __init__(self, status, body):
        super().__init__(f"{status}: {body}")
        self.status, self.body = status, body


class Cluster:
    def __init__(self, directory, slots=2, config=None):
        self.directory = os.path.abspath(directory)
        self.slots = slots
        self.rest_port = free_port()
        self.rpc_port = free_port()
        self.taskmanagers = []
        self.jobmanager = None
        self.config = {
            "jobmanager.rpc.address": "127.0.0.1",
            "jobmanager.rpc.port": self.rpc_port,
            "rest.address": "127.0.0.1",
            "rest.bind-address": "127.0.0.1",
            "rest.port": self.rest_port,
            "taskmanager.numberOfTaskSlots": slots,
            "taskmanager.host": "127.0.0.1",
            "state.checkpoints.dir": f"file://{self.directory}/checkpoints",
            "state.savepoints.dir": f"file://{self.directory}/savepoints",
            "metrics.reporter.prom.port": 0,
            "restart-strategy.type": "fixed-delay",
            "restart-strategy.fixed-delay.attempts": 1000000,
            "restart-strategy.fixed-delay.delay": "100 ms",
        }
        self.config.update(config or {})
        os.makedirs(self.directory, exist_ok=True)
        self.conf = os.path.join(self.directory, "config.yaml")
        with open(self.conf, "w") as f:
            for key, value in self.config.items():
                if value is None:  # as if it had not been set here
                    continue
                f.write(f"{key}: {value}\n")

    def _spawn(self, program, name, *args):
        log = open(os.path.join(self.directory, f"{name}.log"), "ab")
        env = dict(os.environ, TZ="UTC")
        return subprocess.Popen([os.path.join(BIN, program), "--config", self.conf, *args], stdout=log, stderr=log, env=env,
                                cwd=self.directory)

    def start(self, taskmanagers=1):
        self.jobmanager = self._spawn("jobmanager", "jobmanager")
        self.wait(lambda: self.get("/overview") is not None, 20, "the jobmanager's REST answer")
        for _ in range(taskmanagers):
            self.add_taskmanager()
        self.wait(lambda: self.get("/overview")["taskmanagers"] == taskmanagers, 20, f"{taskmanagers} taskmanagers to register")
        return self

    def add_taskmanager(self, *args):
        process = self._spawn("taskmanager", f"taskmanager-{len(self.taskmanagers)}", *args)
        self.taskmanagers.append(process)
        return process

    def runners(self, taskmanager=None):
        """Pids of the task-runner processes (of one taskmanager)."""
        pids = []
        parents = {taskmanager.pid} if taskmanager else {t.pid for t in self.taskmanagers}
        for entry in os.listdir("/proc"):
            if not entry.isdigit():
                continue
            try:
                with open(f"/proc/{entry}/stat") as f:
                    stat = f.read()
            except OSError:
                continue
            name, rest = re.match(r"\d+ \((.*)\) (.*)", stat, re.S).groups()
            if name.startswith("task-runner") and int(rest.split()[1]) in parents and rest[0] != "Z":
                pids.append(int(entry))
        return pids

    def kill_runners(self):
        """All of them. Of a job with several, those that are left are killed by their taskmanagers as soon as one is gone."""
        for pid in self.runners():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def request(self, method, path, body=None, timeout=10):
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(f"http://127.0.0.1:{self.rest_port}{path}", data=data, method=method,
                                         headers={"content-type": "application/json"} if data else {})
        try:
            with urllib.request.urlopen(request, timeout=timeout) as answer:
                return json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as err:
            raise RestError(err.code, err.read().decode(errors="replace")) from None

    def get(self, path):
        try:
            return self.request("GET", path)
        except (urllib.error.URLError, OSError):
            return None

    def flink(self, *args, check=True, timeout=60):
        done = subprocess.run([os.path.join(BIN, "flink"), args[0], "-m", f"127.0.0.1:{self.rest_port}", *args[1:]],
                              capture_output=True, text=True, timeout=timeout)
        if check and done.returncode != 0:
            raise AssertionError(f"flink {' '.join(args)} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
        return done

    def run(self, *args):
        """flink run -d; the job id."""
        done = self.flink("run", "-d", *args)
        return re.search(r"JobID ([0-9a-f]{32})", done.stdout).group(1)

    def job(self, job):
        return self.get(f"/jobs/{job}")

    def state(self, job):
        return (self.get(f"/jobs/{job}/status") or {}).get("status")

    def is_running(self, job):
        answer = self.job(job)
        return answer is not None and answer["state"] == "RUNNING" and bool(answer["vertices"]) and \
            all(v["status"] == "RUNNING" for v in answer["vertices"])

    def wait_running(self, job, timeout=30):
        self.wait(lambda: self.is_running(job), timeout, f"job {job} to run")

    def wait_state(self, job, state, timeout=30):
        self.wait(lambda: self.state(job) == state, timeout, f"job {job} to be {state} (it is {self.state(job)})")

    def checkpoints(self, job):
        return self.get(f"/jobs/{job}/checkpoints")

    def wait_checkpoint(self, job, count=1, timeout=30):
        self.wait(lambda: self.checkpoints(job)["counts"]["completed"] >= count, timeout, f"{count} checkpoints of job {job}")

    def wait(self, condition, timeout, what):
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if self.jobmanager.poll() is not None:
                raise AssertionError(f"the jobmanager ended with {self.jobmanager.returncode} while waiting for {what}")
            if condition():
                return
            time.sleep(0.02)
        raise AssertionError(f"waited {timeout} s in vain for {what}")

    def stop(self):
        """Stops everything with SIGTERM; a process that does not end by itself, or ends badly, is an error."""
        problems = []
        for process in [*self.taskmanagers, self.jobmanager]:
            if process is None or process.poll() is not None:
                continue
            try:
                os.kill(process.pid, signal.SIGCONT)
                process.terminate()
                if process.wait(15) != 0:
                    problems.append(f"{process.args[0]} ended with {process.returncode}")
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                problems.append(f"{process.args[0]} did not stop on SIGTERM")
        if problems:
            raise AssertionError("; ".join(problems))

    def destroy(self):
        for process in [*self.taskmanagers, self.jobmanager]:
            if process is not None and process.poll() is None:
                process.kill()
                process.wait()
