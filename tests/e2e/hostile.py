"""What the hostile tests share: a probe that measures how fast honest requests are answered meanwhile, in a process of its own,
and raw HTTP for requests that no HTTP library would send."""

import http.client
import json
import multiprocessing
import os
import socket
import ssl
import subprocess
import threading
import time
import urllib.error
import urllib.request

from .cluster import BIN, BUILD, Cluster, RestError

SLOW_MAP = os.path.join(BUILD, "tests", "programs", "slow_map.so")
HOST = "127.0.0.1"


def sanitizer():
    """What the daemons are built with: address, thread or None."""
    path = os.path.join(BIN, "jobmanager")
    if not os.path.exists(path):  # nothing is built yet, and the tests are only listed
        return None
    with open(path, "rb") as f:
        program = f.read()
    return "address" if b"__asan_init" in program else "thread" if b"__tsan_init" in program else None


# How long an honest request may take beside an attack. 50 ms is what a quiet machine gives (HONEST_MS=50 asks for it); one that others slow down
# stands still for longer by itself, and what these tests are to find, a loop that waits or works for one of many, takes seconds.
# What the limits are worth on a sanitized build. Time: instrumented code takes so many times longer, and the loop with it (what it waits for is
# the same). Memory: AddressSanitizer keeps what was freed in a quarantine (made small here, so that a leak still shows; LeakSanitizer tells
# of each at the daemon's end besides) and pads every block; ThreadSanitizer has up to ten bytes of its own for each of the program's, and
# never gives pages back.
SANITIZER = sanitizer()
LIMIT_MS = int(os.environ.get("HONEST_MS", 400)) * {None: 1, "address": 5, "thread": 10}[SANITIZER]
QUARANTINE_MIB = 32
RSS_FACTOR = {None: 1, "address": 3, "thread": 10}[SANITIZER]
RSS_BASE_KIB = {None: 0, "address": 2 * QUARANTINE_MIB << 10, "thread": 64 << 10}[SANITIZER]
if SANITIZER == "address":
    os.environ["ASAN_OPTIONS"] = ":".join(filter(None, [os.environ.get("ASAN_OPTIONS"), f"quarantine_size_mb={QUARANTINE_MIB}",
                                                        "thread_local_quarantine_size_kb=64", "allocator_release_to_os_interval_ms=100"]))
if SANITIZER == "thread":
    suppressions = os.path.join(os.path.dirname(__file__), "..", "support", "tsan.supp")
    os.environ["TSAN_OPTIONS"] = " ".join(filter(None, [os.environ.get("TSAN_OPTIONS"), f"suppressions={os.path.abspath(suppressions)}"]))


def waited_for_cpu_ms(pid):
    """How long the first thread of a process has been ready to run without a processor (proc(5), schedstat)."""
    try:
        with open(f"/proc/{pid}/task/{pid}/schedstat") as f:
            return int(f.read().split()[1]) / 1e6
    except OSError:
        return 0.0


def _probe(dial, headers, server_pid, paths, pipe):
    """Asks every few milliseconds until told to stop, by turns over a kept connection and a new one. Each round that is asked for
    (a message) sends the latencies since the last one and what went wrong. What both sides waited for a processor is taken off: it
    is the machine's, and says nothing about the server."""
    kept = dial()
    latencies, failures, turn = [], [], 0
    while True:
        if pipe.poll(0.004):
            message = pipe.recv()
            pipe.send((latencies, failures))
            latencies, failures = [], []
            if message == "stop":
                return
        turn += 1
        connection = kept if turn % 2 else dial()
        waited_ms = waited_for_cpu_ms(server_pid) + waited_for_cpu_ms(os.getpid())
        began = time.monotonic()
        try:
            connection.request("GET", paths[turn % len(paths)], headers=headers)
            answer = connection.getresponse()
            answer.read()
            if answer.status != 200:
                failures.append(f"{paths[turn % len(paths)]}: {answer.status}")
        except (OSError, http.client.HTTPException) as err:
            failures.append(f"{paths[turn % len(paths)]}: {err!r}")
            connection.close()
        passed_ms = (time.monotonic() - began) * 1000
        latencies.append(passed_ms - (waited_for_cpu_ms(server_pid) + waited_for_cpu_ms(os.getpid()) - waited_ms))
        if connection is not kept:
            connection.close()


