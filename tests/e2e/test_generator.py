"""The click generator: whatever kills it, and whatever happens to its broker, its topic has every click once and in order."""

import json
import os
import re
import subprocess
import time

from .cluster import BIN
from .kafka import Kafka
from ..support_py.suite import takes

COUNT = 30000
PARTITIONS = 2


def start(kafka, topic, *more):
    return subprocess.Popen([os.path.join(BIN, "clickevent-generator"), "--bootstrap.servers", kafka.bootstrap, "--topic", topic, "--rate", "0",
                             "--count", str(COUNT), "--partitions", str(PARTITIONS), "--resume", "--max-skew", "150", *more],
                            stderr=subprocess.PIPE, text=True)


def ends(kafka, topic):
    """End offsets of the partitions, asked for: reading up to the end has no end while somebody writes."""
    queries = [word for p in range(PARTITIONS) for word in ("-t", f"{topic}:{p}:-1")]
    done = subprocess.run(["kcat", "-b", kafka.bootstrap, "-Q", *queries], capture_output=True, text=True, timeout=60)
    found = dict(re.findall(r"\[(\d+)\] offset (\d+)", done.stdout))
    return [int(found.get(str(p), 0)) for p in range(PARTITIONS)]


def check_clicks(kafka, topic):
    """Page n mod 6 at 15 ms times n / 6, in each partition in the order of n, all of them once."""
    pages = ["/help", "/index", "/shop", "/jobs", "/about", "/news"]
    seen = []
    newest = [-1] * PARTITIONS
    for partition, _, text in kafka.read(topic):
        click = json.loads(text)
        clock = click["timestamp"].split()[1].split(":")
        time_ms = ((int(clock[0]) * 60 + int(clock[1])) * 60 + int(clock[2])) * 1000 + int(clock[3])
        number = time_ms // 15 * 6 + pages.index(click["page"])
        if number <= newest[partition]:
            raise AssertionError(f"click {number} of partition {partition} comes behind click {newest[partition]}")
        newest[partition] = number
        seen.append(number)
    if sorted(seen) != list(range(COUNT)):
        raise AssertionError(f"{len(seen)} clicks, {len(set(seen))} of them different, expected {COUNT}")


def finish(generator):
    _, text = generator.communicate(timeout=60)
    if generator.returncode != 0:
        raise AssertionError(f"the generator ended with {generator.returncode}: {text}")
    return text


@takes(60)
def test_generator_kills(env):
    """kill -9 at random moments, and the broker's too."""
    kafka = env.closing(Kafka(os.path.join(env.directory, "kafka")).start())
    topic = env.topic("input")
    for victim in ("generator", "generator", "broker", "generator"):
        before = sum(ends(kafka, topic))
        generator = start(kafka, topic, "--rate", "1000")
        deadline = time.monotonic() + 30
        while sum(ends(kafka, topic)) == before and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(env.random.uniform(0, 0.3))
        if victim == "broker":
            kafka.kill()
            time.sleep(env.random.uniform(0, 1))
            kafka.start()
            while sum(ends(kafka, topic)) == before and time.monotonic() < deadline:
                time.sleep(0.05)
        generator.kill()
        _, text = generator.communicate()
        if sum(ends(kafka, topic)) == before:
            raise AssertionError(f"the generator wrote nothing behind {before} events before it was killed with its {victim}: {text}")
    finish(start(kafka, topic))
    check_clicks(kafka, topic)
    text = finish(start(kafka, topic))
    if f"going on behind {COUNT} events" not in text:
        raise AssertionError(f"a finished topic is not recognised: {text}")
    check_clicks(kafka, topic)


def test_generator_stranger(env):
    """A second writer is noticed, and so is a topic with other partitions; both are told with what to do."""
    kafka = env.kafka()
    topic = env.topic("input")
    generator = start(kafka, topic, "--rate", "500")
    deadline = time.monotonic() + 30
    while sum(ends(kafka, topic)) == 0 and time.monotonic() < deadline:
        time.sleep(0.05)
    for partition in range(PARTITIONS):
        subprocess.run(["kcat", "-b", kafka.bootstrap, "-t", topic, "-p", str(partition), "-P"], input="stranger\n", text=True, check=True)
    _, text = generator.communicate(timeout=30)
    if generator.returncode == 0 or "somebody else writes to this topic" not in text:
        raise AssertionError(f"the generator ended with {generator.returncode}: {text}")
    generator = start(kafka, topic, "--partitions", "3")
    _, text = generator.communicate(timeout=30)
    if generator.returncode == 0 or "has 2 partitions, but --partitions says 3" not in text:
        raise AssertionError(f"the generator ended with {generator.returncode}: {text}")
