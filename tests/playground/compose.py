"""The playground as a person at a terminal sees it: commands typed word for word, what they print, the REST answers, the topics."""

import calendar
import errno
import json
import os
import pty
import re
import select
import signal
import subprocess
import time
import urllib.error
import urllib.request

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PAGES = {"/help", "/index", "/shop", "/jobs", "/about", "/news"}
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>]|\x00")


class Failure(AssertionError):
    pass


def typed(command, timeout=120, check=True):
    """Types a command into a shell in the repository's root, with a terminal around it. What it printed, as plain lines."""
    print(f"    $ {command}", flush=True)
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(ROOT)
        os.environ["COLUMNS"] = "300"
        os.execvp("bash", ["bash", "-c", command])
    output = b""
    deadline = time.monotonic() + timeout
    try:
        while True:
            ready, _, _ = select.select([terminal], [], [], max(0, deadline - time.monotonic()))
            if not ready:
                os.kill(pid, signal.SIGKILL)
                raise Failure(f"{command}\ndid not end within {timeout} s:\n{output.decode(errors='replace')[-3000:]}")
            try:
                chunk = os.read(terminal, 65536)
            except OSError as err:
                if err.errno != errno.EIO:
                    raise
                break
            if not chunk:
                break
            output += chunk
    finally:
        os.close(terminal)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    text = ESCAPES.sub("", output.decode(errors="replace")).replace("\r\n", "\n").replace("\r", "\n")
    if check and status != 0:
        raise Failure(f"{command}\nended with {status}:\n{text[-4000:]}")
    return text


def rest_port():
    return int(os.environ.get("PLAYGROUND_REST_PORT", "8081"))


def rest(path, body=None):
    request = urllib.request.Request(f"http://localhost:{rest_port()}{path}", data=body)
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.loads(answer.read())


def wait(condition, timeout, what):
    """Polls until the condition gives something true, and returns that."""
    deadline = time.monotonic() + timeout
    problem = None
    while time.monotonic() < deadline:
        try:
            found = condition()
            if found:
                return found
            problem = None
        except (urllib.error.URLError, OSError, Failure) as err:
            problem = err
        time.sleep(0.25)
    raise Failure(f"waited {timeout} s in vain for {what}" + (f" ({problem})" if problem else ""))


def job_states():
    """{job id: state}"""
    return {job["id"]: job["status"] for job in rest("/jobs")["jobs"]}


def tasks(job, state):
    """Whether all tasks of a job are in this state."""
    counts = [vertex["tasks"] for vertex in rest(f"/jobs/{job}")["vertices"]]
    return bool(counts) and all(c[state.upper()] == sum(c.values()) for c in counts)


def logs(service):
    return subprocess.run(["docker-compose", "logs", "--no-color", service], cwd=ROOT, capture_output=True, text=True).stdout


def container(service):
    return subprocess.run(["docker-compose", "ps", "-q", service], cwd=ROOT, capture_output=True, text=True).stdout.split()


def results():
    """{window start: {page: [count, count of a repetition, …]}} of the output topic, by the listener for programs outside."""
    port = os.environ.get("PLAYGROUND_KAFKA_PORT", "9094")
    done = subprocess.run(["kcat", "-b", f"localhost:{port}", "-t", "output", "-C", "-e", "-q", "-o", "beginning"],
                          capture_output=True, text=True, timeout=60)
    if done.returncode != 0:
        raise Failure(f"kcat could not read the output topic: {done.stderr[-500:]}")
    return parse_results(done.stdout)


def parse_results(text):
    found = {}
    for line in text.splitlines():
        if not line.startswith("{"):
            continue
        row = json.loads(line)
        if set(row) != {"windowStart", "windowEnd", "page", "count"} or row["page"] not in PAGES:
            raise Failure(f"unexpected result {line}")
        start = calendar.timegm(time.strptime(row["windowStart"][:19], "%d-%m-%Y %H:%M:%S"))
        found.setdefault(start, {}).setdefault(row["page"], []).append(row["count"])
    return found


def complete(found):
    """How many windows from the first on have all pages."""
    count = 0
    while set(found.get(count * 15, ())) == PAGES:
        count += 1
    return count


def check_results(found, at_least=1):
    """Every window has every page with 1000 clicks; only the newest may still be on its way. The number of windows."""
    if not found:
        raise Failure("the output topic is empty")
    windows = complete(found)
    for start, pages in sorted(found.items()):
        for page, counts in pages.items():
            if any(count != 1000 for count in counts):
                raise Failure(f"{page} was counted {counts} times, not 1000, in the window from second {start} on")
        if start > windows * 15:
            raise Failure(f"the window from second {windows * 15} on has only {sorted(found.get(windows * 15, ()))}, "
                          f"but there is a later one from second {start} on")
    if windows < at_least:
        raise Failure(f"{windows} complete windows, expected {at_least}")
    return windows


def wait_windows(more, timeout=120):
    """Waits for this many further complete windows; all that there are must be right."""
    start = wait(results, 60, "Kafka to answer") and complete(results())
    wait(lambda: complete(results()) >= start + more, timeout, f"{more} windows after the first {start}")
    return check_results(results())
