"""Hostile use of REST, below and above what HTTP means: framing that two readers would cut apart differently, methods and bodies that no route
expects (made from the table of routes, so that a new route is covered by itself), readers that do not read, disks that are full, TLS
that never gets anywhere."""

import os
import random
import re
import resource
import socket
import ssl
import struct
import threading
import time

from .hostile import SANITIZER, Raw, SecureSiege, Siege, ask, errors_of, in_threads, make_certificate, one_shot
from .test_disk import SmallDisk
from .test_hostile import UPLOAD, form, routes, upload, upload_directories
from .test_prometheus import port_of

MIB = 1 << 20
ALONE = "measures how long honest requests take"
HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST /jobs HTTP/1.1\r\nHost: x\r\n"
NO_CHUNKS = b"0\r\n\r\n"

# Of what follows the headers, some would see a second request, others none: the connection must end after at most one answer.
AMBIGUOUS = {
    "length and chunks": POST + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n" + NO_CHUNKS + HIDDEN,
    "chunks and length": POST + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n" + NO_CHUNKS + HIDDEN,
    "two lengths": POST + b"Content-Length: 0\r\nContent-Length: %d\r\n\r\n" % len(HIDDEN) + HIDDEN,
    "the same length twice": POST + b"Content-Length: 0\r\nContent-Length: 0\r\n\r\n" + HIDDEN,
    "a list of lengths": POST + b"Content-Length: 0, 0\r\n\r\n" + HIDDEN,
    "a signed length": POST + b"Content-Length: +0\r\n\r\n" + HIDDEN,
    "a negative length": POST + b"Content-Length: -1\r\n\r\n" + HIDDEN,
    "a hexadecimal length": POST + b"Content-Length: 0x0\r\n\r\n" + HIDDEN,
    "no length": POST + b"Content-Length:\r\n\r\n" + HIDDEN,
    "a length beyond 64 bits": POST + b"Content-Length: 18446744073709551616\r\n\r\n" + HIDDEN,
    "a blank before the colon": POST + b"Transfer-Encoding : chunked\r\n\r\n" + NO_CHUNKS + HIDDEN,
    "a blank before the length's": POST + b"Content-Length : %d\r\n\r\n" % len(HIDDEN) + HIDDEN,
    "another encoding": POST + b"Transfer-Encoding: xchunked\r\n\r\n" + NO_CHUNKS + HIDDEN,
    "chunked and another": POST + b"Transfer-Encoding: chunked, identity\r\n\r\n" + NO_CHUNKS + HIDDEN,
    "another and chunked": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + NO_CHUNKS + HIDDEN,
    "two encodings": POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n" + NO_CHUNKS + HIDDEN,
    "chunks in HTTP/1.0": POST.replace(b"1.1", b"1.0") + b"Connection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n" + NO_CHUNKS + HIDDEN,
    "a folded encoding": POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n" + NO_CHUNKS + HIDDEN,
    "a folded length": POST + b"Content-Length:\r\n %d\r\n\r\n" % len(HIDDEN) + HIDDEN,
    "an encoding in a fold": POST + b"X: y\r\n Transfer-Encoding: chunked\r\n\r\n" + NO_CHUNKS + HIDDEN,
    "a field behind a carriage return": POST + b"X: a\rTransfer-Encoding: chunked\r\n\r\n" + NO_CHUNKS + HIDDEN,
    "two hosts": b"POST /jobs HTTP/1.1\r\nHost: a\r\nHost: b\r\nContent-Length: 0\r\n\r\n" + HIDDEN,
    "a chunk of -1": POST + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n" + HIDDEN,
    "a chunk of 0x5": POST + b"Transfer-Encoding: chunked\r\n\r\n0x5\r\nabcde\r\n" + NO_CHUNKS + HIDDEN,
    "a chunk beyond 64 bits": POST + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffff5\r\nabcde\r\n" + NO_CHUNKS + HIDDEN,
    "a chunk of all memory": POST + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nabcde\r\n" + NO_CHUNKS + HIDDEN,
    "a chunk that does not end": POST + b"Transfer-Encoding: chunked\r\n\r\n5\r\nabcdeXX" + NO_CHUNKS + HIDDEN,
    "a field without a colon": b"GET /jobs HTTP/1.1\r\nHost: x\r\nNoColon\r\n\r\n" + HIDDEN,
    "a field name of two words": b"GET /jobs HTTP/1.1\r\nHost: x\r\nBad Name: x\r\n\r\n" + HIDDEN,
    "HTTP/0.9": b"GET /jobs\r\n" + HIDDEN,
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + HIDDEN,
    "HTTP/1.10": b"GET /jobs HTTP/1.10\r\nHost: x\r\n\r\n" + HIDDEN,
    "a TLS hello": bytes.fromhex("16030100c8010000c40303") + bytes(200) + HIDDEN,
}

