"""make check-flink-tools: Flink's command line and dashboard against our cluster.

    python3 -m tests.flink_tools.run [--version 1.20.1] [-k WORD] [--keep] [--list]

Fetches Flink's packages once (MILLRACE_TEST_CACHE), starts a broker, a jobmanager and a taskmanager on free ports, and leaves nothing
but screenshots below $BUILD/flink-tools/<version>."""
import os
import shutil
import sys

from . import packages, test_command_line, test_dashboard
from .stage import Stage
from ..e2e.cluster import BUILD
from ..support_py import suite
from ..support_py.logs import find_reports, show_logs


def run_stage(options, tests, root, report):
    shots = os.path.join(BUILD, "flink-tools", options.version)
    shutil.rmtree(shots, ignore_errors=True)
    os.makedirs(shots)
    stage = Stage(root, os.path.join(packages.install(options.version), "web"))
    dashboard = None
    try:
        cli, pages = ([test for test in tests if test.name.startswith(prefix)] for prefix in ("cli_", "dashboard_"))
        if cli:
            client = packages.JavaClient(options.version, os.path.join(root, "client"), stage.cluster.rest_port)
            suite.run_in_order(cli, test_command_line.Context(stage, client), report, stage.check_alive)
        if pages:
            dashboard = test_dashboard.Context(stage, options.version, shots)
            suite.run_in_order(pages, dashboard, report, stage.check_alive)
            print(f"screenshots: {shots}")
    finally:
        if dashboard is not None:
            dashboard.close()
        problem = stage.close()
    problem = problem or find_reports(root)
    report.result("the_end_of_the_cluster", problem is None, 0, text=f"{problem}\n" if problem else "")
    if report.failed and not sys.stdout.isatty():
        show_logs(os.path.join(root, "cluster"))
        show_logs(os.path.join(root, "log"))


def main():
    parser = suite.options_parser(__doc__)
    parser.add_argument("--version", default=packages.DEFAULT_VERSION, help=f"of Flink's packages ({packages.DEFAULT_VERSION})")
    options = parser.parse_args()
    tests = suite.choose(suite.tests_of(test_command_line, "cli") + suite.tests_of(test_dashboard, "dashboard"), options)
    report = suite.Report()
    with suite.Directory("flink-tools", report, options) as root:
        run_stage(options, tests, root, report)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
