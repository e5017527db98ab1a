"""What the Click Event Count tests share: running the generator and checking the results of the job."""

import json
import os
import subprocess

from .cluster import BIN

PAGES = {"/help", "/index", "/shop", "/jobs", "/about", "/news"}
EVENTS_PER_WINDOW = 6000


class Generator:
    def __init__(self, kafka, topic, rate, count=0, partitions=2, out_of_orderness=0, resume=False):
        args = ["--bootstrap.servers", kafka.bootstrap, "--topic", topic, "--rate", str(rate), "--count", str(count),
                "--partitions", str(partitions), "--out-of-orderness", str(out_of_orderness)]
        self.process = subprocess.Popen([os.path.join(BIN, "clickevent-generator"), *args, *(["--resume"] if resume else [])],
                                        stderr=subprocess.DEVNULL)

    def wait(self, timeout=120):
        if self.process.wait(timeout) != 0:
            raise AssertionError(f"the generator ended with {self.process.returncode}")

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(20)


def results(kafka, topic, isolation="read_committed"):
    """{(windowStart, page): [count, count of a repetition, …]}"""
    found = {}
    for _, _, text in kafka.read(topic, isolation):
        row = json.loads(text)
        if set(row) != {"windowStart", "windowEnd", "page", "count"} or row["page"] not in PAGES:
            raise AssertionError(f"unexpected result {text}")
        found.setdefault((row["windowStart"], row["page"]), []).append(row["count"])
    return found


def complete_windows(found):
    starts = {}
    for start, page in found:
        starts.setdefault(start, set()).add(page)
    return {start for start, pages in starts.items() if pages == PAGES}


def check_results(found, windows, exactly_once=False, expected=1000):
    """Every page of the first `windows` windows has the expected count; repetitions are identical, or there are none."""
    complete = complete_windows(found)
    if len(complete) < windows:
        raise AssertionError(f"{len(complete)} complete windows, expected {windows}: {sorted(complete)}")
    for key, counts in found.items():
        if any(count != expected for count in counts):
            raise AssertionError(f"window {key} counted {counts}, expected {expected}")
        if exactly_once and len(counts) != 1:
            raise AssertionError(f"window {key} came {len(counts)} times under exactly-once")