# Odd, but of one meaning: answered, and the request behind it too.
CLEAR = {
    "an extension of a chunk": POST + b"Transfer-Encoding: chunked\r\n\r\n2;a=b\r\n{}\r\n" + NO_CHUNKS + HIDDEN,
    "a trailer": POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 50\r\n\r\n" + HIDDEN,
    "a tab before the value": POST + b"Transfer-Encoding:\tchunked\r\n\r\n" + NO_CHUNKS + HIDDEN,
    "a body of a GET": b"GET /jobs HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(HIDDEN) + HIDDEN + HIDDEN,
    "an upgrade": b"GET /jobs HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n" + HIDDEN,
    "2000 ranges": b"GET /jobmanager/log HTTP/1.1\r\nHost: x\r\nRange: bytes=" + b",".join(b"%d-" % i for i in range(2000)) + b"\r\n\r\n" + HIDDEN,
}


def statuses(answer):
    return [int(status) for status in re.findall(rb"HTTP/1\.[01] (\d{3}) ", answer)]


def test_ambiguous_framing(env):
    siege = Siege(env)
    prometheus = [port_of(siege.cluster, "jobmanager"), port_of(siege.cluster, "taskmanager-0")]

    def attack(_):
        for what, words in AMBIGUOUS.items():
            for port in (siege.port, *prometheus):
                answer = one_shot(port, words)
                # libmicrohttpd writes the header of some of its own refusals twice.
                assert set(statuses(answer)) <= {400, 411, 413, 505}, f"{what}: {answer[:300]}"
                assert b"hidden" not in answer.lower(), f"{what}: a second request was seen: {answer[-300:]}"
        for what, words in CLEAR.items():
            answer = one_shot(siege.port, words)
            assert len(statuses(answer)) == 2 and b"/hidden" in answer, f"{what}: {answer[:300]}"

    siege.rounds("ambiguous framing", attack)
    siege.check_job()


# ---- every route ----

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "get", "G" * 2000, "\x7f", "GET\tX", "-"]
DEEP = 100000
BROKEN = [b"{", b"[" * DEEP, b'{"a":' * DEEP, b"{" * DEEP, b"\xff\xfe\x00", b'{"a": "\xc0\xaf"}', b'{"a": "\xed\xa0\x80"}', b'{"a": "\\ud800"}',
          b'{"a": 1e99999}', b'{"a": ' + b"9" * 100000 + b"}", b'{"a": -}', b'{"a": 01}', b'{"a": NaN}', b'{"\\u0000": 1}', b"[]", b"null", b"7",
          b'"x"', b"{} {}", b'{"a": "\n"}', b'{"a": 1,}', b"\xef\xbb\xbf{}", b'{"a": ' + b"[" * 3000 + b"]" * 3000 + b"}"]
MEMBERS = ["target-directory", "targetDirectory", "savepointPath", "savepoint-path", "cancel-job", "drain", "triggerId", "formatType", "mode",
           "checkpointType", "programArgs", "programArgsList", "entryClass", "parallelism", "jobId", "allowNonRestoredState", "restoreMode",
           "claimMode", "flinkConfiguration", "duration"]
VALUES = [b"-1", b"9223372036854775807", b"1.5", b"true", b"[]", b"{}", b"[[[[]]]]", b'{"a":{"b":{}}}', b'""', b'"\\u0000"',
          b'"' + b"x" * 9000 + b'"', b'".."', b'"%n%s"', b"null", b'"\xf0\x9f\x92\xa5"']