class Siege:
    """A cluster with a running job whose rows are counted, and the probe beside it."""

    def __init__(self, env, config=None):
        self.begin(env, env.cluster(1, slots=2, config=config))

    def dial(self):
        return http.client.HTTPConnection(HOST, self.port, timeout=10)

    def begin(self, env, cluster, headers=None):
        self.cluster = cluster
        self.port = self.cluster.rest_port
        self.output = os.path.join(self.cluster.directory, "output")
        self.job = self.cluster.run("-p", "1", SLOW_MAP, "--sleep-us", "0", "--rate", "2000", "--interval", "500", "--output", self.output)
        self.cluster.wait_running(self.job)
        self.cluster.wait_checkpoint(self.job, 1)
        self.pipe, other = multiprocessing.Pipe()
        paths = ["/overview", f"/jobs/{self.job}/status", "/jobs/overview", f"/jobs/{self.job}"]
        self.process = multiprocessing.Process(target=_probe, args=(self.dial, headers or {}, self.cluster.jobmanager.pid, paths, other), daemon=True)
        self.process.start()
        env.closing(self)

    def stop(self):
        self.process.kill()
        self.process.join()

    def measure(self):
        """Latencies since the last call."""
        self.pipe.send("round")
        latencies, failures = self.pipe.recv()
        assert not failures, f"{len(failures)} honest requests failed: {failures[:3]}"
        return latencies

    def rounds(self, what, attack, count=3):
        """Attacks in rounds. All honest requests are fast in at least one of them: what is slow in each is the server, what is slow in
        one may be the machine."""
        seen = []
        for number in range(count):
            self.measure()
            attack(number)
            latencies, deadline = [], time.monotonic() + 10
            while len(latencies) < 5:  # a round may be short, and the machine busy
                assert time.monotonic() < deadline, f"{what}: only {len(latencies)} honest requests in round {number}"
                time.sleep(0.1)
                latencies += self.measure()
            seen.append(max(latencies))
        assert min(seen) <= LIMIT_MS, f"{what}: the slowest honest request of each round took {[round(x) for x in seen]} ms"

    def footprint(self, process=None):
        """Resident KiB and descriptors of the jobmanager, or of another daemon."""
        pid = (process or self.cluster.jobmanager).pid
        with open(f"/proc/{pid}/status") as f:
            rss = next(int(line.split()[1]) for line in f if line.startswith("VmRSS"))
        return rss, len(os.listdir(f"/proc/{pid}/fd"))

    def check_flat(self, before, rss_kib, process=None):
        """Descriptors come back, memory nearly so."""
        wanted = before[1] + 8
        self.cluster.wait(lambda: self.footprint(process)[1] <= wanted, 15, f"descriptors to be {before[1]} again")
        after = self.footprint(process)[0]
        assert after <= before[0] + RSS_BASE_KIB + rss_kib * RSS_FACTOR, f"{before[0]} KiB before, {after} KiB after"

    def check_job(self):
        """The job never noticed, and each of its rows is there once."""
        assert self.cluster.is_running(self.job)
        assert self.cluster.get(f"/jobs/{self.job}/exceptions")["exceptionHistory"]["entries"] == []
        self.cluster.flink("stop", "--drain", self.job)
        self.cluster.wait_state(self.job, "FINISHED", 30)
        ids = []
        for name in os.listdir(self.output):
            if not name.startswith("."):
                with open(os.path.join(self.output, name)) as f:
                    ids += [int(line.split(",")[0]) for line in f if line.strip()]
        assert sorted(ids) == list(range(len(ids))) and ids, f"{len(ids)} rows, {len(set(ids))} different ones, up to {max(ids, default=0)}"


