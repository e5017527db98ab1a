"""The Docker daemon that the check uses: a running one, or one of its own, started by hand and removed without a trace.
   python3 -m tests.playground.daemon    only tells whether there can be one here (exit code 0)"""

import ctypes
import fcntl
import os
import shutil
import signal
import subprocess
import tempfile
import time

from ..support_py.packages import CACHE

PR_SET_PDEATHSIG = 1


def run(*command, **options):
    return subprocess.run(command, capture_output=True, text=True, **options)


def default_mtu():
    """The MTU on the way out: containers behind a larger one lose the large packets."""
    route = run("ip", "-o", "route", "get", "192.0.2.1").stdout.split()
    if "dev" not in route:
        return 1500
    with open(f"/sys/class/net/{route[route.index('dev') + 1]}/mtu") as f:
        return int(f.read())


def firewall():
    """All rules of the tables that Docker writes to, as lines of `iptables -S`."""
    return {table: run("iptables", "-t", table, "-S").stdout.splitlines() for table in ("nat", "filter")}


def restore_firewall(before):
    """Takes away what was not there before: the rules first, then the chains, which are empty then; last the policies."""
    for table, lines in firewall().items():
        new = [line for line in lines if line not in before[table]]
        for line in new:
            if line.startswith("-A "):
                subprocess.run(f"iptables -t {table} -D {line[3:]}", shell=True, capture_output=True)
        for line in new:
            if line.startswith("-N "):
                run("iptables", "-t", table, "-F", line[3:])
        for line in new:
            if line.startswith("-N "):
                run("iptables", "-t", table, "-X", line[3:])
        for line in before[table]:
            if line.startswith("-P ") and line not in lines:
                run("iptables", "-t", table, *line.split())


def mounts_below(*directories):
    with open("/proc/mounts") as f:
        points = [line.split()[1].replace("\\040", " ") for line in f]
    return [point for point in points if any(point.startswith(d + "/") for d in directories)]


class Daemon:
    """Use as a context. `is_own` tells whether it was started here; then DOCKER_HOST of this process names its socket."""

    def __init__(self):
        self.is_own = False
        self.process = None

    def __enter__(self):
        if run("docker", "info").returncode == 0:
            print("Using the Docker daemon that runs.", flush=True)
            return self
        if os.geteuid() != 0:
            raise SystemExit("check-playground: no Docker daemon runs, and only root can start one; start Docker, or run this as root")
        self.is_own = True
        self.root = os.path.join(CACHE, "docker")
        os.makedirs(self.root, exist_ok=True)
        self.lock = open(os.path.join(CACHE, "docker.lock"), "w")
        fcntl.flock(self.lock, fcntl.LOCK_EX)
        self.directory = tempfile.mkdtemp(prefix="millrace-playground.", dir="/tmp")
        self.firewall_before = firewall()
        self.links_before = set(os.listdir("/sys/class/net"))
        with open("/proc/sys/net/ipv4/ip_forward") as f:
            self.forwarding_before = f.read()
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _start(self):
        socket = f"unix://{self.directory}/docker.sock"
        self.log = os.path.join(self.directory, "dockerd.log")
        libc = ctypes.CDLL(None)
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(
                ["dockerd", "--mtu", str(default_mtu()), "--data-root", self.root, "--exec-root", f"{self.directory}/exec",
                 "--pidfile", f"{self.directory}/docker.pid", "-H", socket, "--shutdown-timeout", "5"],
                stdout=log, stderr=log, preexec_fn=lambda: libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM))
        os.environ["DOCKER_HOST"] = socket
        deadline = time.monotonic() + 60
        while run("docker", "info").returncode != 0:
            if self.process.poll() is not None or time.monotonic() > deadline:
                with open(self.log) as f:
                    raise SystemExit("check-playground: dockerd does not start:\n" + "".join(f.readlines()[-15:]))
            time.sleep(0.2)
        # What an earlier run that was killed may have left in the cache; images stay.
        containers = run("docker", "ps", "-aq").stdout.split()
        if containers:
            run("docker", "rm", "-f", "-v", *containers)
        run("docker", "network", "prune", "-f")
        volumes = run("docker", "volume", "ls", "-q").stdout.split()
        if volumes:
            run("docker", "volume", "rm", *volumes)
        print(f"Started a Docker daemon (pid {self.process.pid}).", flush=True)

    def __exit__(self, *_):
        if not self.is_own:
            return
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        for point in sorted(mounts_below(self.root, self.directory), key=len, reverse=True):
            run("umount", "-l", point)
        for link in set(os.listdir("/sys/class/net")) - self.links_before:
            if link == "docker0" or link.startswith(("br-", "veth")):
                run("ip", "link", "delete", link)
        restore_firewall(self.firewall_before)
        with open("/proc/sys/net/ipv4/ip_forward", "w") as f:
            f.write(self.forwarding_before)
        shutil.rmtree(self.directory, ignore_errors=True)
        self.lock.close()

    def leftovers(self):
        """After the exit: what should not be there."""
        if not self.is_own:
            return []
        links = set(os.listdir("/sys/class/net")) - self.links_before
        found = [f"mounted: {point}" for point in mounts_below(self.root, self.directory)]
        found += [f"network interface {link}" for link in links if link == "docker0" or link.startswith(("br-", "veth"))]
        for table, lines in firewall().items():
            found += [f"iptables {table}: {line}" for line in lines if line not in self.firewall_before[table]]
        if os.path.exists(self.directory):
            found.append(f"directory {self.directory}")
        return found


if __name__ == "__main__":
    with Daemon():
        print("A Docker daemon runs here.")