NOBODY = "0" * 31 + "1"


def real_parameters(siege):
    cluster = siege.cluster
    return {"jobid": siege.job, "vertexid": cluster.job(siege.job)["vertices"][0]["id"], "subtaskindex": "0", "attempt": "0", "checkpointid": "1",
            "taskmanagerid": cluster.get("/taskmanagers")["taskmanagers"][0]["id"], "triggerid": NOBODY, "jarid": "none.so",
            "filename": "jobmanager.log", "applicationid": siege.job}


def fill(path, parameters):
    return re.sub(r":(\w+)", lambda m: parameters[m.group(1)], path)


def test_bodies_of_every_route(env):
    """JSON that is none, too deep, too large or of other types: answered with what is wrong, and nothing is started by it."""
    siege = Siege(env)
    real = real_parameters(siege)
    nobody = dict(real, jobid=NOBODY, applicationid=NOBODY)
    writing = [(method, path) for method, path in routes() if method in ("POST", "PUT", "PATCH")]
    assert len(writing) >= 12, writing
    wrong = []

    def judge(what, status, answer, is_bad_body):
        # A program that is not there is told as Flink does, with 500.
        good = 400 <= status < 500 or (status in (500, 503) and ("/jars/" in what or "/rescaling" in what or "/profiler" in what))
        if not good and (is_bad_body or status not in (200, 202)):
            wrong.append(f"{what[:200]}: {status} {answer[:200]}")

    def attack(number):
        rng = random.Random(f"{env.seed} {number}")
        for method, path in writing:
            # What cancels by its mere path does so whatever the body: it is aimed at nobody.
            is_harmless = "/jobs/:jobid/" in path and "cancel" not in path
            for body in BROKEN:
                target = fill(path, real if is_harmless else nobody)
                judge(f"{method} {target} {body[:40]}", *ask(siege.port, method, target, body), True)
            for _ in range(20):
                members = b",".join(b"\"%s\": %s" % (rng.choice(MEMBERS).encode(), rng.choice(VALUES)) for _ in range(rng.randrange(1, 5)))
                target = fill(path, nobody)
                judge(f"{method} {target} {members[:60]}", *ask(siege.port, method, target, b"{" + members + b"}"), False)

    siege.rounds("bodies", attack)
    assert not wrong, "\n".join(wrong[:40])
    siege.check_job()


def test_methods_of_every_path(env):
    """Methods that a path does not have: refused, and nothing happens."""
    siege = Siege(env)
    real = real_parameters(siege)
    table = {}
    for method, path in routes():
        table.setdefault(path, set()).add(method)
    # Two rows may fit one path: parameters fit what another row names.
    fits = [(re.compile(re.sub(r":\w+", "[^/]+", path) + "$"), methods) for path, methods in table.items()]
    wrong = []

    def attack(_):
        for path in table:
            target = fill(path, real)
            has = set().union(*(methods for pattern, methods in fits if pattern.match(target)))
            for method in METHODS:
                if method in has or (method == "HEAD" and "GET" in has):
                    continue
                status, answer = ask(siege.port, method, target)
                if not 400 <= status < 600 or status in (500, 502, 503):
                    wrong.append(f"{method[:20]} {target}: {status} {answer[:200]}")

    siege.rounds("methods", attack)
    assert not wrong, "\n".join(wrong[:40])
    siege.check_job()


# ---- those who do not read, and those who leave ----