class SecureCluster(Cluster):
    """A cluster whose REST speaks TLS and asks for a token."""

    def __init__(self, directory, config, certificate, token):
        super().__init__(directory, 2, config)
        self.context = ssl.create_default_context(cafile=certificate)
        self.token = token

    def request(self, method, path, body=None, timeout=10):
        data = json.dumps(body).encode() if body is not None else None
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        request = urllib.request.Request(f"https://{HOST}:{self.rest_port}{path}", data=data, method=method, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=timeout, context=self.context) as answer:
                return json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as err:
            raise RestError(err.code, err.read().decode(errors="replace")) from None


def make_certificate(directory):
    """PEM files (certificate, key) of a server on loopback that signed itself."""
    certificate, key = os.path.join(directory, "cert.pem"), os.path.join(directory, "key.pem")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-keyout", key,
                    "-out", certificate, "-subj", "/CN=jobmanager", "-addext", "subjectAltName=IP:127.0.0.1"], check=True, capture_output=True)
    return certificate, key


class TrustedCluster(SecureCluster):
    """One whose command line knows whom to trust, and the token."""

    def __init__(self, directory, certificate, token_file):
        with open(token_file) as f:
            token = f.read().strip()
        super().__init__(directory, {"security.ssl.rest.enabled": "true", "security.ssl.rest.certificate": certificate[0],
                                     "security.ssl.rest.private-key": certificate[1], "security.rest.token-file": token_file},
                         certificate[0], token)
        self.options = ["-Dsecurity.ssl.rest.enabled=true", f"-Dsecurity.ssl.rest.truststore={certificate[0]}",
                        f"-Dsecurity.rest.token-file={token_file}"]

    def flink(self, *args, check=True, timeout=60):
        return super().flink(args[0], *self.options, *args[1:], check=check, timeout=timeout)


class SecureSiege(Siege):
    """The same over TLS, with a token."""

    def __init__(self, env, certificate):
        token_file = os.path.join(env.directory, "token")
        with open(token_file, "w") as f:
            f.write("a-token-of-this-test\n")
        os.chmod(token_file, 0o600)
        cluster = TrustedCluster(os.path.join(env.directory, "cluster"), certificate, token_file)
        env.clusters.append(cluster)
        self.begin(env, cluster.start(1), {"Authorization": f"Bearer {cluster.token}"})

    def dial(self):
        return http.client.HTTPSConnection(HOST, self.port, timeout=10, context=self.cluster.context)


class Raw:
    """A TCP connection that says what it likes."""

    def __init__(self, port, timeout=10):
        self.socket = socket.create_connection((HOST, port), timeout)
        self.socket.settimeout(timeout)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, data):
        """False when the server does not listen any more."""
        try:
            self.socket.sendall(data)
            return True
        except (ConnectionResetError, BrokenPipeError):
            return False

    def rest(self, limit=1 << 20):
        """All that comes until the server closes, or limit bytes."""
        data = b""
        try:
            while len(data) < limit:
                piece = self.socket.recv(65536)
                if not piece:
                    break
                data += piece
        except ConnectionResetError:
            pass
        return data


def one_shot(port, data, closes=True, timeout=10):
    """Says it and hears what comes back until the end."""
    with Raw(port, timeout) as raw:
        raw.send(data)
        if closes:
            try:
                raw.socket.shutdown(socket.SHUT_WR)
            except OSError:
                pass
        return raw.rest()


def ask(port, method, target, body=b"", headers=()):
    """Status and body of a request whose target is sent as it is."""
    lines = [f"{method} {target} HTTP/1.1", "Host: x", "Connection: close", *headers]
    if body or method in ("POST", "PUT", "PATCH"):
        lines.append(f"Content-Length: {len(body)}")
    answer = one_shot(port, "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body, closes=False)
    head, _, rest = answer.partition(b"\r\n\r\n")
    return int(head.split(b" ", 2)[1]) if head.startswith(b"HTTP/") else 0, rest


def in_threads(count, work):
    """work(index) in each thread; the first error is raised."""
    errors = []

    def run(index):
        try:
            work(index)
        except BaseException as err:  # told below, by the test's own thread
            errors.append(err)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def errors_of(body):
    return json.loads(body)["errors"]
