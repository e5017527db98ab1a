"""make check-playground: Docker, the images, the whole walkthrough.   python3 -m tests.playground.run [--rounds N] [-k WORD]
Ends with `N passed, N failed`; whatever happens, no container, volume, network, mount or daemon of it stays."""

import argparse
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


def steps(arguments):
    """(name, function) in the order of the story; each leaves the playground as the next one expects it."""
    found = []
    for module in (walkthrough, profiles, rounds):
        found += [(name, step) for name, step in vars(module).items() if name.startswith("step_")]
    story = sorted(found, key=lambda pair: pair[1].order)
    return [(name, step) for name, step in story if step.is_always or any(word in name for word in arguments.words or [""])]


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


def tell_story(arguments, images):
    passed = failed = 0
    story = walkthrough.Story(images, arguments.rounds, arguments.seed)
    for name, step in steps(arguments):
        title = step.__doc__.strip().splitlines()[0]
        print(f"  {title}", flush=True)
        start = time.monotonic()
        try:
            step(story)
        except Exception as err:
            failed += 1
            print(f"FAILED {name} ({time.monotonic() - start:.1f} s)", flush=True)
            if not isinstance(err, compose.Failure):
                traceback.print_exc()
            print(err, flush=True)
            show_state()
            break
        passed += 1
        print(f"ok     {name} ({time.monotonic() - start:.1f} s)", flush=True)
    return passed, failed


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=int(os.environ.get("ROUNDS", "1")), help="kills of each service (1)")
    parser.add_argument("--seed", default=os.environ.get("SEED") or str(time.time_ns()), help="of the pauses between kills")
    parser.add_argument("-k", action="append", dest="words", metavar="WORD", help="only these steps and those that every run needs")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("check-playground: stopped by SIGTERM"))
    os.environ.setdefault("PLAYGROUND_RATE", "2000")
    start = time.monotonic()
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
            passed, failed = tell_story(arguments, images)
        finally:
            clean_up()
            images.forget()
    leftovers = daemon.leftovers()
    if leftovers:
        failed += 1
        print("FAILED left behind: " + "; ".join(leftovers))
    else:
        passed += 1
        print("ok     nothing is left running or mounted")
    print(f"Seed {arguments.seed}, {time.monotonic() - start:.0f} s.")
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
