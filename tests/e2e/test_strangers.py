"""Strangers on every port: their connection is closed with a line in the log, and nobody else notices. And the shared secret
that keeps strangers out who speak the protocol."""

import json
import os
import random
import re
import socket
import struct
import time

from .cluster import BUILD
from .records import event, exceptions, log_text, produce, run_records, wait_rows

MISBEHAVE = os.path.join(BUILD, "tests", "programs", "misbehave.so")
MAGIC = 0x4D4C5243


def frame_head(magic=MAGIC, version=1, kind=1, length=16, crc=0):
    return struct.pack("<IHHII", magic, version, kind, length, crc)


# What strangers say. Each is meant to end with a closed connection, at the latest when the stranger stops writing.
def speeches(seed):
    rng = random.Random(seed)
    return {
        "random bytes": rng.randbytes(3000),
        "a byte": b"\x00",
        "HTTP": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        "TLS": bytes.fromhex("16030100c8010000c40303") + rng.randbytes(194),
        "a frame that is too large": frame_head(length=0xFFFFFFF0),
        "another version": frame_head(version=77) + bytes(16),
        "a wrong checksum": frame_head(crc=1) + bytes(16),
        "half a frame": frame_head(length=100) + bytes(20),
        "an unknown type": frame_head(kind=0xFFFE, length=0),
    }


def talk(port, said, closes=True, patience=3):
    """Says it; waits until the other side hangs up (after half-closing, so that half frames end too)."""
    with socket.create_connection(("127.0.0.1", port), patience) as s:
        s.settimeout(patience)
        try:
            s.sendall(said)
            if closes:
                s.shutdown(socket.SHUT_WR)
            while s.recv(4096):
                pass
        except (ConnectionResetError, BrokenPipeError):
            pass
        except TimeoutError:
            raise AssertionError(f"port {port} kept the connection of a stranger who said {said[:24]!r}") from None


def data_port(cluster):
    return cluster.get("/taskmanagers")["taskmanagers"][0]["dataPort"]


def test_on_every_port(env):
    cluster = env.cluster(1, slots=2)
    job = cluster.run(MISBEHAVE, "--how", "none")
    cluster.wait_running(job)
    ports = {"jobmanager": cluster.rpc_port, "taskmanager": data_port(cluster)}
    for words in speeches(env.seed).values():
        for port in ports.values():
            talk(port, words)
        with socket.create_connection(("127.0.0.1", cluster.rest_port), 3) as s:
            s.sendall(words)
    for name, port in ports.items():
        log = log_text(cluster, "jobmanager" if name == "jobmanager" else "taskmanager-0")
        has_line = "127.0.0.1:" in log and re.search(r"WARN .*(stranger|magic|not a|version|handshake|refus|clos)", log)
        assert has_line, f"{name}: no line about strangers in\n{log[-3000:]}"
    assert cluster.taskmanagers[0].poll() is None and cluster.jobmanager.poll() is None
    assert cluster.get("/overview")["taskmanagers"] == 1
    assert cluster.is_running(job) and cluster.get(f"/jobs/{job}/exceptions")["exceptionHistory"]["entries"] == []
    cluster.flink("cancel", job)


def test_log_is_rate_limited(env):
    cluster = env.cluster(1)
    for _ in range(300):
        talk(cluster.rpc_port, b"GET / HTTP/1.0\r\n\r\n")
    lines = [line for line in log_text(cluster).splitlines() if "WARN" in line]
    assert 1 <= len(lines) < 100, f"{len(lines)} lines for 300 strangers"


def test_silent_connections(env):
    """300 connections that say nothing to REST, and some to the other ports: other requests are answered, a job is started."""
    cluster = env.cluster(1)
    silent = [socket.create_connection(("127.0.0.1", cluster.rest_port)) for _ in range(300)]
    silent += [socket.create_connection(("127.0.0.1", port)) for port in (cluster.rpc_port, data_port(cluster)) for _ in range(50)]
    for s in silent[:100]:
        s.sendall(b"GET /over")
    started = time.monotonic()
    for _ in range(20):
        assert cluster.request("GET", "/overview")["taskmanagers"] == 1
    assert time.monotonic() - started < 5
    job = cluster.run(MISBEHAVE, "--how", "none")
    cluster.wait_running(job)
    cluster.add_taskmanager()
    cluster.wait(lambda: cluster.get("/overview")["taskmanagers"] == 2, 10, "another taskmanager")
    cluster.flink("cancel", job)
    for s in silent:
        s.close()
    cluster.wait_state(job, "CANCELED")


