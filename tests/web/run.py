"""Runs the tests of the web page: real processes, a real browser.   python3 -m tests.web.run [-k WORD] [-j N] [--list] [--keep]
What each test has seen lies in $BUILD/web as PNG."""

import os
import sys

from .environment import SCREENSHOTS, Suite
from ..support_py import suite
from ..support_py.parallel import Runner


def main():
    options = suite.options_parser(__doc__, jobs=os.cpu_count() or 1).parse_args()
    tests = suite.choose(suite.find_tests("tests.web"), options)
    report = suite.Report()
    with suite.Directory("web", report, options) as root, Suite(root) as shared:
        Runner(shared, options.jobs, root, report, options.keep).run(tests)
    print(f"screenshots are in {SCREENSHOTS}")
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
