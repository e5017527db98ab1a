"""Hostile use of REST: malformed, oversized and slow requests, uploads, paths that lead elsewhere, idle connections. Meanwhile a job
runs and a probe asks: nothing crashes, leaks or waits, and every row of the job is there once in the end."""

import io
import json
import os
import random
import re
import resource
import time

from .cluster import BIN, RestError
from .hostile import Raw, SecureCluster, Siege, ask, errors_of, in_threads, make_certificate, one_shot

REQUESTS = int(os.environ.get("HOSTILE_REQUESTS", "10000"))
MIB = 1 << 20
ALONE = "measures how long honest requests take"


def words(rng, length):
    return rng.randbytes(rng.randrange(1, length))


def line_noise(rng):
    return bytes(rng.choice(b" \t\r\n\0:/?%&=\"'{}[]aZ09\xc0\xff") for _ in range(rng.randrange(1, 200)))


# What is sent instead of a request. Each takes a source of randomness and the id of the running job.
MALFORMED = [
    lambda rng, job: words(rng, 400),
    lambda rng, job: line_noise(rng),
    lambda rng, job: b"GET " + line_noise(rng) + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    lambda rng, job: b"GET / HTTP/%d.%d\r\n\r\n" % (rng.randrange(12), rng.randrange(12)),
    lambda rng, job: b"GET /jobs HTTP/1.1\r\n" + line_noise(rng) + b"\r\n\r\n",
    lambda rng, job: b"\x16\x03\x01" + words(rng, 300),
    lambda rng, job: b"PATCH /jobs/%s?mode=%s HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n" % (job, rng.choice([b"", b"..", b"x" * 300, b"%00"])),
    lambda rng, job: b"POST /jobs/%s/savepoints HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n{\"cancel-job\": \"maybe" % (job, rng.randrange(60)),
    lambda rng, job: b"POST /jobs/%s/stop HTTP/1.1\r\nHost: x\r\nContent-Length: 200\r\n\r\n" % job + b"[" * 200,
    lambda rng, job: b"POST /jobs/%s/checkpoints HTTP/1.1\r\nHost: x\r\nContent-Length: 24\r\n\r\n{\"checkpointType\": 77777}" % job,
    lambda rng, job: b"POST /jars/upload HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + words(rng, 200),
    lambda rng, job: b"GET /jobs/%s HTTP/1.1\r\nHost: x\r\nContent-Length: -%d\r\n\r\n" % (job, rng.randrange(1, 1 << 70)),
    lambda rng, job: b"GET /jobs/%s/vertices/%s/subtasks/%d/attempts/-1 HTTP/1.1\r\nHost: x\r\n\r\n" % (job, job, rng.randrange(1 << 70)),
    lambda rng, job: b"GET /jobs/%s/metrics?get=%s HTTP/1.1\r\nHost: x\r\n\r\n" % (job, b",".join(b"%d" % i for i in range(rng.randrange(3000)))),
    lambda rng, job: b"GET /jobs/metrics?agg=%s&jobs=%s HTTP/1.1\r\nHost: x\r\n\r\n" % (words(rng, 20).hex().encode(), b"," * 1000),
    lambda rng, job: b"GET /overview HTTP/1.0\r\n\r\n" * rng.randrange(1, 50),
    lambda rng, job: b"HEAD /jobs/%s HTTP/1.1\r\nHost: x\r\n\r\nOPTIONS * HTTP/1.1\r\nHost: x\r\n\r\nTRACE / HTTP/1.1\r\nHost: x\r\n\r\n" % job,
    lambda rng, job: b"POST /jars/x/run?" + b"programArg=a&" * rng.randrange(1000) + b" HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}",
]