def test_large_and_odd_requests(env):
    """HTTP that is none of ours: answered with an error, and the next request is answered as ever."""
    cluster = env.cluster(0)
    odd = [
        b"POST /jars/upload HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999\r\n\r\n",
        b"POST /jars/upload HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data\r\nContent-Length: 4\r\n\r\nabcd",
        b"PATCH /jobs/xyz HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /" + b"a" * 100000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /jobs/%00%ff%fe HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /jobmanager/logs/..%2f..%2fetc%2fpasswd HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /jobs/" + b"0" * 32 + b"/savepoints HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n[[[",
    ]
    for words in odd:
        with socket.create_connection(("127.0.0.1", cluster.rest_port), 3) as s:
            s.settimeout(3)
            s.sendall(words)
            try:
                answer = s.recv(4096)
            except ConnectionResetError:
                answer = b""
            assert not answer or re.match(rb"HTTP/1\.1 [45]\d\d ", answer), f"{words[:60]!r}: {answer[:200]!r}"
            assert b"root:" not in answer
    assert cluster.request("GET", "/overview")["taskmanagers"] == 0


def secret_file(env, name, text, mode=0o600):
    path = os.path.join(env.directory, name)
    with open(path, "w") as f:
        f.write(text)
    os.chmod(path, mode)
    return path


def test_secret(env):
    """The right secret: everything works, data connections between two taskmanagers too. A wrong one or none: refused, and both
    sides say why; the secret itself is in nobody's log."""
    kafka = env.kafka()
    secret = secret_file(env, "secret", "open sesame\n")
    cluster = env.cluster(2, slots=1, config={"security.internal.secret-file": secret})
    produce(kafka, env.topic("in"), [event(1, key=f"k{n % 5}") for n in range(50)])
    job = run_records(cluster, kafka, "--topics", env.topic("in"), "--job", "sums", output=env.topic("out"), flink=("-p", "2"))
    wait_rows(cluster, kafka, env.topic("out"), 50)
    cluster.add_taskmanager("-D", f"security.internal.secret-file={secret_file(env, 'other', 'open barley')}")
    cluster.add_taskmanager("-D", "security.internal.secret-file=")
    for number in (2, 3):
        cluster.wait(lambda: "secret" in log_text(cluster, f"taskmanager-{number}").replace("secret-file", ""), 10,
                     f"taskmanager {number} to say that the secret is wrong")
    cluster.wait(lambda: "secret" in log_text(cluster).replace("secret-file", ""), 5, "the jobmanager to say that a secret was wrong")
    assert cluster.get("/overview")["taskmanagers"] == 2
    for port in (cluster.rpc_port, data_port(cluster)):
        talk(port, frame_head(length=0))
    assert cluster.is_running(job) and json.loads(exceptions(cluster, job))["exceptionHistory"]["entries"] == []
    everything = "".join(log_text(cluster, name) for name in ("jobmanager", *(f"taskmanager-{n}" for n in range(4))))
    assert "sesame" not in everything and "barley" not in everything
    cluster.flink("cancel", job)


def routes():
    """(method, path) of the REST API, from the table that the jobmanager is built with."""
    here = os.path.dirname(os.path.abspath(__file__))
    with open(os.path.join(here, "..", "..", "jobmanager", "rest", "routes.def")) as f:
        return re.findall(r"\(\s*(GET|POST|PATCH|PUT|DELETE)\s*,\s*\"([^\"]+)\"", f.read())


def test_every_route_with_nonsense(env):
    """Each REST route with ids that are there, are not, and are none, and bodies of all sorts: an answer each time, the job unharmed."""
    cluster = env.cluster(1, slots=1)
    job = cluster.run(MISBEHAVE, "--how", "none")
    cluster.wait_running(job)
    cluster.wait_checkpoint(job, 1)
    vertex = cluster.job(job)["vertices"][0]["id"]
    taskmanager = cluster.get("/taskmanagers")["taskmanagers"][0]["id"]
    real = {"jobid": job, "vertexid": vertex, "taskmanagerid": taskmanager, "subtaskindex": "0", "attempt": "0", "checkpointid": "1"}
    nonsense = ["0" * 32, "f" * 31, "-1", "99999999999999999999", "%F0%9F%92%A5", "a" * 3000, "..%2f..", "NaN", "%00"]
    bodies = [None, b"", b"{}", b"[]", b"null", b"{\"a\":", b"\xff\xfe", b'{"target-directory":7,"jobId":[],"savepointPath":{},"parallelism":-1}',
              b"[" * 3000, b'{"target-directory":"' + b"x" * 5000 + b'"}']
    queries = ["", "?mode=", "?mode=nonsense", "?get=" + "x" * 2000, "?subtasks=-1,9-1,a&agg=none", "?maxExceptions=-5",
               "?parallelism=0&entry-class=%00"]
    wanted = [r for r in routes() if r != ("DELETE", "/cluster") and "/yarn-" not in r[1]] # those stop things with a plain GET
    assert len(wanted) > 50, "the table of routes has another form"
    for method, pattern in wanted:
        for _ in range(12):
            keep = 0.7 if method == "GET" else 0.3
            path = re.sub(r":(\w+)", lambda m: real[m.group(1)] if m.group(1) in real and env.random.random() < keep
                          else env.random.choice(nonsense), pattern)
            if method != "GET" and job in path:
                path = path.replace(job, "0" * 31 + "1")
            path += env.random.choice(queries)
            body = env.random.choice(bodies) if method != "GET" else None
            length = f"Content-Length: {len(body)}\r\n" if body is not None else ""
            head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{length}\r\n"
            with socket.create_connection(("127.0.0.1", cluster.rest_port), 5) as s:
                s.settimeout(5)
                s.sendall(head.encode() + (body or b""))
                answer = s.recv(4096)
            assert re.match(rb"HTTP/1\.1 [2345]\d\d ", answer), f"{method} {path[:200]} {body and body[:100]}: {answer[:300]!r}"
    assert cluster.is_running(job) and cluster.get(f"/jobs/{job}/exceptions")["exceptionHistory"]["entries"] == []
    cluster.flink("cancel", job)
