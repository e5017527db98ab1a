"""Finding tests, choosing some of them, and the report: one line per test when it ends, at last `N passed, N failed`.
A test is a function test_* of a module test_*.py; its name is that of the module and its own."""

import argparse
import importlib
import os
import shutil
import sys
import tempfile
import time
import traceback


class Test:
    """alone: None, or why nothing may run beside it. seconds: how long it takes, where that is long: what is long begins early."""

    def __init__(self, name, function, module=None):
        self.name = name
        self.function = function
        self.alone = getattr(function, "alone", None) or getattr(module, "ALONE", None)
        self.seconds = getattr(function, "seconds", 0)


def alone(reason):
    """Marks a test that measures, or that needs the machine to itself. (ALONE = reason in a module marks all of its tests.)"""
    def mark(function):
        function.alone = reason
        return function
    return mark


def takes(seconds):
    """Marks a test that is long, so that it is not the one that all others wait for."""
    def mark(function):
        function.seconds = seconds
        return function
    return mark


def tests_of(module, prefix):
    return [Test(f"{prefix}_{name[5:]}", function, module) for name, function in vars(module).items() if name.startswith("test_")]


def find_tests(package):
    """All tests of the modules of a package, in the order of modules and of their texts."""
    folder = os.path.dirname(importlib.import_module(package).__file__)
    modules = [name[:-3] for name in sorted(os.listdir(folder)) if name.startswith("test_") and name.endswith(".py")]
    return [test for name in modules for test in tests_of(importlib.import_module(f"{package}.{name}"), name[5:])]


def options_parser(description, jobs=None):
    """The options of every suite; with jobs (how many tests run at a time) also -j."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("-k", action="append", dest="words", metavar="WORD", help="only tests whose name contains WORD (or another WORD)")
    parser.add_argument("--list", action="store_true", help="only tell which tests there are")
    parser.add_argument("--keep", action="store_true", help="keep the files of passed tests too")
    if jobs is not None:
        parser.add_argument("-j", type=int, default=jobs, dest="jobs", metavar="N", help=f"so many tests at a time ({jobs})")
    return parser


def choose(tests, options, is_needed=lambda test: False):
    """Those that -k names, and those that are needed whatever it names. With --list, tells them and ends."""
    chosen = [test for test in tests if not options.words or is_needed(test) or any(word in test.name for word in options.words)]
    if options.list:
        for test in chosen:
            print(test.name + (f"  (alone: {test.alone})" if test.alone else ""))
        sys.exit(0)
    return chosen


class Report:
    """Prints results as they come, and counts them. What belongs to a test is below its line, so that all of a failure is in one place."""

    def __init__(self):
        self.started = time.monotonic()
        self.passed, self.failed = 0, []

    def result(self, name, passed, seconds, cpu_seconds=None, text=""):
        if passed:
            self.passed += 1
        else:
            self.failed.append(name)
        cpu = f", {cpu_seconds:.1f} s CPU" if cpu_seconds is not None else ""
        print(f"{'ok    ' if passed else 'FAILED'} {name} ({seconds:.1f} s{cpu})\n{text}", end="", flush=True)

    def begin(self, test):
        """Of a test that is watched: what it is about, where it says so in a line."""
        lines = (test.function.__doc__ or "").strip().splitlines()
        if lines:
            print(f"  {lines[0]}", flush=True)

    def finish(self):
        """The last lines; the exit code."""
        print(f"{time.monotonic() - self.started:.0f} s")
        if self.failed:
            print("failed: " + " ".join(self.failed))
        print(f"{self.passed} passed, {len(self.failed)} failed", flush=True)
        return 1 if self.failed or self.passed == 0 else 0


def run_in_order(tests, context, report, check=lambda: None, on_failure=traceback.print_exception):
    """Tests that follow each other: each gets the context as the one before has left it, and what they print is seen at once. check() belongs
    to each of them. on_failure(error) shows more; where it gives True, the others are not run."""
    for test in tests:
        report.begin(test)
        started = time.monotonic()
        error = None
        try:
            test.function(context)
            check()
        except Exception as err:
            error = err
        report.result(test.name, error is None, time.monotonic() - started)
        if error is not None and on_failure(error):
            return


class Directory:
    """Where a run keeps its files. As a context: it goes when the run ends, unless something failed or they shall be kept."""

    def __init__(self, name, report, options):
        self.path = tempfile.mkdtemp(prefix=f"millrace-{name}-")
        self.report, self.options = report, options

    def __enter__(self):
        return self.path

    def __exit__(self, kind, *_):
        if kind is not None or self.report.failed or self.options.keep:
            print(f"files are kept in {self.path}", flush=True)
        else:
            shutil.rmtree(self.path, ignore_errors=True)