OVERSIZED = [
    lambda rng, job: b"GET /" + b"a" * rng.randrange(60000, 300000) + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    lambda rng, job: b"GET /jobs HTTP/1.1\r\nX: " + b"b" * rng.randrange(60000, 300000) + b"\r\n\r\n",
    lambda rng, job: b"GET /jobs HTTP/1.1\r\n" + b"X: y\r\n" * 20000 + b"\r\n",
    lambda rng, job: b"POST /jobs/%s/stop HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (job, 1 << 30) + b" " * 100000,
    lambda rng, job: b"POST /jobs/%s/stop HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n10000\r\n" % job + b" " * 65536 +
    b"\r\nfffffff\r\n",
    lambda rng, job: b"POST /jars/x/run HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n" + b"{\"a\":" * 200000,
    lambda rng, job: b"POST /jars/x/run HTTP/1.1\r\nHost: x\r\nContent-Length: 900017\r\n\r\n{\"programArgs\": \"" + b"\\\"" * 450000,
]


def shots(siege, makers, count, seed):
    rng = random.Random(seed)
    for _ in range(count):
        one_shot(siege.port, rng.choice(makers)(rng, siege.job.encode()))


def test_malformed_requests(env):
    siege = Siege(env)

    def attack(number, count=REQUESTS // 3 + 1):
        in_threads(8, lambda thread: shots(siege, MALFORMED, count // 8 + 1, f"{env.seed} {number} {thread}"))

    attack("warm up", 1000)
    before = siege.footprint()
    siege.rounds("malformed requests", attack)
    siege.check_flat(before, 12000)
    siege.check_job()


def test_oversized_requests(env):
    siege = Siege(env)

    def attack(number):
        in_threads(4, lambda thread: shots(siege, OVERSIZED, 25, f"{env.seed} {number} {thread}"))

    attack("warm up")
    before = siege.footprint()
    siege.rounds("oversized requests", attack)
    siege.check_flat(before, 12000)
    assert ask(siege.port, "POST", f"/jobs/{siege.job}/stop", b" " * (MIB + 1))[0] == 413
    # Many keys that nobody knows, in a body that is allowed.
    keys = ",".join(f'"some.unknown.option.{i}": "x"' for i in range(20000))
    siege.rounds("unknown options", lambda _: ask(siege.port, "POST", "/jars/x/run", f'{{"flinkConfiguration": {{{keys}}}}}'.encode()))
    siege.check_job()


def drip(siege, begin, seconds):
    """A byte now and then, until the server has had enough."""
    with Raw(siege.port) as raw:
        raw.send(begin)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and raw.send(b"a"):
            time.sleep(0.2)


def test_slow_requests_and_readers(env):
    siege = Siege(env)
    begins = [b"GET /jo", b"GET /jobs HTTP/1.1\r\nHost: x\r\nX-", b"POST /jobs/x/stop HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n",
              b"POST /jars/upload HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=q\r\nContent-Length: 1000000\r\n\r\n"
              b"--q\r\nContent-Disposition: form-data; name=\"f\"; filename=\"a.jar\"\r\n\r\n"]
    readers = []

    def attack(_):
        for _ in range(40):
            raw = Raw(siege.port)
            raw.send(b"GET /jobmanager/log HTTP/1.1\r\nHost: x\r\n\r\n" * 20 + b"GET /jobmanager/config HTTP/1.1\r\nHost: x\r\n\r\n" * 200)
            readers.append(raw)
        in_threads(100, lambda i: drip(siege, begins[i % len(begins)], 2))

    attack(0)
    before = siege.footprint()
    siege.rounds("slow requests", attack)
    for raw in readers:
        raw.socket.close()
    siege.check_flat((before[0], before[1] - 40), 12000)
    siege.check_job()


def test_idle_connections(env):
    """A thousand at once, ten times over; the server answers others all the while, and forgets none that is gone."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files[1], files[1]))
    siege = Siege(env, {"rest.server.connections-max": 1500})
    before = siege.footprint()
    idle = []

    def open_all(_):
        for raw in idle:
            raw.socket.close()
        idle[:] = [Raw(siege.port) for _ in range(1000)]

    open_all(0)
    for _ in range(7):
        open_all(0)
    siege.rounds("idle connections", open_all, 2)
    # More than allowed: those that were idle for longest are closed, new ones are served.
    more = [Raw(siege.port) for _ in range(1000)]
    assert ask(siege.port, "GET", "/overview")[0] == 200
    more[-1].send(b"GET /overview HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert more[-1].rest().startswith(b"HTTP/1.1 200")
    assert idle[0].rest() == b""
    for raw in idle + more:
        raw.socket.close()
    siege.check_flat(before, 30000)
    siege.check_job()


# ---- uploads ----

def form(name, boundary=b"q"):
    return b"--%s\r\nContent-Disposition: form-data; name=\"jarfile\"; filename=\"%s\"\r\n\r\n" % (boundary, name)


def upload(port, name, data):
    body = form(name) + data + b"\r\n--q--\r\n"
    return ask(port, "POST", "/jars/upload", body, ["Content-Type: multipart/form-data; boundary=q"])


def flood(port, head, total):
    """Sends up to total bytes of body; how many the server took, and its answer."""
    block = random.Random(1).randbytes(MIB)
    with Raw(port, 60) as raw:
        raw.send(head)
        sent = 0
        while sent < total and raw.send(b"%x\r\n" % len(block) + block + b"\r\n" if b"chunked" in head else block):
            sent += len(block)
        return sent, raw.rest()


UPLOAD = b"POST /jars/upload HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=q\r\n"


def upload_directories(siege):
    """Where uploads lie: only the jobmanager knows, but it has told where one went."""
    status, body = upload(siege.port, b"where.so", b"x")
    assert status == 200, body
    path = re.search(rb'"filename":"([^"]*)"', body).group(1).decode()
    assert ask(siege.port, "DELETE", "/jars/" + os.path.basename(path))[0] == 200
    return os.path.dirname(path)


def test_uploads(env):
    siege = Siege(env)
    directory = upload_directories(siege)
    noise = random.Random(env.seed).randbytes(30 * MIB)
    before = siege.footprint()

    def announced(_):
        sent, answer = flood(siege.port, UPLOAD + b"Content-Length: %d\r\n\r\n" % (1 << 30), 1 << 30)
        assert b"413" in answer[:20] or answer == b"", answer
        assert sent < 64 * MIB, f"{sent} bytes of a gigabyte were read"

    def unannounced(_):
        sent, answer = flood(siege.port, UPLOAD + b"Transfer-Encoding: chunked\r\n\r\n7a\r\n" + form(b"big.jar").ljust(0x7a, b"x") + b"\r\n", 1 << 30)
        assert b"413" in answer[:20] or answer == b"", answer
        assert sent < 180 * MIB, f"{sent} bytes of a gigabyte were read"

    def random_bytes(_):
        status, body = upload(siege.port, b"noise.so", noise)
        assert status == 200, body
        jar = os.path.basename(re.search(rb'"filename":"([^"]*)"', body).group(1).decode())
        status, body = ask(siege.port, "POST", f"/jars/{jar}/run", b"{}")
        assert status in (400, 500) and "no shared object" in errors_of(body)[-1], body
        assert ask(siege.port, "DELETE", f"/jars/{jar}")[0] == 200
        one_shot(siege.port, UPLOAD + b"Content-Length: %d\r\n\r\n" % len(noise) + noise[:MIB])

    siege.rounds("a gigabyte that is announced", announced)
    siege.rounds("a gigabyte that is not announced", unannounced, 2)
    siege.rounds("random bytes", random_bytes)
    assert upload(siege.port, b"big.so", noise + noise)[0] == 413
    siege.cluster.wait(lambda: not [name for name in os.listdir(directory) if os.path.isfile(os.path.join(directory, name))], 10,
                       "uploads to leave no file behind")
    assert siege.cluster.get("/jars")["files"] == []
    siege.check_flat(before, 30000)
    siege.check_job()


# A shared object as far as its header goes: as many sections as there can be, each with all symbols.
def symbol_bomb():
    sections, symbols = 65000, 400000
    table = io.BytesIO()
    header = b"\x7fELF\x02\x01\x01" + bytes(9) + (3).to_bytes(2, "little") + (62).to_bytes(2, "little") + (1).to_bytes(4, "little")
    header += bytes(16) + (64).to_bytes(8, "little") + bytes(4) + b"".join(n.to_bytes(2, "little") for n in (64, 0, 0, 64, sections, 0))
    header = header[:40] + (64).to_bytes(8, "little") + header[48:]
    table.write(header.ljust(64, b"\0"))
    symbols_at = 64 + 64 * sections
    row = bytes(4) + (11).to_bytes(4, "little") + bytes(16) + symbols_at.to_bytes(8, "little") + (symbols * 24).to_bytes(8, "little") + bytes(24)
    table.write(row * sections)
    table.write((bytes(4) + b"\x12\x00\x01\x00" + bytes(16)) * symbols)
    return table.getvalue()


def test_a_program_that_is_all_symbols(env):
    siege = Siege(env)
    bomb = symbol_bomb()

    def attack(_):
        status, body = upload(siege.port, b"bomb.so", bomb)
        assert status == 200, body
        jar = os.path.basename(re.search(rb'"filename":"([^"]*)"', body).group(1).decode())
        assert ask(siege.port, "POST", f"/jars/{jar}/run", b"{}")[0] in (400, 500)
        assert ask(siege.port, "DELETE", f"/jars/{jar}")[0] == 200

    siege.rounds("a program that is all symbols", attack)
    siege.check_job()


# ---- paths ----

ROUTES = os.path.join(os.path.dirname(__file__), "..", "..", "jobmanager", "rest", "routes.def")
ELSEWHERE = ["..", ".", "...", "../canary", "..%2fcanary", "%2e%2e%2fcanary", "..%252fcanary", "%2e%2e%5ccanary", "..\\canary", "%2fetc%2fpasswd",
             "//etc/passwd", "..%c0%afcanary", "%c0%ae%c0%ae%c0%afcanary", "%00", "canary%00.log", "a%0d%0aX-Injected:%20yes", "%ff%fe",
             "'\"<script>", "%25s%25n", "x" * 3000,
             "../" * 40 + "etc/passwd", "..%2f" * 40 + "etc%2fpasswd", "-1", "99999999999999999999", "file:///etc/passwd"]


def routes():
    with open(ROUTES) as f:
        return re.findall(r'^ROUTE\((\w+),\s*"([^"]+)"', f.read(), re.M)


def is_refusal(status, path, answer):
    """As Flink refuses: with 500 what it does not know of programs, taskmanagers and their files, with 503 what it has removed, with
    empty lists unknown metrics; and it makes a log's address of any id."""
    if status in (500, 503):
        return path.startswith(("/jars/", "/taskmanagers/")) or path.endswith("/rescaling")
    if status == 200:
        return answer in (b"[]", b'{"profilingList":[]}') or path.endswith("/log-url")
    return 400 <= status < 500


def test_paths_that_lead_elsewhere(env):
    siege = Siege(env)
    cluster = siege.cluster
    directory = upload_directories(siege)
    canaries = [os.path.join(d, "canary") for d in (directory, os.path.dirname(directory), cluster.directory)]
    for path in canaries:
        with open(path, "w") as f:
            f.write("CANARY")
    vertex = cluster.job(siege.job)["vertices"][0]["id"]
    good = {"jobid": siege.job, "vertexid": vertex, "subtaskindex": "0", "attempt": "0", "checkpointid": "1", "filename": "jobmanager.log",
            "taskmanagerid": cluster.get("/taskmanagers")["taskmanagers"][0]["id"], "triggerid": siege.job, "jarid": "none.so"}
    count, wrong = 0, []
    for method, path in routes():
        for name in re.findall(r":(\w+)", path):
            for value in ELSEWHERE:
                target = re.sub(r":(\w+)", lambda m, n=name, v=value: v if m.group(1) == n else good[m.group(1)], path)
                status, answer = ask(siege.port, method, target, b"{}" if method in ("POST", "PUT", "PATCH") else b"")
                told = any(secret in answer for secret in (b"CANARY", b"root:", b"X-Injected: yes\r\n"))
                if told or not is_refusal(status, path, answer):
                    wrong.append(f"{method} {target[:300]}: {status} {answer[:200]}")
                count += 1
    assert not wrong, "\n".join(wrong)
    assert count > 1000
    for path in canaries:
        assert os.path.exists(path), f"{path} is gone"
        os.unlink(path)
    siege.check_job()


def test_savepoint_directories_are_the_users_choice(env):
    """As in Flink, a savepoint goes where the request says, with the rights of the jobmanager; what is not its own is left alone."""
    siege = Siege(env)
    cluster = siege.cluster
    precious = os.path.join(cluster.directory, "precious")
    os.makedirs(precious)
    with open(os.path.join(precious, "file"), "w") as f:
        f.write("x")
    for target in ("/proc/nowhere", "relative/../..", "/dev/null/x", "\u0000", "s3://bucket/x", "x" * 5000):
        try:
            trigger = cluster.request("POST", f"/jobs/{siege.job}/savepoints", {"target-directory": target})["request-id"]
        except Exception as err:
            assert re.match(r"4\d\d: ", str(err)), err
            continue
        path = f"/jobs/{siege.job}/savepoints/{trigger}"
        cluster.wait(lambda p=path: cluster.get(p)["status"]["id"] == "COMPLETED", 20, f"a savepoint to {target!r}")
        operation = cluster.get(path)["operation"]
        assert "failure-cause" in operation or operation["location"], operation
    # Disposal deletes savepoints, and nothing that is none.
    trigger = cluster.request("POST", "/savepoint-disposal", {"savepoint-path": precious})["request-id"]
    cluster.wait(lambda: cluster.get(f"/savepoint-disposal/{trigger}")["status"]["id"] == "COMPLETED", 20, "the disposal")
    assert "failure-cause" in cluster.get(f"/savepoint-disposal/{trigger}")["operation"]
    assert os.path.exists(os.path.join(precious, "file"))
    siege.check_job()


# ---- switches ----

def test_submitting_can_be_disabled(env):
    cluster = env.cluster(1, config={"web.submit.enable": "false", "web.cancel.enable": "false"})
    features = cluster.get("/config")["features"]
    assert features["web-submit"] is False and features["web-cancel"] is False, features
    for method, path in (("POST", "/jars/upload"), ("POST", "/jars/x/run"), ("DELETE", "/jars/x"), ("POST", "/v1/jars/x/plan")):
        status, body = ask(cluster.rest_port, method, path, b"" if method == "DELETE" else b"{}")
        assert status == 404 and errors_of(body) == [f"Not found: {path}"], body
    assert ask(cluster.rest_port, "GET", "/jars")[0] == 404
    done = cluster.flink("run", "-d", os.path.join(BIN, "ClickCountJob.so"), check=False)
    assert done.returncode != 0 and "Not found: /v1/jars/upload" in done.stdout + done.stderr, done.stderr


def test_tls_and_token(env):
    def at(name):
        return os.path.join(env.directory, name)

    make_certificate(env.directory)
    with open(at("token"), "w") as f:
        f.write("a-token-of-this-test\n")
    config = {"security.ssl.rest.enabled": "true", "security.ssl.rest.certificate": at("cert.pem"), "security.ssl.rest.private-key": at("key.pem"),
              "security.rest.token-file": at("token")}
    cluster = SecureCluster(at("cluster"), config, at("cert.pem"), "a-token-of-this-test")
    env.clusters.append(cluster)
    cluster.start(1)
    assert cluster.get("/overview")["slots-available"] == 2
    cluster.token = "another"
    try:
        cluster.request("GET", "/overview")
        raise AssertionError("a wrong token was accepted")
    except RestError as err:
        assert err.status == 401 and json.loads(err.body)["errors"] == ["Unauthorized: the bearer token is wrong."], err
    cluster.token = "a-token-of-this-test"
    trust = ["-Dsecurity.ssl.rest.enabled=true", f"-Dsecurity.ssl.rest.truststore={at('cert.pem')}"]
    token = f"-Dsecurity.rest.token-file={at('token')}"
    done = cluster.flink("list", *trust, token)
    assert "No running jobs." in done.stdout, done.stdout
    done = cluster.flink("list", *trust, check=False)
    assert done.returncode != 0 and "security.rest.token-file" in done.stdout + done.stderr, done.stderr
    done = cluster.flink("list", check=False)
    assert done.returncode != 0 and "does the server expect TLS" in done.stdout + done.stderr, done.stderr
    done = cluster.flink("list", "-Dsecurity.ssl.rest.enabled=true", token, check=False)
    assert done.returncode != 0 and "security.ssl.rest.truststore" in done.stdout + done.stderr, done.stderr
