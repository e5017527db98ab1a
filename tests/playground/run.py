"""make check-playground: Docker, the images, the whole walkthrough.   python3 -m tests.playground.run [--rounds N] [-k WORD]
-k takes steps, beside those that every run needs. Whatever happens, no container, volume, network, mount or daemon of it stays."""

import os
import signal
import socket
import subprocess
import sys
import time
import traceback

from . import compose, profiles, rounds, walkthrough
from .daemon import Daemon
from .images import Images
from ..support_py import suite


def steps():
    """In the order of the story; each leaves the playground as the next one expects it."""
    found = [(name, step) for module in (walkthrough, profiles, rounds) for name, step in vars(module).items() if name.startswith("step_")]
    return [suite.Test(name, step) for name, step in sorted(found, key=lambda pair: pair[1].order)]


def choose_ports():
    """The walkthrough's ports, or free ones where somebody else listens."""
    for name, port in (("REST", 8081), ("KAFKA", 9094), ("MYSQL", 3306), ("ELASTICSEARCH", 9200), ("PROMETHEUS", 9090), ("GRAFANA", 3000)):
        key = f"PLAYGROUND_{name}_PORT"
        if key in os.environ:
            continue
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                s.bind(("127.0.0.1", port))
            except OSError:
                s.bind(("127.0.0.1", 0))
                os.environ[key] = str(s.getsockname()[1])
                print(f"Port {port} is in use; this run publishes {os.environ[key]} instead.", flush=True)


def show_state():
    for command in ("docker-compose ps -a", "docker-compose logs --no-color --tail 15"):
        done = subprocess.run(command, shell=True, cwd=compose.ROOT, capture_output=True, text=True)
        print(done.stdout[-20000:], flush=True)


def clean_up():
    """Whatever a failed step left."""
    profiles_all = [f"--profile={name}" for name in profiles.NAMES]
    subprocess.run(["docker-compose", *profiles_all, "down", "-v", "--remove-orphans", "-t", "3"], cwd=compose.ROOT, capture_output=True)


def on_failure(error):
    if not isinstance(error, compose.Failure):
        traceback.print_exception(error)
    print(error, flush=True)
    show_state()
    return True


def run(options, chosen, report):
    daemon = Daemon()
    with daemon:
        # A playground that somebody uses on the same daemon is another project.
        os.environ["COMPOSE_PROJECT_NAME"] = "millrace-check"
        choose_ports()
        images = Images(daemon)
        try:
            images.provide_base()
            images.provide("kafka")
            images.forget_ours()
            suite.run_in_order(chosen, walkthrough.Story(images, options.rounds, options.seed), report, on_failure=on_failure)
        finally:
            clean_up()
            images.forget()
    leftovers = daemon.leftovers()
    report.result("nothing_is_left_behind", not leftovers, 0, text="".join(f"{line}\n" for line in leftovers))


def main():
    parser = suite.options_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=int(os.environ.get("ROUNDS", "1")), help="kills of each service (1)")
    parser.add_argument("--seed", default=os.environ.get("SEED") or str(time.time_ns()), help="of the pauses between kills")
    options = parser.parse_args()
    chosen = suite.choose(steps(), options, lambda test: test.function.is_always)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("check-playground: stopped by SIGTERM"))
    os.environ.setdefault("PLAYGROUND_RATE", "2000")
    report = suite.Report()
    print(f"playground, seed {options.seed}", flush=True)
    run(options, chosen, report)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