def test_readers_that_do_not_read(env):
    """Large answers that nobody takes: what they hold is bounded, whoever asks for how many."""
    siege = Siege(env)
    cluster = siege.cluster
    taskmanager = cluster.taskmanagers[0]
    large = f"GET /jobs/{siege.job} HTTP/1.1\r\nHost: x\r\n\r\n".encode() * 500
    readers = []

    def attack(_):
        for _ in range(60):
            for port, words in ((siege.port, large), (port_of(cluster, "jobmanager"), b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 2000),
                                (port_of(cluster, "taskmanager-0"), b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 2000)):
                raw = Raw(port)
                raw.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                raw.socket.setblocking(False)
                try:
                    raw.socket.send(words)
                except BlockingIOError:
                    pass
                readers.append(raw)
        time.sleep(0.3)  # the answers are made meanwhile, up to what is held

    attack("warm up")
    before = siege.footprint(), siege.footprint(taskmanager)
    siege.rounds("readers that do not read", attack)
    assert siege.footprint()[0] <= before[0][0] + (160 << 10) * (1 if SANITIZER is None else 4), "answers that nobody reads pile up"
    for raw in readers:
        raw.socket.close()
    siege.check_flat((before[0][0], before[0][1] - 60), 30000)
    siege.check_flat((before[1][0], before[1][1]), 30000, taskmanager)
    siege.check_job()


def test_greedy_pipelines(env):
    """Thousands of requests in one go, their answers read as fast as they come: the loop gets to everybody else between two of them."""
    siege = Siege(env)
    targets = [(port_of(siege.cluster, "jobmanager"), "/metrics"), (siege.port, f"/jobs/{siege.job}")]
    ends = []

    def read(index):
        port, path = targets[index % 2]
        with Raw(port) as raw:
            sender = threading.Thread(target=raw.send, args=(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode() * 20000,), daemon=True)
            sender.start()
            while time.monotonic() < ends[-1] and raw.socket.recv(MIB):
                pass
            raw.socket.shutdown(socket.SHUT_RDWR)
            sender.join()

    def attack(number):
        ends.append(time.monotonic() + 0.7)
        in_threads(1 + 3 * number, read)

    siege.rounds("greedy pipelines", attack)
    for port, path in targets:
        assert ask(port, "GET", path)[0] == 200
    siege.check_job()


# ---- uploads ----

def test_names_of_uploads(env):
    """A file's name is the stranger's; where it lies is ours."""
    siege = Siege(env)
    directory = upload_directories(siege)
    outside = [os.path.join(os.path.dirname(directory), "canary"), os.path.join(siege.cluster.directory, "canary")]
    names = [b"../canary", b"..\\\\canary", b"/etc/canary", b"....//canary", b"..%2fcanary", b"%2e%2e%2fcanary", b"a/../../canary", b"..", b".", b"",
             b"\xc0\xae\xc0\xae\xc0\xafcanary", b"x" * 5000, b"a\x00b.so", b"\xff\xfe.so", b"a;b.so", b"$(touch canary).so", b"-rf", b"C:\\\\canary",
             b"../" * 300 + b"canary", b"_x/../canary", b"canary\x7f.so"]
    for name in names:
        status, body = upload(siege.port, name, b"x")
        assert status in (200, 400, 413, 500), f"{name[:40]}: {status} {body}"
        for path in outside:
            assert not os.path.exists(path), f"{name[:40]} was written to {path}"
        for root, folders, files in os.walk(os.path.dirname(directory)):
            assert not folders or root == os.path.dirname(directory), f"{name[:40]} made {folders} in {root}"
            assert all(os.path.dirname(os.path.realpath(os.path.join(root, f))) == os.path.realpath(root) for f in files)
    for jar in siege.cluster.get("/jars")["files"]:
        assert "/" not in jar["id"] and jar["id"] not in (".", ".."), jar
        assert os.path.isfile(os.path.join(directory, jar["id"])), jar
        assert ask(siege.port, "DELETE", "/jars/" + jar["id"].encode().hex(" ").replace(" ", "%").join(["%", ""]))[0] == 200, jar
    assert siege.cluster.get("/jars")["files"] == []
    assert os.listdir(directory) == []
    siege.check_job()


def limit_files(pid, size):
    """Stands in for a full disk where no file system can be mounted: files of that process end there."""
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, before[1]))


