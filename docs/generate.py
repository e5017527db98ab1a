"""Writes the reference pages from the tables that the programs are built from, so that they cannot disagree with them:
configuration.md from common/config/options.def, rest.md from jobmanager/rest/routes.def, metrics.md from common/metrics/metric_names.def,
cli.md from the client's own help.

   python3 docs/generate.py BIN [--check]     BIN: folder of the built programs; --check: compare instead of writing, exit code 1 on a difference
"""
import os
import re
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
MADE = "<!-- Made by `make docs` from {source}: change that, not this. -->\n\n"
STRING = re.compile(r'"((?:[^"\\]|\\.)*)"')
READERS = {"J": "jobmanager", "T": "taskmanager", "C": "client", "P": "job"}


def read(path):
    with open(os.path.join(ROOT, path), encoding="utf-8") as f:
        return f.read()


def cell(text):
    return text.replace("|", "\\|")


def sections(path, macro):
    """[(title, [arguments of each row])] of a table: a title is a comment of the form `/* ---- title ---- */`."""
    found = [("", [])]
    for line in read(path).splitlines():
        title = re.match(r"/\* -+ (.*?) -+ \*/$", line)
        row = re.match(rf"{macro}\((.*)\)$", line)
        if title:
            found.append((title.group(1), []))
        elif row:
            found[-1][1].append(row.group(1))
    return [section for section in found if section[1]]


def configuration():
    source = "common/config/options.def"
    out = ["# Configuration\n\n", MADE.format(source=f"`{source}`"),
           "Options are flat keys in `config.yaml` or `flink-conf.yaml` (`--config FILE`), in the `FLINK_PROPERTIES` environment "
           "variable, or `-D key=value`; a later source beats an earlier one. *Read by*: the daemon or client that reads it; *job* means "
           "that a program or `flink run -D` can set it for one job. "
           "Durations are written `10 s`, `5 min`, `200 ms`; sizes `64k`, `32m`, `2g`.\n"]
    for title, rows in sections(source, "OPTION"):
        out.append(f"\n## {title[:1].upper()}{title[1:]}\n\n| key | type | default | read by | |\n|---|---|---|---|---|\n")
        for row in rows:
            name, key, rest = re.match(r'(\w+), "([^"]+)", (.*)', row).groups()
            kind = rest.split(",")[0]
            default, low, high, old, doc = STRING.findall(rest)
            scope = re.search(r'", ([JTCP |]+), "', rest).group(1)
            values = f" ({high.replace('|', ', ')})" if kind == "ENUM" else f" ({low or '…'} to {high or '…'})" if low or high else ""
            text = doc + (f"; also read as `{old}`" if old else "")
            readers = ", ".join(READERS[letter.strip()] for letter in scope.split("|"))
            out.append(f"| `{key}` | {kind.lower()}{cell(values)} | {f'`{default}`' if default else ''} | {readers} | {cell(text)} |\n")
    return "".join(out)


def rest():
    source = "jobmanager/rest/routes.def"
    out = ["# REST API\n\n", MADE.format(source=f"`{source}`"),
           "Flink's REST API, version 1: every path works with and without the prefix `/v1`. Answers are JSON; an error is "
           "`{\"errors\": [\"…\"]}` with a status of 400 and above. "
           "Bodies are JSON whatever their content type says.\n\n| method | path | |\n|---|---|---|\n"]
    for _, rows in sections(source, "ROUTE"):
        for row in rows:
            method = row.split(",")[0]
            path, doc = STRING.findall(row)
            out.append(f"| {method} | `{path}` | {cell(doc)} |\n")
    return "".join(out)


# What the page says of each scope: title, what REST lists it under, the beginning of names in Prometheus, labels.
SCOPES = {
    "DAEMON": ("Processes", "`/jobmanager/metrics`, `/taskmanagers/:id/metrics`", "`flink_jobmanager_`, `flink_taskmanager_`",
               "`host`; of a taskmanager also `tm_id`"),
    "TASKMANAGER": ("Taskmanagers", "`/taskmanagers/:id/metrics`", "`flink_taskmanager_`", "`host`, `tm_id`"),
    "JOBMANAGER": ("Cluster", "`/jobmanager/metrics`", "`flink_jobmanager_`", "`host`"),
    "JOB": ("Jobs", "`/jobs/:id/metrics`", "`flink_jobmanager_job_`", "`host`, `job_id`, `job_name`"),
    "TASK": ("Tasks", "`/jobs/:id/vertices/:id/subtasks/metrics`", "`flink_taskmanager_job_task_`",
             "`host`, `tm_id`, `job_id`, `job_name`, `task_id`, `task_name`, `task_attempt_id`, `task_attempt_num`, `subtask_index`"),
    "OPERATOR": ("Operators", "the same, with the operator's name in front: `ClickEvent_Counter.numRecordsIn`",
                 "`flink_taskmanager_job_task_operator_`",
                 "those of the task, `operator_id`, `operator_name`"),
}

