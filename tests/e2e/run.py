"""Runs the end-to-end tests: real processes, a real Kafka.   python3 -m tests.e2e.run [-k WORD] [-j N] [--seed SEED] [--list]
They wait more than they work, so some run at a time; those that measure run alone, at the end."""

import os
import random
import sys

from .environment import Suite
from ..support_py import suite
from ..support_py.parallel import Runner


def main():
    parser = suite.options_parser(__doc__, jobs=(os.cpu_count() or 1) + 1)
    parser.add_argument("--seed", default=None, help="replays the random choices of an earlier run")
    options = parser.parse_args()
    tests = suite.choose(suite.find_tests("tests.e2e"), options)
    seed = options.seed or str(random.randrange(10**9))
    print(f"end-to-end tests, seed {seed}", flush=True)
    report = suite.Report()
    with suite.Directory("e2e", report, options) as root, Suite(root, seed) as shared:
        Runner(shared, options.jobs, root, report, options.keep).run(tests)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
