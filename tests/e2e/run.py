"""Runs the end-to-end tests: real processes, a real Kafka.   python3 -m tests.e2e.run [-k WORD] [--list]
Each test is a function test_*(env) of a module test_*.py in this folder. Ends with `N passed, N failed`."""

import argparse
import importlib
import os
import random
import shutil
import sys
import tempfile
import time
import traceback

from . import cluster as cluster_module
from .cluster import Cluster
from .kafka import Kafka


class Environment:
    """What a test gets: a directory, the shared Kafka, seeded randomness, clusters that are torn down after it."""

    def __init__(self, root, seed):
        self.root = root
        self.seed = seed
        self.shared_kafka = None
        self.clusters = []
        self.closers = []
        self.directory = None
        self.name = None
        self.random = random.Random(seed)

    def begin(self, name, test):
        self.name = name
        self.test = test
        self.directory = os.path.join(self.root, name)
        os.makedirs(self.directory)
        self.random = random.Random(f"{self.seed}-{name}")

    def kafka(self):
        """The broker that tests share; a test that hurts it makes its own with Kafka(directory)."""
        if self.shared_kafka is None:
            self.shared_kafka = Kafka(os.path.join(self.root, "kafka")).start()
        return self.shared_kafka

    def topic(self, name):
        return f"{self.name}-{name}".replace("_", "-")

    def cluster(self, taskmanagers=1, slots=2, config=None):
        cluster = Cluster(os.path.join(self.directory, f"cluster-{len(self.clusters)}"), slots, config)
        self.clusters.append(cluster)
        return cluster.start(taskmanagers)

    def program(self, name):
        return os.path.join(cluster_module.BIN, name)

    def closing(self, thing):
        self.closers.append(thing)
        return thing

    def end(self, passed):
        """Every process that the test started must stop on SIGTERM with 0; that is part of passing."""
        problem = None
        for thing in reversed(self.closers):
            thing.stop()
        for cluster in self.clusters:
            try:
                if passed:
                    cluster.stop()
            except AssertionError as err:
                problem = err
            finally:
                cluster.destroy()
        self.closers, self.clusters = [], []
        if passed and problem is None and not getattr(self.test, "crashes_on_purpose", False):
            problem = find_reports(self.directory)
        return problem


def find_reports(directory):
    """The first line of a log that a sanitizer or a broken invariant left; leaks at exit are among them."""
    for folder, _, files in os.walk(directory):
        for name in files:
            if name.endswith((".log", ".out")):
                with open(os.path.join(folder, name), errors="replace") as f:
                    for line in f:
                        if "Sanitizer" in line or "runtime error:" in line or "invariant broken" in line:
                            return f"{name}: {line.strip()}"
    return None


def tail(path, lines=40):
    with open(path, errors="replace") as f:
        return "".join(f.readlines()[-lines:])


def show_logs(directory):
    for folder, _, files in os.walk(directory):
        for name in sorted(files):
            if name.endswith((".log", ".out", ".err")):
                path = os.path.join(folder, name)
                print(f"---- {os.path.relpath(path, directory)}\n{tail(path)}", flush=True)


def load_tests(word):
    tests = []
    here = os.path.dirname(__file__)
    for name in sorted(os.listdir(here)):
        if name.startswith("test_") and name.endswith(".py"):
            module = importlib.import_module(f"tests.e2e.{name[:-3]}")
            tests += [(f"{name[5:-3]}_{test[5:]}", getattr(module, test)) for test in vars(module) if test.startswith("test_")]
    return [(name, test) for name, test in tests if word in name]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("-k", default="", metavar="WORD", help="only tests whose name contains WORD")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--seed", default=None, help="replays the random choices of an earlier run")
    parser.add_argument("--keep", action="store_true", help="keep the files of passed tests too")
    options = parser.parse_args()
    tests = load_tests(options.k)
    if options.list:
        print("\n".join(name for name, _ in tests))
        return 0
    seed = options.seed or str(random.randrange(10**9))
    root = tempfile.mkdtemp(prefix="millrace-e2e-")
    print(f"end-to-end tests, seed {seed}", flush=True)
    env = Environment(root, seed)
    failed = []
    try:
        for name, test in tests:
            started = time.monotonic()
            env.begin(name, test)
            passed = False
            try:
                test(env)
                passed = True
            except Exception:
                traceback.print_exc()
            problem = env.end(passed)
            if problem is not None:
                print(problem)
                passed = False
            print(f"{'ok    ' if passed else 'FAILED'} {name} ({time.monotonic() - started:.1f} s)", flush=True)
            if passed and not options.keep:
                shutil.rmtree(env.directory, ignore_errors=True)
            elif not passed:
                failed.append(name)
                show_logs(env.directory)
    finally:
        if env.shared_kafka is not None:
            env.shared_kafka.stop()
        if not failed and not options.keep:
            shutil.rmtree(root, ignore_errors=True)
        else:
            print(f"files are kept in {root}")
    if failed:
        print("failed: " + " ".join(failed))
    print(f"{len(tests) - len(failed)} passed, {len(failed)} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
