"""The services that later playgrounds and dashboards need: they come up and answer."""

import json
import os
import subprocess
import urllib.request

from .compose import ROOT, Failure, container, typed, wait
from .walkthrough import expect, health, step

NAMES = ("mysql", "elasticsearch", "prometheus", "grafana", "metrics")


def get(port_name, default, path):
    with urllib.request.urlopen(f"http://localhost:{os.environ.get(port_name, default)}{path}", timeout=10) as answer:
        return json.loads(answer.read())


@step(200)
def step_mysql(story):
    """--profile mysql: a database with the demo's user"""
    story.images.provide("mysql")
    typed("docker-compose --profile mysql up -d mysql")
    wait(lambda: health("mysql") == "healthy", 120, "mysql to be healthy")
    out = typed("docker-compose exec mysql mysql -h 127.0.0.1 -u sql-demo -pdemo-sql sql-demo -e "
                "'CREATE TABLE t (a INT PRIMARY KEY); INSERT INTO t VALUES (42); SELECT a FROM t; DROP TABLE t'")
    expect(r"\b42\b", out, "the row")
    typed("docker-compose --profile mysql stop mysql")


@step(210)
def step_elasticsearch(story):
    """--profile elasticsearch: a node that takes a document"""
    story.images.provide("elasticsearch")
    typed("docker-compose --profile elasticsearch up -d elasticsearch")
    wait(lambda: health("elasticsearch") == "healthy", 180, "elasticsearch to be healthy")
    port = os.environ.get("PLAYGROUND_ELASTICSEARCH_PORT", "9200")
    typed(f"curl -fsS -X PUT -H 'content-type: application/json' 'localhost:{port}/demo/_doc/1?refresh=true' -d '{{\"pay\": 42}}'")
    found = get("PLAYGROUND_ELASTICSEARCH_PORT", "9200", "/demo/_search")
    if [hit["_source"] for hit in found["hits"]["hits"]] != [{"pay": 42}]:
        raise Failure(f"expected the document: {found}")
    typed("docker-compose --profile elasticsearch stop elasticsearch")


@step(220)
def step_prometheus(story):
    """--profile prometheus: it reaches the jobmanager and every taskmanager"""
    story.images.provide("prometheus")
    typed("docker-compose --profile prometheus up -d prometheus")

    def all_up():
        targets = get("PLAYGROUND_PROMETHEUS_PORT", "9090", "/api/v1/targets")["data"]["activeTargets"]
        return len(targets) == 1 + len(container("taskmanager")) and all(target["health"] == "up" for target in targets)
    wait(all_up, 90, "Prometheus to reach all of its targets")
    typed("docker-compose --profile prometheus stop prometheus")


@step(230)
def step_grafana(story):
    """--profile grafana: what it is provisioned with is there and reads well"""
    # Nobody packages Grafana for Debian, so it does not run here; its files are looked at as it would.
    done = subprocess.run(["docker-compose", "--profile", "grafana", "config"], cwd=ROOT, capture_output=True, text=True, check=True)
    for source in [line.split(":")[0].strip(" -") for line in done.stdout.splitlines() if line.strip().startswith(f"- {ROOT}/deploy/")]:
        if not os.path.exists(source):
            raise Failure(f"docker-compose.yml mounts {source}, which does not exist")
    folder = os.path.join(ROOT, "deploy", "grafana", "dashboards")
    names = [name for name in os.listdir(folder) if name.endswith(".json")]
    if not names:
        raise Failure(f"there is no dashboard in {folder}")
    for name in names:
        with open(os.path.join(folder, name)) as f:
            dashboard = json.load(f)
        if not dashboard.get("title") or not dashboard.get("panels"):
            raise Failure(f"{name} has no title or no panels")
