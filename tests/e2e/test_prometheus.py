"""The Prometheus endpoints of jobmanager and taskmanagers: names, types and labels against Flink's, values against REST, and the queries
of dashboards made for Flink against a real Prometheus."""

import os
import re
import subprocess
import time
import urllib.error
import urllib.request

from .clicks import Generator
from .dashboards import Dashboard, Panel, Prometheus, problems, provisioned, published
from ..support_py.ports import free_ports
from .test_click_count import job_args

DATA = os.path.join(os.path.dirname(__file__), "..", "data", "prometheus")
DASHBOARDS = os.path.join(os.path.dirname(__file__), "..", "..", "deploy", "grafana", "dashboards")
EVENTS = 6000 * 3 + 600
SAMPLE = re.compile(r'([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)$')
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


def lines_of(name):
    with open(os.path.join(DATA, name)) as f:
        return [line.rstrip("\n") for line in f if line.strip() and not line.startswith("#")]


def port_of(cluster, daemon):
    """The port that the daemon logged."""
    with open(os.path.join(cluster.directory, f"{daemon}.log")) as f:
        return int(re.search(r"Started PrometheusReporter HTTP server on port (\d+)\.", f.read()).group(1))


def scrape(port, path="/metrics"):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4"), answer.headers["content-type"]
        return answer.read().decode()


class Scrape:
    """A parsed exposition: families {name: type}, help {name: text}, samples {(name, labels): value}."""

    def __init__(self, text):
        self.families, self.help, self.samples = {}, {}, {}
        for line in text.splitlines():
            if line.startswith("# TYPE "):
                name, kind = line[7:].split(" ")
                assert name not in self.families, f"family {name} comes twice"
                self.families[name] = kind
            elif line.startswith("# HELP "):
                name, self.help[line[7:].split(" ", 1)[0]] = line[7:].split(" ", 1)
            else:
                name, labels, value = SAMPLE.match(line).groups()
                key = (name, tuple(sorted(LABEL.findall(labels or ""))))
                assert key not in self.samples, f"{line} comes twice"
                self.samples[key] = float(value)

    def label_names(self, family):
        """Of the family's samples; of a summary those with a quantile."""
        names = {tuple(name for name, _ in labels) for (sample, labels) in self.samples if sample == family}
        return names.pop() if len(names) == 1 else names

    def sum(self, family, **labels):
        """Over the samples that have these labels; None when there are none."""
        values = [value for (name, own), value in self.samples.items()
                  if name == family and all(dict(own).get(key) == wanted for key, wanted in labels.items())]
        return sum(values) if values else None


def check_lint(text):
    """Prometheus' own parser: 3 means that it read everything and dislikes Flink's camelCase names."""
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, timeout=60)
    assert done.returncode in (0, 3), done.stdout + done.stderr
    complaints = [line for line in (done.stdout + done.stderr).splitlines()
                  if not re.search(r"camelCase|abbreviated unit|should not have \"_total\"|should not contain \"|metric names should not", line)]
    assert not complaints, complaints[:5]


def check_names(scrapes):
    """Every metric of Flink is there with its type and labels, or on the list of those that are left out; and not on both."""
    left_out = re.compile("|".join(lines_of("left_out.txt")))
    for line in lines_of("flink_names.txt"):
        name, kind, labels = line.split(" ")
        having = [scrape for scrape in scrapes if name in scrape.families]
        if left_out.fullmatch(name):
            assert not having, f"{name} is left out, says the list, but it is there"
            continue
        assert having, f"{name} is missing"
        for scrape_ in having:
            assert scrape_.families[name] == kind, (name, scrape_.families[name])
            assert scrape_.label_names(name) == tuple(labels.split(",")), (name, scrape_.label_names(name))


def check_help(scrapes):
    for scrape_ in scrapes:
        for name in scrape_.families:
            metric, scope = re.fullmatch(r"(\S+) \(scope: (\w+)\)", scrape_.help[name]).groups()
            assert name == "flink_" + scope + "_" + re.sub(r"[^a-zA-Z0-9:_]", "_", metric), (name, scrape_.help[name])


