"""Strangers on the ports that are not REST: RPC, data, Prometheus. What they say ranges from noise to the cluster's own protocol, spoken
well enough to get in where no secret is set. The daemons stay as they were, others are let in, and the job's rows are all there once."""

import random
import re
import socket
import struct
import time

from .hostile import SLOW_MAP, Raw, Siege, in_threads, one_shot
from .records import log_text
from .test_prometheus import port_of
from .test_strangers import data_port, frame_head, speeches
from .wire import Peer, frame, messages

ALONE = "measures how long honest requests take"
STATES = ["CREATED", "RUNNING", "FAILED", "CANCELED", "FINISHED", "INITIALIZING", "nonsense"]


def drop(port, words, resets):
    """Says some words, and is gone before an answer; with a reset, or as if it had said all."""
    try:
        with socket.create_connection(("127.0.0.1", port), 10) as s:
            if resets:
                s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            s.sendall(words)
    except (ConnectionResetError, BrokenPipeError):
        pass


def ports_of(cluster):
    return {"rpc": cluster.rpc_port, "data": data_port(cluster), "jobmanager metrics": port_of(cluster, "jobmanager"),
            "taskmanager metrics": port_of(cluster, "taskmanager-0")}


def more_speeches(seed):
    rng = random.Random(seed)
    noise = rng.randbytes(30000)
    return [*speeches(seed).values(), noise, b"GET /metrics HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 3000, b"GET /metrics\r\n", b"\r\n" * 2000,
            b"GET /" + b"../" * 500 + b"etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 30,
            b"POST /metrics HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffff\r\n" + noise[:5000],
            frame("HELLO_CLIENT", b"{" * 4000), frame("HELLO_CLIENT", b"\xff" * 4000), frame("HELLO_CLIENT", {"role": [], "nonce": {}, "proof": 1}),
            frame("HELLO_CLIENT", {"role": "x" * 3000, "nonce": "0" * 32, "proof": ""}), frame("REGISTER", {}), frame("DEPLOY", {}),
            frame("HELLO_CLIENT", {"role": "taskmanager", "nonce": "not hex", "proof": ""}), frame_head(length=0) * 500,
            frame("HELLO_CLIENT", {"role": "taskmanager", "nonce": "0" * 32, "proof": "p" * 60}) * 3]


