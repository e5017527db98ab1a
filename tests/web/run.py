"""Runs the tests of the web page: real processes, a real browser.   python3 -m tests.web.run [-k WORD] [--list] [--keep]
Each test is a function test_*(env) of a module test_*.py in this folder; what it has seen lies in $BUILD/web as PNG. Ends with
`N passed, N failed`."""
import argparse
import importlib
import os
import shutil
import sys
import tempfile
import time
import traceback

from tests.e2e import cluster as cluster_module
from tests.e2e.cluster import Cluster
from tests.e2e.run import find_reports, show_logs
from tests.support_web.proxy import Proxy
from tests.support_web.webdriver import Browser

SCREENSHOTS = os.path.join(cluster_module.BUILD, "web")


class Environment:
    """What a test gets: a browser that all share, clusters and proxies of its own."""

    def __init__(self, root):
        self.root = root
        self.browser = Browser(log=os.path.join(root, "chromedriver.log"))
        self.clusters, self.proxies = [], []
        self.directory = self.name = None

    def begin(self, name):
        self.name = name
        self.directory = os.path.join(self.root, name)
        os.makedirs(self.directory)
        self.browser.resize(1280, 900)
        self.browser.color_scheme("light")
        self.browser.forget()

    def cluster(self, taskmanagers=1, slots=4, config=None):
        cluster = Cluster(os.path.join(self.directory, f"cluster-{len(self.clusters)}"), slots, config)
        self.clusters.append(cluster)
        return cluster.start(taskmanagers)

    def proxy(self, cluster, **options):
        proxy = Proxy(f"127.0.0.1:{cluster.rest_port}", **options)
        self.proxies.append(proxy)
        return proxy

    def program(self, name):
        return os.path.join(cluster_module.BUILD, "tests", "programs", f"{name}.so")

    def screenshot(self, what=None, whole=True):
        self.browser.screenshot(os.path.join(SCREENSHOTS, f"{self.name}{'-' + what if what else ''}.png"), whole)

    def end(self, passed):
        if not passed:
            try:
                self.screenshot("failed")
            except Exception:  # the browser itself may be what failed
                traceback.print_exc()
        self.browser.open("about:blank")
        problem = None
        for proxy in self.proxies:
            proxy.stop()
        for cluster in self.clusters:
            try:
                if passed:
                    cluster.stop()
            except AssertionError as err:
                problem = err
            finally:
                cluster.destroy()
        self.clusters, self.proxies = [], []
        return problem or (find_reports(self.directory) if passed else None)


def load_tests(word):
    tests = []
    here = os.path.dirname(os.path.abspath(__file__))
    for name in sorted(os.listdir(here)):
        if name.startswith("test_") and name.endswith(".py"):
            module = importlib.import_module(f"tests.web.{name[:-3]}")
            tests += [(f"{name[5:-3]}_{test[5:]}", getattr(module, test)) for test in vars(module) if test.startswith("test_")]
    return [(name, test) for name, test in tests if word in name]


def run(env, tests):
    failed = []
    for name, test in tests:
        started = time.monotonic()
        env.begin(name)
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
        if not passed:
            failed.append(name)
            show_logs(env.directory)
    return failed


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("-k", default="", metavar="WORD", help="only tests whose name contains WORD")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--keep", action="store_true", help="keep logs and state of passed tests too")
    options = parser.parse_args()
    tests = load_tests(options.k)
    if options.list:
        print("\n".join(name for name, _ in tests))
        return 0
    root = tempfile.mkdtemp(prefix="millrace-web-")
    env = Environment(root)
    failed = [name for name, _ in tests]
    try:
        failed = run(env, tests)
    finally:
        env.browser.close()
        if failed or options.keep:
            print(f"files are kept in {root}")
        else:
            shutil.rmtree(root, ignore_errors=True)
    print(f"screenshots are in {SCREENSHOTS}")
    if failed:
        print("failed: " + " ".join(failed))
    print(f"{len(tests) - len(failed)} passed, {len(failed)} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