def counters(scrape_):
    return {key: value for key, value in scrape_.samples.items()
            if re.search(r"num(Records|Bytes|Buffers)(In|Out)(Local|Remote)?$|numFiredTimers$|accumulate\w+Ms$|CPU_Time$|_total$|commitsSucceeded$"
                         r"|totalNumberOfCheckpoints$", key[0])}


def check_monotone(ports, rounds=4):
    before = [counters(Scrape(scrape(port))) for port in ports]
    assert all(len(one) >= 2 for one in before), [len(one) for one in before]
    for _ in range(rounds):
        time.sleep(0.7)
        after = [counters(Scrape(scrape(port))) for port in ports]
        for old, new in zip(before, after):
            for key, value in old.items():
                assert key in new and new[key] >= value, (key, value, new.get(key))
        before = after


def filtered(text):
    return re.sub(r"[^a-zA-Z0-9:_]", "_", text)


def agree(cluster, job, ports):
    """Whether REST and the endpoints show the same at this moment; None, or what differs."""
    scrapes = [Scrape(scrape(port)) for port in ports]
    for vertex in cluster.job(job)["vertices"]:
        for metric in ("numRecordsIn", "numRecordsOut", "numBytesIn", "numBytesOut"):
            rest = cluster.get(f"/jobs/{job}/vertices/{vertex['id']}/subtasks/metrics?get={metric}&agg=sum")[0]["sum"]
            found = [scrape_.sum(f"flink_taskmanager_job_task_{metric}", task_id=vertex["id"], job_id=job) for scrape_ in scrapes]
            if sum(value for value in found if value is not None) != rest:
                return vertex["name"], metric, rest, found
    counter = cluster.job(job)["vertices"][1]["id"]
    rest = cluster.get(f"/jobs/{job}/vertices/{counter}/subtasks/metrics?get=ClickEvent_Counter.currentOutputWatermark&agg=min")[0]["min"]
    found = [value for scrape_ in scrapes for (name, labels), value in scrape_.samples.items()
             if name == "flink_taskmanager_job_task_operator_currentOutputWatermark" and dict(labels)["operator_name"] == "ClickEvent_Counter"]
    return None if min(found) == rest else ("watermark", rest, found)


def rows():
    """{scope: a pattern of the names in the table} of common/metrics/metric_names.def."""
    names = {}
    with open(os.path.join(DATA, "..", "..", "..", "common", "metrics", "metric_names.def")) as f:
        for scope, name, kind in re.findall(r'^METRIC\((\w+), "([^"]+)", (\w+),', f.read(), re.M):
            pattern = ".+".join(re.escape(part) for part in re.split("[*#]", name))
            names.setdefault(scope, []).append(pattern + (r"_(count|min|max|mean|stddev|median|p\d+)" if kind == "HISTOGRAM" else ""))
    return {scope: re.compile("|".join(patterns)) for scope, patterns in names.items()}


def check_rest_lists(cluster, job):
    """REST lists what is in the table, and nothing else; every name has a value."""
    table = rows()
    taskmanager = cluster.get("/taskmanagers")["taskmanagers"][0]["id"]
    cluster.wait(lambda: cluster.get(f"/taskmanagers/{taskmanager}/metrics"), 15, "the taskmanager's first heartbeat")
    lists = [("/jobmanager/metrics", ("JOBMANAGER", "DAEMON")), (f"/jobs/{job}/metrics", ("JOB",)), (f"/taskmanagers/{taskmanager}/metrics",
                                                                                                ("TASKMANAGER", "DAEMON"))]
    for path, scopes in lists:
        names = [entry["id"] for entry in cluster.get(path)]
        assert len(names) > 10, (path, names)
        unknown = [name for name in names if not any(table[scope].fullmatch(name) for scope in scopes)]
        assert not unknown, (path, unknown)
    for vertex in cluster.job(job)["vertices"]:
        path = f"/jobs/{job}/vertices/{vertex['id']}/subtasks/0/metrics"
        names = [entry["id"] for entry in cluster.get(path)]
        unknown = [name for name in names if not table["TASK"].fullmatch(name)
                   and not table["OPERATOR"].fullmatch(name.split(".", 1)[-1])]
        assert not unknown, (vertex["name"], unknown)
        values = cluster.get(f"{path}?get={','.join(names[:60])}")
        assert len(values) == len(names[:60]) and all(value["value"] != "" for value in values), values


