"""Runs tests that do not depend on each other, some at a time, each in a process of its own: what one leaves open, changes or breaks ends
with it. Longest first; those that must be alone come after all others. Standard library only."""

import multiprocessing
import multiprocessing.connection
import os
import resource
import shutil
import signal
import sys
import time
import traceback

from .logs import last_lines, show_logs

# A test that has not ended by then is told to, which shows where it was; then it is killed.
LIMIT_S = 900
END_S = 60
# What a test printed: shown with its result, the second only where it failed.
STDOUT, STDERR = "stdout", "stderr"


class Suite:
    """What the tests of a suite get. They run in slots, one after the other in each; what a slot's tests share is made here, in the parent."""

    def environment(self, test, slot, directory, ask):
        """In the test's process: the argument of the test function. Its end(passed) cleans up and gives a problem or None."""
        raise NotImplementedError

    def provide(self, what, slot):
        """What ask(what) gives to a test, pickled."""
        raise NotImplementedError

    def prepare(self, slot):
        """Before a test is started, whose process inherits what is there."""

    def close(self):
        """After the last test."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class TimeIsUp(BaseException):
    pass


def _on_terminate(*_):
    raise TimeIsUp


def _cpu_seconds():
    """Of this process and of all that it has waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


class Running:
    """A test's process, as its parent sees it."""

    def __init__(self, suite, test, slot, directory):
        self.test, self.slot, self.directory = test, slot, directory
        self.started = time.monotonic()
        self.limit = self.started + LIMIT_S
        self.is_stopping = False
        self.passed, self.cpu_seconds = False, None
        os.makedirs(directory)
        self.pipe, theirs = multiprocessing.Pipe()
        context = multiprocessing.get_context("fork")
        self.process = context.Process(target=_run_test, args=(suite, test, slot, directory, theirs), name=test.name)
        self.process.start()
        theirs.close()

    def stop(self):
        """Asks it to end; the second time, kills it."""
        if self.is_stopping:
            self.process.kill()
        else:
            self.process.terminate()
        self.is_stopping = True
        self.limit = time.monotonic() + END_S

    def finish(self, report, keep):
        """The process has ended: takes its group away with it, and reports."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
        self.process.join()
        self.pipe.close()
        self.passed = self.passed and self.process.exitcode == 0
        text = "".join(last_lines(os.path.join(self.directory, name), 200) for name in ((STDOUT,) if self.passed else (STDERR, STDOUT)))
        if self.process.exitcode != 0:
            text += f"the process of this test ended with {self.process.exitcode}\n"
        report.result(self.test.name, self.passed, time.monotonic() - self.started, self.cpu_seconds, text)
        if not self.passed:
            show_logs(self.directory)
        elif not keep:
            shutil.rmtree(self.directory, ignore_errors=True)


def _run_test(suite, test, slot, directory, pipe):
    """In the test's process."""
    os.setsid()
    signal.signal(signal.SIGTERM, _on_terminate)
    for descriptor, name in ((1, STDOUT), (2, STDERR)):
        with open(os.path.join(directory, name), "a") as f:
            os.dup2(f.fileno(), descriptor)

    def ask(what):
        pipe.send(("ask", what))
        answer = pipe.recv()
        if isinstance(answer, Exception):
            raise answer
        return answer

    passed, env = False, None
    try:
        env = suite.environment(test, slot, directory, ask)
        test.function(env)
        passed = True
    except (Exception, TimeIsUp):
        traceback.print_exc()
    try:
        problem = env.end(passed) if env is not None else None
        if problem is not None:
            print(problem)
            passed = False
    except (Exception, TimeIsUp):
        traceback.print_exc()
        passed = False
    sys.stdout.flush()
    pipe.send(("end", (passed, _cpu_seconds())))


class Runner:
    def __init__(self, suite, jobs, directory, report, keep):
        self.suite, self.report, self.keep = suite, report, keep
        self.directory = directory
        self.free_slots = list(range(jobs))
        self.running = []

    def run(self, tests):
        signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped by SIGTERM"))
        together = sorted((test for test in tests if not test.alone), key=lambda test: -test.seconds)
        try:
            self._run(together, len(self.free_slots))
            self._run([test for test in tests if test.alone], 1)
        finally:
            for one in self.running:
                one.stop()
            while self.running:
                self._step()

    def _run(self, tests, at_a_time):
        waiting = list(tests)
        while waiting or self.running:
            while waiting and len(self.running) < at_a_time:
                self._start(waiting.pop(0))
            self._step()

    def _start(self, test):
        slot = min(self.free_slots)
        self.suite.prepare(slot)
        self.running.append(Running(self.suite, test, slot, os.path.join(self.directory, test.name)))
        self.free_slots.remove(slot)

    def _step(self):
        """Waits for something to happen, and deals with it."""
        timeout = max(0, min(one.limit for one in self.running) - time.monotonic())
        ready = multiprocessing.connection.wait([end for one in self.running for end in (one.pipe, one.process.sentinel)], timeout)
        for one in list(self.running):
            if one.pipe in ready:
                self._hear(one)
            if one.process.sentinel in ready:
                one.finish(self.report, self.keep)
                self.running.remove(one)
                self.free_slots.append(one.slot)
            elif time.monotonic() > one.limit:
                one.stop()

    def _hear(self, one):
        try:
            kind, what = one.pipe.recv()
        except EOFError:
            one.process.join(END_S)
            return
        if kind == "ask":
            try:
                answer = self.suite.provide(what, one.slot)
            except Exception as err:
                answer = err
            try:
                one.pipe.send(answer)
            except BrokenPipeError:
                pass  # it has died meanwhile
        else:
            one.passed, one.cpu_seconds = what