METRICS_INTRODUCTION = """The jobmanager and every taskmanager have a Prometheus endpoint: `http://<host>:9249/metrics`
(`metrics.reporter.prom.port`; a daemon that finds 9249 taken, and was not told a port, takes the next free one and logs it).
Names, types and labels are those of Flink's PrometheusReporter, so dashboards and alerts made for Flink fit: `flink_<scope>_<name>`
with every character but letters, digits, `:` and `_` replaced by `_`; counters and rates are gauges, as from Flink, and histograms
are summaries. A `*` in a name below is a label in Prometheus: the value of the word before it; a `#` is a piece of the name that depends
on the machine. REST lists the same figures. `System.*` are there with `metrics.system-resource: true`, as in Flink.
`metrics.reporters:` without a `prom` in it turns the endpoint off. A dashboard is in `deploy/grafana/dashboards`; those of Grafana's
catalogue for Flink (11049, 14911, 11878 …) show what is below, panel by panel in `tests/data/prometheus/dashboards.txt`.

Rates (*…PerSecond*) are over the last five reports (`metrics.report.interval`, 1 s). Metrics of a task are there as long as it runs.
What a user function counts with `mr_count` is a metric of its operator under its own name.
"""

METRICS_LEFT_OUT = """
## Metrics of Flink that are left out

A metric with a JVM's name is given only where a process has the same thing: CPU time and load, threads, heap. These have no
counterpart, so their panels stay empty:

| metric of Flink | why |
|---|---|
| `Status.JVM.GarbageCollector.*`, `Status.JVM.ClassLoader.*` | there is no garbage collector and no class loader |
| `Status.JVM.Memory.NonHeap.*`, `Metaspace.*` | there is no code cache or metaspace: code is mapped from files |
| `Status.JVM.Memory.Direct.*`, `Mapped.*` | there are no buffers outside of the heap; batches in channels are `Status.Shuffle.Netty.*` |
| `Status.Flink.Memory.Managed.*` | there is no managed memory: state lives on the heap |
| `buffers.inputFloatingBuffersUsage` | credit belongs to a channel, none floats between them |
| `*.rocksdb_*` | state is not in RocksDB |
| `changelogBusyTimeMsPerSecond` | there is no changelog state backend |
| `latency.source_id.*.operator_id.*` | there are no latency markers; in Flink they are off unless `metrics.latency.interval` is set |
| `KafkaProducer.*`, most of `KafkaSourceReader.KafkaConsumer.*` | what the Java client says about itself; ours is librdkafka |
| `lastCheckpointExternalPath` (Prometheus only) | a text: it is there with the value 0, as from Flink; REST shows it |
"""


def metrics():
    source = "common/metrics/metric_names.def"
    out = ["# Metrics\n\n", MADE.format(source=f"`{source}`"), METRICS_INTRODUCTION]
    rows = [re.match(r'(\w+), "([^"]+)", (\w+), (.*)', row).groups() for _, section in sections(source, "METRIC") for row in section]
    for scope, (title, rest_path, prefix, labels) in SCOPES.items():
        out.append(f"\n## {title}\n\nREST: {rest_path}. Prometheus: {prefix}…, labels {labels}.\n\n"
                   "| metric | type | unit | |\n|---|---|---|---|\n")
        for row_scope, name, kind, strings in rows:
            if row_scope == scope:
                unit, of, doc = STRING.findall(strings)
                text = doc or (f"Growth of `{of}`" if of else "")
                out.append(f"| `{name}` | {kind.lower()} | {cell(unit)} | {cell(text)} |\n")
    return "".join(out) + METRICS_LEFT_OUT


def cli(programs):
    out = ["# Command line\n\n", MADE.format(source="the programs' own help")]
    for name in ("flink", "jobmanager", "taskmanager"):
        text = subprocess.run([os.path.join(programs, name), "--help"], capture_output=True, text=True, check=True).stdout
        if name != "flink":
            text = re.split(r"\n(?:Options|Configuration keys):\n", text)[0]
        text = re.sub(r"^\S*/", "./", text, count=1)
        out.append(f"## {name}\n\n```\n{text.rstrip()}\n```\n\n")
    out.append("The options of both daemons are on the page [Configuration](configuration.md).\n")
    return "".join(out)


def main():
    programs, is_check = sys.argv[1], "--check" in sys.argv[2:]
    differing = 0
    for name, text in (("configuration.md", configuration()), ("rest.md", rest()), ("metrics.md", metrics()), ("cli.md", cli(programs))):
        path = os.path.join(HERE, name)
        same = os.path.exists(path) and read(os.path.join("docs", name)) == text
        if is_check and not same:
            print(f"docs/{name} is not what the tables say: run make docs and commit it")
            differing += 1
        elif not is_check:
            with open(path, "w", encoding="utf-8") as f:
                f.write(text)
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