def check_rest(cluster, job, ports):
    differences = [None]

    def is_equal():
        differences[0] = agree(cluster, job, ports[1:])
        return differences[0] is None

    try:
        cluster.wait(is_equal, 20, "REST and Prometheus to agree")
    except AssertionError as err:
        raise AssertionError(f"{err}: {differences[0]}") from None
    own = Scrape(scrape(ports[0]))
    labels = {"job_id": job}
    stats = cluster.checkpoints(job)["counts"]
    assert abs(own.sum("flink_jobmanager_job_numberOfCompletedCheckpoints", **labels) - stats["completed"]) <= 2, stats
    assert own.sum("flink_jobmanager_job_numRestarts", **labels) == 0
    assert own.sum("flink_jobmanager_taskSlotsTotal") == 2 and own.sum("flink_jobmanager_numRunningJobs") == 1
    assert own.sum("flink_jobmanager_job_lastCheckpointSize", **labels) > 0


def check_taskmanager_labels(cluster, ports):
    """Each endpoint speaks of its own taskmanager alone, under the id that REST shows."""
    ids = {filtered(entry["id"]) for entry in cluster.get("/taskmanagers")["taskmanagers"]}
    seen = [{dict(labels)["tm_id"] for _, labels in Scrape(scrape(port)).samples} for port in ports[1:]]
    assert all(len(one) == 1 for one in seen) and set.union(*seen) == ids, (seen, ids)


def start(env, config=None):
    kafka = env.kafka()
    base = free_ports(8)
    own = {"metrics.reporter.prom.port": f"{base}-{base + 7}", "metrics.system-resource": "true", "metrics.system-resource-probing-interval": "500"}
    cluster = env.cluster(2, slots=1, config={**own, **(config or {})})
    generator = env.closing(Generator(kafka, env.topic("in"), 6000, EVENTS, partitions=2))
    time.sleep(1)
    job = cluster.run("-p", "2", env.program("ClickCountJob.so"), *job_args(env, kafka))
    cluster.wait_running(job)
    ports = [port_of(cluster, daemon) for daemon in ("jobmanager", "taskmanager-0", "taskmanager-1")]
    assert len(set(ports)) == 3, ports
    return cluster, job, generator, ports


def test_endpoints(env):
    cluster, job, generator, ports = start(env)
    assert port_of(cluster, "jobmanager") in range(1024, 65536)
    cluster.wait_checkpoint(job, 3)
    cluster.wait(lambda: any("operator_currentSendTime{" in scrape(port) for port in ports[1:]), 30, "the sink's first confirmed record")
    check_monotone(ports)
    texts = [scrape(port) for port in ports]
    assert set(Scrape(scrape(ports[0], "/")).families) == set(Scrape(texts[0]).families)
    for text in texts:
        check_lint(text)
    scrapes = [Scrape(text) for text in texts]
    check_names(scrapes)
    check_help(scrapes)
    check_taskmanager_labels(cluster, ports)
    try:
        scrape(ports[0], "/nosuch")
        raise AssertionError("/nosuch is there")
    except urllib.error.HTTPError as err:
        assert err.code == 404, err
    generator.wait()
    check_rest(cluster, job, ports)
    check_rest_lists(cluster, job)
    cluster.flink("cancel", job)
    cluster.wait_state(job, "CANCELED")
    cluster.wait(lambda: all("job_id=" not in scrape(port) for port in ports), 10, "the job's metrics to go")
    assert Scrape(scrape(ports[0])).sum("flink_jobmanager_numRunningJobs") == 0