def test_noise_on_every_port(env):
    siege = Siege(env)
    taskmanager = siege.cluster.taskmanagers[0]
    ports = ports_of(siege.cluster)

    def attack(number):
        for port in ports.values():
            words = more_speeches(f"{env.seed} {number}")
            in_threads(4, lambda i, port=port, words=words: [one_shot(port, w) for w in words[i::4]])
            in_threads(4, lambda i, port=port, words=words: [drop(port, w[:random.Random(w).randrange(1, len(w) + 1)], n % 2 == 0)
                                                             for n, w in enumerate(words * 5) if n % 4 == i])

    attack("warm up")
    before = siege.footprint(), siege.footprint(taskmanager)
    siege.rounds("noise", attack)
    siege.check_flat(before[0], 12000)
    siege.check_flat(before[1], 12000, taskmanager)
    for name in ("jobmanager metrics", "taskmanager metrics"):
        assert b"flink_" in one_shot(ports[name], b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", closes=False)
    siege.check_job()


def test_a_thousand_are_dropped(env):
    """A thousand connections to each port, dropped in the midst of what they say."""
    siege = Siege(env)
    taskmanager = siege.cluster.taskmanagers[0]
    ports = dict(ports_of(siege.cluster), rest=siege.port)
    half = {port: b"GET /metrics HTTP/1.1\r\nHost: x\r\nX-Half: " for port in ports.values()}
    half[ports["rpc"]] = half[ports["data"]] = frame_head(length=60) + b"{"
    half[siege.port] = b"POST /jars/upload HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=q\r\n" \
        b"Content-Length: 5000\r\n\r\n--q\r\nContent-Disposition: form-data; name=\"f\"; filename=\"a.so\"\r\n\r\nabc"

    def attack(number, count=340):
        for port in ports.values():
            rng = random.Random(f"{env.seed} {number} {port}")
            cuts = [rng.randrange(1, len(half[port]) + 1) for _ in range(count)]
            in_threads(4, lambda i, port=port, cuts=cuts: [drop(port, half[port][:cut], cut % 2 == 0) for cut in cuts[i::4]])

    attack("warm up")
    before = siege.footprint(), siege.footprint(taskmanager)
    siege.rounds("dropped connections", attack)
    siege.check_flat(before[0], 12000)
    siege.check_flat(before[1], 12000, taskmanager)
    assert siege.cluster.get("/jars")["files"] == []
    siege.check_job()


def test_the_silent_keep_nobody_out(env):
    """More silent connections than a port has patience with, some of them greeted: a taskmanager comes and joins, and a job whose
    tasks talk to each other starts."""
    siege = Siege(env)
    cluster = siege.cluster
    silent = [Raw(port) for port in (cluster.rpc_port, data_port(cluster)) for _ in range(400)]
    greeted = [Peer(cluster.rpc_port, "taskmanager") for _ in range(400)]
    held = [Peer(data_port(cluster), "data", job="ab" * 16, epoch=1, runner="nobody") for _ in range(100)]
    began = time.monotonic()
    cluster.add_taskmanager()
    cluster.wait(lambda: cluster.get("/overview")["taskmanagers"] == 2, 8, "a taskmanager to register among silent strangers")
    job = cluster.run("-p", "3", SLOW_MAP, "--sleep-us", "0", "--rate", "100", "--interval", "200", "--key")
    cluster.wait_running(job, 8)
    cluster.wait_checkpoint(job, 1, 8)
    assert greeted[0].is_closed_within(1), "the greeted one that waited for longest did not give way"
    cluster.flink("cancel", job)
    # Nobody may wait for ever.
    assert held[-1].is_closed_within(15 - (time.monotonic() - began)) and greeted[-1].is_closed_within(15 - (time.monotonic() - began))
    for one in silent + greeted + held:
        one.socket.close()
    log = log_text(cluster)
    assert "did not register within 10 s" in log or "closed connection" in log.lower(), log[-2000:]
    assert len([line for line in log.splitlines() if "WARN" in line]) < 100
    siege.check_job()


# ---- those who speak the protocol ----

REGISTER = {"tm": "stranger", "host": "127.0.0.1", "data_port": 1, "slots": 1, "pid": 1, "cpu_cores": 1, "memory_bytes": 1, "version": "1"}


def test_impossible_taskmanagers(env):
    """What no taskmanager can say of itself is refused, before anything is sized by it or written into the log."""
    siege = Siege(env)
    cluster = siege.cluster
    before = siege.footprint()
    forged = "x\n2026-01-01 00:00:00,000 ERROR org.apache.flink.Forged [] - forged"
    for member, values in {"slots": [-1, 0, 4294967295, 1 << 62, 65537], "data_port": [0, -1, 65536, 1 << 40], "tm": ["", "x" * 300, forged],
                           "host": ["", forged, "h" * 300], "version": [forged], "cpu_cores": [-1, 1 << 50], "memory_bytes": [-1]}.items():
        for value in values:
            with Peer(cluster.rpc_port, "taskmanager") as peer:
                peer.send("REGISTER", dict(REGISTER, **{member: value}))
                assert peer.is_closed_within(5), f"{member} {value!r} was accepted"
    for port in (cluster.rpc_port, data_port(cluster)):
        for role in ("", forged[:32], "jobmanager", "data" if port == cluster.rpc_port else "taskmanager"):
            with Peer(port, role, job=siege.job, epoch=1, runner=forged) as peer:
                assert peer.is_closed_within(5), f"the role {role!r} was accepted"
    with Peer(data_port(cluster), "data", job=siege.job, epoch=1, runner=forged) as peer:
        assert peer.is_closed_within(5), "a name of two lines was accepted"
    assert cluster.get("/overview")["taskmanagers"] == 1
    for name in ("jobmanager", "taskmanager-0"):
        assert not re.search(r"^2026-01-01 .*Forged", log_text(cluster, name), re.M), f"a line of {name}'s log is forged"
    siege.check_flat(before, 12000)
    siege.check_job()


def junk(rng, depth=0):
    kind = rng.randrange(9 if depth < 3 else 6)
    if kind < 6:
        return [None, True, rng.randrange(-1 << 63, 1 << 63), -1, "x" * rng.randrange(50), rng.random() * 10 ** rng.randrange(300)][kind]
    if kind < 8:
        names = ["execution", "operators", "numRecordsIn", "handles", "path", "operator", "subtask", "rows_in", "books", "name", "splits",
                 "size", "tag"]
        return {rng.choice(names): junk(rng, depth + 1) for _ in range(rng.randrange(8))}
    return [junk(rng, depth + 1) for _ in range(rng.randrange(8))]


def random_message(rng, members, job, executions):
    def value(name, kind):
        if name == "execution" and rng.random() < 0.7:
            return rng.choice(executions)
        if kind == "id":
            return job if rng.random() < 0.8 else "%032x" % rng.randrange(1 << 128)
        if kind == "string":
            return rng.choice([*STATES, "", "x" * 5000, "../../etc/passwd", "\u0000", "kill", "0" * 64])
        if kind == "int":
            return rng.choice([0, 1, 1, 1, 2, -1, (1 << 63) - 1, -1 << 63, rng.randrange(1 << 40)])
        if kind == "array":
            return [junk(rng) for _ in range(rng.randrange(5))]
        return {"number": lambda: rng.random(), "bool": lambda: rng.random() < 0.5, "any": lambda: junk(rng),
                "object": lambda: {"code": "CORRUPT", "message": junk(rng), "metrics": junk(rng), "cause": junk(rng)}}[kind]()
    return {name: value(name, kind) for name, kind, is_optional in members if not is_optional or rng.random() < 0.7}


def test_a_false_taskmanager(env):
    """One that registered well, and then says whatever there is to say about the job of others."""
    siege = Siege(env)
    cluster = siege.cluster
    executions = re.findall(r"\(([0-9a-f]{32}_[0-9a-f]{32}_\d+_\d+)\) switched", log_text(cluster, "taskmanager-0")) + ["none"]
    assert len(executions) > 1, "no execution in the taskmanager's log"
    kinds = [(name, kind, members) for name, (_, kind, members) in messages().items() if kind != "BINARY"]

    def attack(number):
        rng = random.Random(f"{env.seed} {number}")
        for turn in range(60):
            with Peer(cluster.rpc_port, "taskmanager") as peer:
                peer.send("REGISTER", dict(REGISTER, tm=f"stranger-{turn}", slots=1 + turn % 3))
                for _ in range(20):
                    name, kind, members = rng.choice(kinds)
                    # Saying good-bye, or what a taskmanager never says, ends the talk: mostly the others.
                    if name not in ("HEARTBEAT", "METRICS", "TASK_STATE", "CHECKPOINT_ACK", "CHECKPOINT_DECLINE", "FILE", "RUNNER_GONE", "BLOB_GET") \
                            and rng.random() < 0.9:
                        continue
                    body = frame(name, random_message(rng, members, siege.job, executions))[16:]
                    if not peer.send(name, body + b"\n\xff\x00bytes" if kind == "HEADED" else body):
                        break

    attack("warm up")
    before = siege.footprint()
    siege.rounds("a false taskmanager", attack)
    cluster.wait(lambda: cluster.get("/overview")["taskmanagers"] == 1, 10, "the false taskmanagers to be gone")
    siege.check_flat(before, 16000)
    siege.check_job()


def test_false_consumers(env):
    """Data connections for the job that is there: they reach its task runner, which gives nothing away and stays as it is."""
    siege = Siege(env)
    cluster = siege.cluster
    port = data_port(cluster)
    runner = type("Runner", (), {"pid": cluster.runners()[0]})
    kinds = ["REQUEST_CHANNEL", "BATCH", "EVENT", "CREDIT", "CHANNEL_ERROR", "HEARTBEAT", "DATA_CONNECTION"]

    def attack(number):
        rng = random.Random(f"{env.seed} {number}")
        for turn in range(100):
            epoch = rng.choice([1, 1, 1, 2, -1, 1 << 60])
            with Peer(port, "data", job=siege.job, epoch=epoch, runner=f"stranger-{turn}") as peer:
                peer.read_frame() # WELCOME
                for _ in range(rng.randrange(1, 20)):
                    if not peer.send(rng.choice(kinds), rng.randbytes(rng.choice([0, 4, 8, 16, 20, 24, 28, 32, 300]))):
                        break
                if turn % 2 == 0:
                    peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    attack("warm up")
    before = siege.footprint(runner), siege.footprint(cluster.taskmanagers[0])
    siege.rounds("false consumers", attack)
    warnings = [line for line in log_text(cluster, "taskmanager-0").splitlines() if " WARN " in line]
    assert len(warnings) < 60, f"{len(warnings)} warnings about 400 strangers"
    siege.check_flat(before[0], 12000, runner)
    siege.check_flat(before[1], 12000, cluster.taskmanagers[0])
    siege.check_job()
