"""Grafana without Grafana: a real Prometheus, and dashboards' variables and panels evaluated against it the way Grafana's Prometheus data
source does."""

import json
import math
import os
import re
import subprocess
import urllib.error
import urllib.parse
import urllib.request

from ..support_py.ports import free_port

# Why an expression is empty: tests/data/prometheus/dashboards.txt explains them.
EMPTY = ("jvm", "rocksdb", "managed", "floating", "latency", "consumer", "author")
MARKS = ("data", "quiet") + EMPTY
# What Grafana puts in where it scrapes every second and shows a quarter of an hour.
BUILT_IN = {"__interval": "1s", "__rate_interval": "4s"}
VARIABLE = re.compile(r"\$\{(\w+)(?::\w+)?\}|\$(\w+)|\[\[(\w+)\]\]")
LABEL_VALUES = re.compile(r"label_values\((?:(.+),\s*)?(\w+)\)$")
AGGREGATION = re.compile(r"\b(?:sum|max|min|avg|count)\b\s*(?:by\s*\(|\()")
BY = re.compile(r"\bby\s*\(([^)]*)\)")


class Prometheus:
    """Debian's prometheus on a free port, scraping the given ports every second."""

    def __init__(self, directory, ports):
        os.makedirs(directory)
        self.port = free_port()
        targets = ", ".join(f"'127.0.0.1:{port}'" for port in ports)
        with open(os.path.join(directory, "prometheus.yml"), "w") as f:
            f.write("global: {scrape_interval: 1s}\nscrape_configs:\n- job_name: flink\n  static_configs:\n"
                    f"  - targets: [{targets}]\n")
        log = open(os.path.join(directory, "prometheus.log"), "ab")
        self.process = subprocess.Popen(["prometheus", f"--config.file={directory}/prometheus.yml", f"--storage.tsdb.path={directory}/data",
                                         f"--web.listen-address=127.0.0.1:{self.port}"], stdout=log, stderr=log)

    def get(self, path, **query):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}?{urllib.parse.urlencode(query)}", timeout=10) as answer:
                return json.loads(answer.read())
        except urllib.error.HTTPError as err:
            return json.loads(err.read()) if err.code != 503 else None  # it still starts
        except OSError:
            return None

    def result(self, path, **query):
        answer = self.get(path, **query)
        assert answer and answer["status"] == "success", (query, answer)
        return answer["data"]

    def query(self, expression):
        return self.result("/api/v1/query", query=expression)["result"]

    def targets_up(self):
        targets = (self.get("/api/v1/targets") or {}).get("data", {}).get("activeTargets", [])
        return sum(target["health"] == "up" for target in targets)

    def stop(self):
        self.process.terminate()
        self.process.wait(20)


class Variable:
    def __init__(self, mark, name, is_all, query, all_value=None):
        self.mark, self.name, self.is_all, self.query, self.all_value = mark, name, is_all, query, all_value


class Panel:
    def __init__(self, mark, legend, expression):
        self.mark, self.expression = mark, expression
        self.legend = re.findall(r"\{\{\s*(\w+)\s*\}\}", legend)


class Dashboard:
    def __init__(self, name):
        self.name, self.ours, self.variables, self.panels = name, [], [], []

    def __repr__(self):
        return self.name


def published(path, **names):
    """The dashboards of a file such as tests/data/prometheus/dashboards.txt. names: {word behind => there: what it is here}."""
    dashboards = []
    with open(path) as f:
        for line in f.read().splitlines():
            word, _, rest = line.partition(" ")
            if not line or word == "#":
                continue
            if word == "dashboard":
                dashboards.append(Dashboard(rest))
            elif word == "ours":
                theirs, ours = rest.split(" => ")
                dashboards[-1].ours.append((theirs, names.get(ours, ours)))
            elif word == "variable":
                mark, name, kind, query = rest.split(" ", 3)
                assert mark in MARKS and kind in ("all", "one"), line
                dashboards[-1].variables.append(Variable(mark, name, kind == "all", query))
            else:
                mark, legend, expression = line.split(" | ", 2)
                assert mark in MARKS, line
                dashboards[-1].panels.append(Panel(mark, legend, expression))
    return dashboards