def test_default_port(env):
    """Without any configuration there is an endpoint, also where somebody has 9249 already; and none when reporters are named without it."""
    config = {"metrics.reporter.prom.port": None}
    cluster = env.cluster(1, config=config)
    ports = [port_of(cluster, daemon) for daemon in ("jobmanager", "taskmanager-0")]
    assert len(set(ports)) == 2 and all(9249 <= port <= 9299 for port in ports), ports
    assert all("flink_" in scrape(port) for port in ports)
    silent = env.cluster(1, config={**config, "metrics.reporters": "slf4j"})
    with open(os.path.join(silent.directory, "jobmanager.log")) as f:
        log = f.read()
    assert "No Prometheus endpoint" in log and "Started PrometheusReporter" not in log, log


def test_raw_labels(env):
    """filterLabelValueCharacters: false keeps what the names hold."""
    cluster, job, generator, ports = start(env, {"metrics.reporter.prom.filterLabelValueCharacters": "false"})
    cluster.wait_checkpoint(job, 1)
    text = "".join(scrape(port) for port in ports)
    assert 'task_name="Source: ClickEvent Source"' in text and 'job_name="Click Event Count"' in text
    check_lint(scrape(ports[1]))
    generator.stop()


# ---- dashboards ----

def label_domains(cluster, job):
    """{label: its possible values}, from REST."""
    vertices = cluster.job(job)["vertices"]
    return {
        "job_id": {job},
        "job_name": {"Click_Event_Count"},
        "job": {"flink"},
        "task_id": {vertex["id"] for vertex in vertices},
        "task_name": {filtered(vertex["name"]) for vertex in vertices},
        "operator_name": {filtered(part) for vertex in vertices for part in vertex["name"].split(" -> ")},
        "subtask_index": {"0", "1"},
        "task_attempt_num": {"0"},
        "tm_id": {filtered(entry["id"]) for entry in cluster.get("/taskmanagers")["taskmanagers"]},
        "host": {"127_0_0_1"},
    }


def test_dashboards(env):
    """Every variable and every panel of published dashboards, of our own and of our own list has data, but for what is known to be empty."""
    cluster, job, generator, ports = start(env)
    prometheus = env.closing(Prometheus(os.path.join(env.directory, "prometheus"), ports))
    cluster.wait(lambda: prometheus.targets_up() == 3, 40, "Prometheus to scrape all endpoints")
    cluster.wait_checkpoint(job, 3)
    own_list = Dashboard("queries.txt")
    own_list.panels = [Panel("data", "", line) for line in lines_of("queries.txt")]
    own_list.panels += [Panel("author", "", line) for line in lines_of("queries_left_out.txt")]
    known = label_domains(cluster, job)
    interfaces = sorted(set(os.listdir("/sys/class/net")) - {"lo"})
    assert interfaces, "this machine has no network interface whose panel could be asked for"
    wrong = published(os.path.join(DATA, "dashboards.txt"), INTERFACE=filtered(interfaces[0])) + [own_list]
    wrong += [provisioned(os.path.join(DASHBOARDS, name)) for name in sorted(os.listdir(DASHBOARDS)) if name.endswith(".json")]
    assert len(wrong) > 18 and sum(len(dashboard.panels) for dashboard in wrong) > 400, wrong
    found = []

    def is_all_right():
        found[:] = [problem for dashboard in wrong for problem in problems(prometheus, dashboard, known)]
        wrong[:] = [dashboard for dashboard in wrong if any(problem[0] is dashboard for problem in found)]
        return not wrong

    try:
        cluster.wait(is_all_right, 30, "data in every panel")
    except AssertionError as err:
        raise AssertionError("\n".join([str(err)] + [str(problem) for problem in found])) from None
    generator.stop()
