"""make check-flink-tools: Flink's command line and dashboard against our cluster.

    python3 -m tests.flink_tools.run [--version 1.20.1] [-k WORD] [--keep] [--list]

Fetches Flink's packages once (MILLRACE_TEST_CACHE), starts a broker, a jobmanager and a taskmanager on free ports, ends with
`N passed, N failed`, and leaves nothing but screenshots below $BUILD/flink-tools/<version>."""
import argparse
import os
import shutil
import sys
import tempfile
import time
import traceback

from . import packages, test_command_line, test_dashboard
from .stage import Stage
from ..e2e.cluster import BUILD
from ..e2e.run import find_reports, show_logs


def tests_of(module, prefix, word):
    return [(f"{prefix}_{name[5:]}", test) for name, test in vars(module).items() if name.startswith("test_") and word in f"{prefix}_{name[5:]}"]


def run_all(tests, context, stage):
    failed = []
    for name, test in tests:
        started = time.monotonic()
        try:
            test(context)
            assert stage.is_alive(), "a daemon has ended"
            outcome = "ok"
        except Exception:
            traceback.print_exc()
            outcome = "FAILED"
            failed.append(name)
        print(f"{outcome:6} {name} ({time.monotonic() - started:.1f} s)", flush=True)
    return failed


def run_stage(options, home, root):
    """Names of failed tests."""
    cli = tests_of(test_command_line, "cli", options.k)
    pages = tests_of(test_dashboard, "dashboard", options.k)
    shots = os.path.join(BUILD, "flink-tools", options.version)
    shutil.rmtree(shots, ignore_errors=True)
    os.makedirs(shots)
    failed = []
    stage = Stage(root, os.path.join(home, "web"))
    dashboard = None
    try:
        if cli:
            client = packages.JavaClient(options.version, os.path.join(root, "client"), stage.cluster.rest_port)
            failed += run_all(cli, test_command_line.Context(stage, client), stage)
        if pages:
            dashboard = test_dashboard.Context(stage, options.version, shots)
            failed += run_all(pages, dashboard, stage)
            print(f"screenshots: {shots}")
    finally:
        if dashboard is not None:
            dashboard.close()
        problem = stage.close()
    problem = problem or find_reports(root)
    if problem:
        print(f"FAILED the end of the cluster: {problem}")
        failed.append("end")
    if failed and not sys.stdout.isatty():
        show_logs(os.path.join(root, "cluster"))
        show_logs(os.path.join(root, "log"))
    print(f"\n{len(cli) + len(pages) - len([name for name in failed if name != 'end'])} passed, {len(failed)} failed")
    for name in failed:
        print(f"  failed: {name}")
    return failed


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--version", default=packages.DEFAULT_VERSION, help=f"of Flink's packages ({packages.DEFAULT_VERSION})")
    parser.add_argument("-k", default="", metavar="WORD", help="only tests whose name contains WORD")
    parser.add_argument("--keep", action="store_true", help="keep the logs and data of the run")
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()
    if options.list:
        for module, prefix in ((test_command_line, "cli"), (test_dashboard, "dashboard")):
            print("\n".join(name for name, _ in tests_of(module, prefix, options.k)))
        return 0
    home = packages.install(options.version)
    root = tempfile.mkdtemp(prefix="millrace-flink-tools-")
    try:
        return 1 if run_stage(options, home, root) else 0
    finally:
        if options.keep:
            print(f"kept: {root}")
        else:
            shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