def provisioned(path):
    """A dashboard in Grafana's own form, all of whose expressions must have data."""
    with open(path) as f:
        model = json.load(f)
    dashboard = Dashboard(os.path.basename(path))
    for variable in model["templating"]["list"]:
        query = variable["query"]["query"] if isinstance(variable["query"], dict) else variable["query"]
        dashboard.variables.append(Variable("data", variable["name"], variable["includeAll"], query, variable.get("allValue")))
    panels = list(model["panels"])
    for panel in panels:
        panels += panel.get("panels", [])
        dashboard.panels += [Panel("data", target.get("legendFormat", ""), target["expr"]) for target in panel.get("targets", [])]
    return dashboard


# ---- variables ----

def escape(value):
    """One value, for a matcher with =."""
    return value.replace("\\", "\\\\").replace("'", "\\\\'")


def escape_pattern(value):
    """One of several values, for a matcher with =~: escaped for the pattern, and that for PromQL's text."""
    return re.sub(r"[$^*{}\[\]'+?.()|]", lambda match: "\\\\" + match.group(), value.replace("\\", "\\" * 4))


def substitute(text, values):
    def value(match):
        name = match.group(1) or match.group(2) or match.group(3)
        assert name in values or name in BUILT_IN, f"{text} has ${name}, which is no variable"
        return values[name] if name in values else BUILT_IN[name]
    return VARIABLE.sub(value, text)


def label_values(prometheus, query):
    """The values that a variable's query finds."""
    metric, label = LABEL_VALUES.match(query).groups()
    return prometheus.result(f"/api/v1/label/{label}/values", **({"match[]": metric} if metric else {}))


def variable_values(prometheus, dashboard):
    """{name: what stands for it in expressions}, and the marks of the variables that are wrong."""
    values, wrong = {}, []
    for variable in dashboard.variables:
        found = label_values(prometheus, substitute(variable.query, values))
        if bool(found) != (variable.mark == "data"):
            wrong.append((dashboard, variable.query, "no values" if not found else f"values, not {variable.mark}"))
        if variable.is_all:
            patterns = [escape_pattern(value) for value in found]
            values[variable.name] = variable.all_value or (patterns[0] if len(patterns) == 1 else f"({'|'.join(patterns)})")
        else:
            values[variable.name] = escape(found[0]) if found else ""
    return values, wrong


# ---- panels ----

def labels_kept(expression, legend):
    """Those of the legend's labels that the expression leaves in its result."""
    by = BY.search(expression)
    if by is not None:
        return [label for label in legend if label in re.split(r"\s*,\s*", by.group(1).strip())]
    return [] if AGGREGATION.search(expression) else legend


def panel_problem(prometheus, panel, expression, known):
    """None, or what is wrong with what the panel shows. known: {label: its possible values}."""
    if panel.mark == "quiet":
        bare = re.sub(r"\s*[<>]=?\s*\d+\s*$", "", expression)
        assert bare != expression, f"{expression} has no threshold"
        return None if prometheus.query(bare) else f"no data without its threshold either"
    samples = prometheus.query(expression)
    if panel.mark in EMPTY:
        return f"data, not {panel.mark}" if samples else None
    if not any(math.isfinite(float(sample["value"][1])) for sample in samples):
        return "no data"
    for sample in samples:
        labels = sample["metric"]
        missing = [label for label in labels_kept(expression, panel.legend) if not labels.get(label)]
        if missing:
            return f"the legend's {missing} are not in {labels}"
        strange = {label: value for label, value in labels.items() if label in known and value not in known[label]}
        if strange:
            return f"unknown {strange}"
    return None


def problems(prometheus, dashboard, known):
    """[(dashboard, expression, what is wrong)]."""
    values, wrong = variable_values(prometheus, dashboard)
    for panel in dashboard.panels:
        expression = panel.expression
        for theirs, ours in dashboard.ours:
            expression = expression.replace(theirs, ours)
        expression = substitute(expression, values)
        problem = panel_problem(prometheus, panel, expression, known)
        if problem:
            wrong.append((dashboard, expression, problem))
    return wrong
