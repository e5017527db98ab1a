"""The numbers that REST shows, against the truth: a known count of clicks goes through the Click Event Count job."""

import subprocess
import time

from .clicks import Generator
from .test_click_count import job_args

EVENTS = 6000 * 6 + 600
WINDOWS = 6


def vertex_metrics(cluster, job, vertex, *names):
    answer = cluster.get(f"/jobs/{job}/vertices/{vertex}/subtasks/metrics?get={','.join(names)}&agg=sum,min,max")
    return {entry["id"]: entry for entry in answer}


def names_of(cluster, job, vertex):
    return {entry["id"] for entry in cluster.get(f"/jobs/{job}/vertices/{vertex}/subtasks/metrics")}


def committed_offsets(kafka, group, topic):
    tool = kafka._java("org.apache.kafka.tools.consumer.group.ConsumerGroupCommand", "--bootstrap-server", kafka.bootstrap,
                       "--describe", "--group", group)
    out = subprocess.run(tool, capture_output=True, text=True, timeout=60).stdout
    rows = [line.split() for line in out.splitlines()]
    return {int(row[2]): int(row[3]) for row in rows if len(row) > 4 and row[1] == topic and row[3].isdigit()}


def check_io(vertices):
    source, counter, writer, _ = (v["metrics"] for v in vertices)
    assert source["write-records"] == counter["read-records"] == EVENTS, (source, counter)
    assert counter["write-records"] == writer["read-records"] == WINDOWS * 6, (counter, writer)
    assert source["write-bytes"] == counter["read-bytes"] and counter["write-bytes"] == writer["read-bytes"], (source, counter, writer)
    assert 10 * EVENTS < source["write-bytes"] < 100 * EVENTS, source
    for vertex in vertices:
        metrics = vertex["metrics"]
        assert all(value for name, value in metrics.items() if name.endswith("-complete")), metrics


def check_times(cluster, job, vertices):
    for vertex in vertices:
        path = f"/jobs/{job}/vertices/{vertex['id']}"
        before = cluster.get(path)["subtasks"]
        time.sleep(2.2)
        after = cluster.get(path)["subtasks"]
        kinds = ("accumulated-backpressured-time", "accumulated-idle-time", "accumulated-busy-time")
        for old, new in zip(before, after):
            for kind in kinds:
                assert new["metrics"][kind] >= old["metrics"][kind], (kind, old, new)
            total = sum(new["metrics"][kind] for kind in kinds)
            lifetime = new["duration"]
            assert abs(total - lifetime) <= 0.05 * lifetime + 1500, (vertex["name"], total, lifetime)
        rates = vertex_metrics(cluster, job, vertex["id"], "busyTimeMsPerSecond", "idleTimeMsPerSecond", "backPressuredTimeMsPerSecond")
        total = sum(entry["sum"] for entry in rates.values())
        parallelism = vertex["parallelism"]
        assert 950 * parallelism <= total <= 1050 * parallelism, (vertex["name"], rates)


def check_checkpoints(cluster, job):
    cluster.wait_checkpoint(job, 3)
    stats = cluster.checkpoints(job)
    counts = stats["counts"]
    assert counts["total"] == counts["completed"] + counts["failed"] + counts["in_progress"], counts
    assert counts["failed"] == 0 and counts["restored"] == 0, counts
    completed = [entry for entry in stats["history"] if entry["status"] == "COMPLETED"]
    durations = [entry["end_to_end_duration"] for entry in completed]
    summary = stats["summary"]["end_to_end_duration"]
    assert summary["min"] <= summary["avg"] <= summary["max"], summary
    if counts["completed"] == len(completed):
        assert summary["min"] == min(durations) and summary["max"] == max(durations), (summary, durations)
    assert stats["latest"]["completed"]["state_size"] > 0, stats["latest"]


def test_click_count(env):
    kafka = env.kafka()
    cluster = env.cluster(1, slots=3)
    generator = env.closing(Generator(kafka, env.topic("in"), 6000, EVENTS, partitions=2))
    time.sleep(1)
    job = cluster.run("-p", "2", env.program("ClickCountJob.so"), *job_args(env, kafka))
    cluster.wait_running(job)
    source = cluster.job(job)["vertices"][0]["id"]
    time.sleep(3)
    rate = vertex_metrics(cluster, job, source, "numRecordsOutPerSecond")["numRecordsOutPerSecond"]["sum"]
    assert 3000 < rate < 12000, f"{rate} records a second out of the source; the generator makes 6000"
    generator.wait()
    cluster.wait(lambda: cluster.job(job)["vertices"][2]["metrics"]["read-records"] >= WINDOWS * 6, 20, "the windows")
    time.sleep(2)
    vertices = cluster.job(job)["vertices"]
    check_io(vertices)
    check_times(cluster, job, vertices[:2])
    check_checkpoints(cluster, job)
    wanted = {"buffers.inPoolUsage", "buffers.outPoolUsage",
              "numRecordsIn", "numRecordsOut", "numRecordsInPerSecond", "numRecordsOutPerSecond", "numBytesIn", "numBytesOut",
              "busyTimeMsPerSecond", "idleTimeMsPerSecond", "backPressuredTimeMsPerSecond", "currentInputWatermark",
              "ClickEvent_Counter.numRecordsIn", "ClickEvent_Counter.currentOutputWatermark"}
    missing = wanted - names_of(cluster, job, vertices[1]["id"])
    assert not missing, f"the counter has no {sorted(missing)}"
    assert any(name.endswith("pendingRecords") for name in names_of(cluster, job, source)), sorted(names_of(cluster, job, source))
    overview = cluster.get("/overview")
    assert (overview["taskmanagers"], overview["slots-total"], overview["slots-available"], overview["jobs-running"]) == (1, 3, 1, 1), overview
    assert cluster.get("/taskmanagers")["taskmanagers"][0]["freeSlots"] == 1
    answer = cluster.job(job)
    assert abs(answer["now"] - answer["start-time"] - answer["duration"]) < 50, answer
    offsets = {}
    for partition, offset, _ in kafka.read(env.topic("in")):
        offsets[partition] = max(offsets.get(partition, 0), offset + 1)
    assert sum(offsets.values()) == EVENTS, offsets
    committed = committed_offsets(kafka, "click-event-count", env.topic("in"))
    assert committed == offsets, f"the group has {committed}, the topic ends at {offsets}"
    cluster.flink("cancel", job)
    cluster.wait_state(job, "CANCELED")