def test_uploads_to_a_full_disk(env):
    """The disk of uploads is full: each is told so, none leaves anything, and when there is room again they are taken."""
    path = os.path.join(env.directory, "disk")
    disk = SmallDisk.make(path)
    if disk is not None:
        env.closing(disk)
    siege = Siege(env, {"web.upload.dir": path})
    directory = upload_directories(siege)
    said = "No space left on device" if disk is not None else "File too large"
    noise = random.Random(env.seed).randbytes(3 * MIB)
    if disk is None:
        limit_files(siege.cluster.jobmanager.pid, MIB)

    def send(size):
        status, body = upload(siege.port, b"large.so", noise[:size])
        # An answer in the midst of a body may be overtaken by the reset of the rest.
        assert status in (0, 500, 507) and (status == 0 or said in errors_of(body)[0]), f"{status} {body}"
        return status

    def attack(_):
        in_threads(6, lambda i: send(2 * MIB + i))
        with Raw(siege.port) as raw: # leaves in the midst of it
            raw.send(UPLOAD + b"Content-Length: %d\r\n\r\n" % (3 * MIB) + form(b"left.so") + noise[:MIB])

    attack("warm up")
    before = siege.footprint()
    siege.rounds("uploads to a full disk", attack)
    assert send(2 * MIB) != 0, "not even one upload got its answer"
    siege.cluster.wait(lambda: os.listdir(directory) == [], 10, "uploads to leave no file behind")
    siege.check_flat(before, 16000)
    if disk is not None:
        # A file's name is gone before its pages are, and one of those who left may still be being written: fill until it shows.
        def is_refused():
            disk.fill()
            status, body = upload(siege.port, b"small.so", b"x" * 5000)
            if status == 200:
                siege.cluster.request("DELETE", "/jars/" + siege.cluster.get("/jars")["files"][0]["id"])
                return False
            assert status in (500, 507) and said in errors_of(body)[0], body
            return True
        siege.cluster.wait(is_refused, 10, "uploads to a full disk to be refused")
        assert siege.cluster.get("/jars")["files"] == []
        disk.free()
    assert upload(siege.port, b"small.so", b"x" * 5000)[0] == 200
    siege.check_job()


# ---- TLS ----

def hello_bytes():
    """The first flight of a TLS client."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        context.wrap_bio(incoming, outgoing).do_handshake()
    except ssl.SSLWantReadError:
        pass
    return outgoing.read()


def test_tls_that_gets_nowhere(env):
    """Handshakes that stop at any byte, plain HTTP, noise in records, resets, clients that do not read: nobody else waits for them."""
    certificate = make_certificate(env.directory)
    siege = SecureSiege(env, certificate)
    hello = hello_bytes()
    silent = []

    context = ssl.create_default_context(cafile=certificate[0])

    def shot(rng):
        kind = rng.randrange(6)
        if kind == 0: # stops anywhere and stays
            raw = Raw(siege.port)
            raw.send(hello[:rng.randrange(len(hello) + 1)])
            silent.append(raw)
        elif kind == 1:
            one_shot(siege.port, b"GET /overview HTTP/1.1\r\nHost: x\r\n\r\n")
        elif kind == 2:
            broken = bytearray(hello)
            for _ in range(rng.randrange(1, 20)):
                broken[rng.randrange(len(broken))] = rng.randrange(256)
            one_shot(siege.port, bytes(broken) + rng.randbytes(rng.randrange(300)))
        elif kind == 3: # resets in the midst of it
            with Raw(siege.port) as raw:
                raw.send(hello)
                raw.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        else: # a whole handshake, then noise within, or no more reading
            with context.wrap_socket(socket.create_connection(("127.0.0.1", siege.port), 10), server_hostname="127.0.0.1") as tls:
                if kind == 4:
                    tls.sendall(rng.randbytes(500) + b"\r\n\r\n")
                else:
                    tls.sendall(b"GET /jobmanager/config HTTP/1.1\r\nHost: x\r\n\r\n" * 100)
                    tls.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def attack(number):
        for raw in silent:
            raw.socket.close()
        silent.clear()
        in_threads(4, lambda i: [shot(random.Random(f"{env.seed} {number} {i} {k}")) for k in range(60)])

    attack("warm up")
    before = siege.footprint()
    siege.rounds("TLS that gets nowhere", attack)
    for raw in silent:
        raw.socket.close()
    siege.check_flat((before[0], before[1] - 30), 12000)
    siege.check_job()


